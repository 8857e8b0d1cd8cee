"""Reranks another model's top hits with a cross-encoder: a local sequence-classification folder with one score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, Reranker, Scored, UserError, hookimpl
from harness.embeddings.encode import batches
from harness.storage.safe_load import read_json
from harness.types import ModelError, Options
from harness_plugins.model_folder.files import files_of, hashes_of, root_files, sizes
from harness_plugins.model_folder.kind import require_cross_encoder
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.model_folder.modules import Module, modules
from harness_plugins.model_folder.verify import require_valid
from harness_plugins.sentence_transformers.checkpoint import OPTIONS, resolve_device, resolve_dtype
from harness_plugins.sentence_transformers.limits import finite, narrow_layers

if TYPE_CHECKING:
    import torch

IMPLEMENTATION = "logits of padded batches, bf16/fp16 linear layers below the head; 1"
"""Part of the fingerprint, so that scores of different forward passes never share a key."""


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the reranker that runs any folder."""
    yield ModelSpec(
        name="rerank",
        kind="reranker",
        load="harness_plugins.cross_encoder:load",
        fingerprint="harness_plugins.cross_encoder:fingerprint",
        summary="a cross-encoder over another model's best: rerank(bm25):model=path/to/folder",
        options={
            "model": Option(None, "a local folder that CrossEncoder.save_pretrained() wrote"),
            "depth": Option(100, "how many of the member's hits are scored", minimum=1),
            "dtype": replace(OPTIONS["dtype"], choices=("auto", "float32", "bfloat16", "float16")),
            "device": OPTIONS["device"],
            "max_length": Option(0, "tokens kept of query and document together; 0: what the folder says", minimum=0),
        },
        packages=Packages(modules=("torch", "sentence_transformers"), extra="dense"),
        facts=ModelFacts(by_options="harness_plugins.cross_encoder:facts"),
        files=ModelFiles(path_option="model", otherwise=("base_url", "rerank-api")),
    )


def folder_of(options: Options) -> Path:
    """The cross-encoder's folder; UserError when it cannot be run here. Reads only JSON files."""
    folder = Path(str(options["model"])).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give model= the folder of a cross-encoder.")
    require_cross_encoder(folder)
    parts = parts_of(folder)
    try:
        config = read_json(parts[0].place / "config.json")
        kinds, labels = list(config.get("architectures") or ()), len(config.get("id2label") or "..")
    except (OSError, ValueError, AttributeError, TypeError):
        kinds, labels = [], 0
    lacks = (
        "has no config.json of a model" if not kinds
        else f"holds a {kinds[0]}, not a sequence classifier" if not str(kinds[0]).endswith("ForSequenceClassification")
        else f"gives {labels} scores, not one" if labels != 1
        else "has modules after the classifier" if len(parts) != 1
        else f"has a {parts[0].name} for a classifier" if parts[0].name != "Transformer"
        else ""
    )  # fmt: skip
    if lacks:
        raise ModelError(
            f"{folder} is not a cross-encoder that can be run here (it {lacks}); "
            f"give model= a folder that CrossEncoder(...).save_pretrained() wrote."
        )
    require_valid(folder, parts)
    return folder


def parts_of(folder: Path) -> list[Module]:
    """The modules; only the root where sentence-transformers did not write the folder."""
    return modules(folder) if (folder / "modules.json").is_file() else [Module(folder, "Transformer")]


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the scores; hashes files without loading the model."""
    folder = folder_of(options)
    parts = parts_of(folder)
    files = root_files(folder) if parts[0].place == folder else files_of(folder)
    return {
        "files": hashes_of(folder, parts, files),
        "implementation": IMPLEMENTATION,
        "dtype": resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_length": options["max_length"],
        "depth": options["depth"],
    }


def facts(options: Options) -> dict[str, Any]:
    """The `sizes` of the classifier, and the tokens that it reads of a pair."""
    folder = folder_of(options)
    place = parts_of(folder)[0].place
    stated = sizes(folder, [place])
    most = int(options["max_length"] or 0) or stated["max_tokens"] or _longest(place)
    return {name: value for name, value in (stated | {"max_tokens": most}).items() if value}


def _longest(place: Path) -> int:
    """Tokens that the tokenizer keeps of a pair, at most as many as there are positions; 0: not stated."""
    found: list[object] = []
    for name, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        with suppress(OSError, ValueError, AttributeError):
            found.append(read_json(place / name).get(key))
    return min((number for number in found if isinstance(number, int) and number > 0), default=0)


def load(options: Options) -> Reranker:
    """Load the folder."""
    folder = folder_of(options)
    with load_errors(folder):
        return _load(folder, options)


def _load(folder: Path, options: Options) -> LogitReranker:
    import torch
    from sentence_transformers import CrossEncoder

    device, length = resolve_device(str(options["device"])), int(options["max_length"] or 0)
    # Given explicitly so that the folder's own activation is not created; the scores are logits.
    model = load_model(CrossEncoder, folder, device, activation_fn=torch.nn.Identity())
    require_vocabulary(model, folder)
    if model.default_prompt_name:
        raise UserError(f"{folder} puts a prompt before its texts, which is not done here; choose another reranker.")
    most = int(model.max_seq_length or 512)
    if length > most:
        raise UserError(f"{folder} reads {most} tokens at most; give a max_length up to that, or omit it.")
    dtype = resolve_dtype(str(options["dtype"]), str(options["device"]))
    return LogitReranker(model, int(options["depth"] or 0), length or most, getattr(torch, dtype))


class LogitReranker:
    """`Reranker` that scores with logits: a sigmoid would keep the order but saturate at 1.0."""

    def __init__(self, model: Any, depth: int, length: int, dtype: torch.dtype) -> None:
        self.depth, self.length, self.dtype = depth, length, dtype
        self.tokenizer, self.classifier = model.tokenizer, model.model
        narrow_layers(self.classifier, dtype)

    @property
    def token_budget(self) -> int:
        """Tokens per batch: few enough for a CPU's cache, enough to saturate a GPU."""
        return 2048 if self.classifier.device.type == "cpu" else 65_536

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scored:
        """Score in batches of similar length, longest first."""
        queries, documents = [query for query, _ in pairs], [document for _, document in pairs]
        read = self.tokenizer(
            queries, documents, truncation="longest_first", max_length=self.length, return_attention_mask=False
        )
        lengths = [len(ids) for ids in read["input_ids"]]
        scores = np.empty(len(pairs), np.float32)
        for batch in batches(lengths, self.token_budget, 1 << 30):
            scores[batch] = self._logits([{name: read[name][row] for name in read} for row in batch])
        return Scored(finite(scores, self.dtype, "scores"), sum(lengths))

    def _logits(self, batch: list[dict[str, list[int]]]) -> NDArray[np.float32]:
        import torch

        features = self.tokenizer.pad(batch, return_tensors="pt").to(self.classifier.device)
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.classifier(**features).logits[:, 0].float().cpu().numpy()
        return logits
