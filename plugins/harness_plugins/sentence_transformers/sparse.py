"""Learned sparse models: folders and hub models that sentence-transformers' `SparseEncoder` runs (SPLADE and others).

``-m path/to/folder`` and ``-m st:organisation/name`` find out from the folder that it is one. Its queries may be
computed like its documents or looked up in a table of token weights (inference-free models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import ModelFiles, ModelSpec, Option, Role, UserError
from harness.embeddings.formats import SPARSE
from harness.types import ModelError, Options
from harness_plugins.model_folder.files import files_of, hashes_of, pools
from harness_plugins.model_folder.kind import kind_of
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.model_folder.modules import modules
from harness_plugins.model_folder.verify import require_valid
from harness_plugins.sentence_transformers import checkpoint, hub, prompts
from harness_plugins.sentence_transformers.limits import finite, limit_length, limit_of, narrow_layers

IMPLEMENTATION = "SparseEncoder.encode of batches, bf16/fp16 linear layers below the head; 1"
"""Part of the fingerprint, so that weights of different forward passes never share a key."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
LOGITS, LOGITS_ON_GPU, TEXTS = 1 << 25, 1 << 29, 32
"""Logits (tokens times terms) that are computed at a time, at 4 bytes each and in a few copies; texts in a batch."""
CHUNK = 16
"""Tokens whose logits are transformed and pooled at a time, so that they fit into the cache. A maximum does not depend
on it."""
LETTERS = 3
"""Characters of a token, if anything less than there are."""


def of_folder(options: Options) -> ModelSpec | None:
    """The descriptor of a sparse encoder in the folder ``path``, of the hub if a ``name`` is given; None for others."""
    with suppress(ModelError, OSError):
        if kind_of(Path(str(options["path"])))[0] == "sparse encoder":
            return _of_hub() if options.get("name") else _of_checkpoint()
    return None


def _of_checkpoint() -> ModelSpec:
    return _described("checkpoint", "a local sparse encoder", {}, ModelFiles(path_option="path"))


def _of_hub() -> ModelSpec:
    files = ModelFiles(repository="harness_plugins.sentence_transformers.hub:repository", argument="name")
    return _described("st", "a sparse encoder of the hub", {"name": hub.NAME}, files)


def _described(name: str, summary: str, options: Mapping[str, Option], files: ModelFiles) -> ModelSpec:
    shared = {key: option for key, option in checkpoint.OPTIONS.items() if key not in ("forward", "dtype")}
    dtype = Option("auto", checkpoint.OPTIONS["dtype"].help.partition("; int8")[0], choices=DTYPES)
    return ModelSpec(
        name,
        "sparse",
        load=f"{__name__}:load",
        fingerprint=f"{__name__}:fingerprint",
        summary=summary,
        options={**shared, "dtype": dtype, **options},
        packages=checkpoint.PACKAGES,
        files=files,
    )


def folder_of(options: Options) -> Path:
    """The model's folder; UserError when it cannot be run here. Reads only JSON files and file names."""
    folder = Path(str(options["path"]))
    if kind_of(folder)[0] != "sparse encoder":
        raise ModelError(f"{folder} is not a sparse encoder; run it with -m {folder}.")
    if not (folder / "modules.json").is_file():
        raise ModelError(
            f"{folder} has no modules.json; give -m a folder that SparseEncoder(...).save_pretrained() wrote."
        )
    require_valid(folder, modules(folder))
    return folder


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the weights of terms; hashes files without loading the model."""
    folder = folder_of(options)
    return {
        "files": hashes_of(folder, modules(folder), files_of(folder)),
        "implementation": IMPLEMENTATION,
        "dtype": checkpoint.resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_seq_length": options["max_seq_length"],
        **{f"{role}_prompt": prompt for role, prompt in prompts.chosen(options, folder).items()},
    }


def load(options: Options) -> SparseTextEncoder:
    """Load the folder."""
    from sentence_transformers import SparseEncoder

    folder = folder_of(options)
    with load_errors(folder):
        device = checkpoint.resolve_device(str(options["device"]))
        model = load_model(SparseEncoder, folder, device, unused="" if pools(folder) else "pooler")
        require_vocabulary(model, folder)
        limit_length(model, folder, int(options["max_seq_length"] or 0))
        dtype = checkpoint.resolve_dtype(str(options["dtype"]), str(options["device"]))
        return SparseTextEncoder(model, dtype, prompts.chosen(options, folder))


class SparseTextEncoder:
    """`SparseModel` of a `SparseEncoder`."""

    def __init__(self, model: Any, dtype: str, given: Mapping[str, str | None]) -> None:
        import torch
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        if model.similarity_fn_name != "dot":
            raise UserError(
                f"This sparse encoder compares vectors by {model.similarity_fn_name}, and sparse search here by the "
                f"inner product alone; set similarity_fn_name to dot and save it again."
            )
        self.model, self.dtype = model, getattr(torch, dtype)
        stated = {role: given.get(role) for role in ("query", "document")}
        self.prompts = {
            role: prompts.default_prompt(model, role) if own is None else own for role, own in stated.items()
        }
        for module in model.modules():
            if isinstance(module, Transformer):
                narrow_layers(module.model, self.dtype)
            elif isinstance(module, SpladePooling) and module.pooling_strategy == "max":
                module.chunk_size = module.chunk_size or CHUNK
        self.dim = int(self._encoded(["a"], "document").shape[1])  # the modules may state another one until they ran

    def encode(self, texts: Sequence[str], *, role: Role) -> Any:
        """The weights of the terms, scipy.sparse.csr_array float32 [len(texts), dim]."""
        import scipy.sparse

        size = self._batch(texts)
        parts = [self._encoded(texts[start : start + size], role) for start in range(0, len(texts), size)]
        rows = [scipy.sparse.csr_array(finite(part, self.dtype, "vectors")) for part in parts]
        return SPARSE.joined(rows, range(len(texts)), self.dim)

    def _encoded(self, texts: Sequence[str], role: Role) -> Any:
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        made = encode(
            list(texts),
            prompt=self.prompts[role],
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_sparse_tensor=False,
        )
        return made.float().cpu().numpy()

    def _batch(self, texts: Sequence[str]) -> int:
        """Texts per batch, so that their logits fit into memory."""
        limit = None
        with suppress(AttributeError):
            limit = limit_of(self.model.max_seq_length)
        tokens = 8 + max(map(len, texts), default=0) // LETTERS
        budget = LOGITS if self.model.device.type == "cpu" else LOGITS_ON_GPU
        return max(1, min(TEXTS, budget // self.dim // min(tokens, limit or tokens)))
