"""Any local sentence-transformers folder as a model: ``-m path/to/checkpoint``. Also what `mpnet` and `minilm` load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import ModelSpec, Option, Role, UserError, hookimpl
from harness.atomic import sha256_file
from harness.manifest import multiplies_bfloat16
from harness.spec import Options, Similarity
from plugins.checkpoint_folder import files_of, folder_of

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

IMPLEMENTATION = "sentence-transformers padded batches, bf16/fp16 linear layers under autocast, fp32 pooling; 1"
"""Part of the fingerprint: vectors made by another forward pass must never be mistaken for these."""

OPTIONS: dict[str, Option] = {
    "path": Option(None, "a local sentence-transformers folder"),
    "dtype": Option(
        "auto",
        "of the matrix products; auto: bfloat16 where the processor has it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    ),
    "device": Option("auto", "auto: the first GPU, else the CPU; or cpu, cuda, cuda:1, mps"),
    "max_seq_length": Option(0, "tokens kept of a text; 0: what the folder says", minimum=0),
    "query_prompt": Option(None, "put before every query; unset: what the folder says"),
    "document_prompt": Option(None, "put before every document; unset: what the folder says"),
}
_SIMILARITIES: Mapping[str, Similarity] = {"cosine": "cosine", "dot": "dot", "euclidean": "euclidean"}
_PROBES = ("a", "Two words, a comma.", "ÜBER 東京 🙂 'quoted'  spaces\tand\nlines " * 100)


M = TypeVar("M")


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """The model that stands for any folder."""
    yield ModelSpec(
        name="checkpoint",
        kind="dense",
        load="plugins.checkpoint:load",
        fingerprint="plugins.checkpoint:fingerprint",
        figures="plugins.checkpoint_folder:figures",
        training="plugins.trained:training",
        summary="any local sentence-transformers folder: -m path/to/folder",
        options=OPTIONS,
        requires=("torch", "sentence_transformers", "faiss"),
        extra="dense",
        path_option="path",
    )


def resolve_dtype(dtype: str, device: str) -> str:
    """What ``auto`` means on this machine. Imports torch only to ask the processor."""
    if dtype != "auto":
        return dtype
    if resolve_device(device) == "cpu":
        return "bfloat16" if multiplies_bfloat16() else "float32"
    return "bfloat16"


def resolve_device(device: str) -> str:
    """What ``auto`` means on this machine; without a driver's device file torch need not be asked."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists() and os.name == "posix" and os.uname().sysname == "Linux":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def require_device(device: str) -> None:
    """UserError where torch cannot use the device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise UserError(f"The device {device} cannot be used ({cause}); type device=cpu, or leave it away.") from None


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors; reads and hashes files, loads nothing."""
    folder = folder_of(options)
    return {
        "files": {file.relative_to(folder).as_posix(): sha256_file(file) for file in files_of(folder)},
        "implementation": IMPLEMENTATION,
        "dtype": resolve_dtype(str(options["dtype"]), str(options["device"])),
        "max_seq_length": options["max_seq_length"],
        "query_prompt": options["query_prompt"],
        "document_prompt": options["document_prompt"],
    }


def load(options: Options) -> _Encoder:
    """The folder's model: a `TokenModel` when its first module is a plain text transformer, else a `DenseModel`."""
    folder = folder_of(options)
    with spoilt(folder):
        return _load(folder, options)


@contextmanager
def spoilt(folder: Path) -> Iterator[None]:
    """Tells whatever the libraries raise for a spoilt folder, which has no common class, in one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder} could not be loaded by sentence-transformers ({type(error).__name__}: {cause}); save it again."
        ) from error


def opened(kind: Callable[..., M], folder: Path, device: str) -> M:
    """The folder as a model of one of sentence-transformers' classes: local files, safetensors, and no code of its own.

    UserError where the device cannot be used.
    """
    import torch
    from transformers.utils import logging

    require_device(device)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # float32 is explicit: transformers 5 would otherwise take the dtype written in the folder's config.
    model: Any = kind(
        str(folder),
        device=device,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.eval()  # type: ignore[no-any-return]


def _load(folder: Path, options: Options) -> _Encoder:
    from sentence_transformers import SentenceTransformer

    device, length = resolve_device(str(options["device"])), int(options["max_seq_length"] or 0)
    model = opened(SentenceTransformer, folder, device)
    if length:
        try:
            model.max_seq_length = length
            model.encode("a " * length, show_progress_bar=False)  # fails beyond the positions that the model knows
        except (AttributeError, IndexError, RuntimeError):
            raise UserError(
                f"{folder} cannot be held to {length} tokens; give a smaller max_seq_length, or leave it away."
            ) from None
    prompts = {role: options[f"{role}_prompt"] for role in ("query", "document")}
    dtype = resolve_dtype(str(options["dtype"]), str(options["device"]))
    encoder = TokenEncoder(model, dtype, prompts)
    return encoder if encoder.agrees() else _Encoder(model, dtype, prompts)


class _Encoder:
    """`DenseModel` through SentenceTransformer.encode, for folders of any modules."""

    def __init__(self, model: SentenceTransformer, dtype: str, prompts: Mapping[str, Any]) -> None:
        import torch

        self.model = model
        if model.similarity_fn_name not in _SIMILARITIES:
            raise UserError(
                f"This checkpoint compares vectors by {model.similarity_fn_name}, which exact search here does not do; "
                f"set similarity_fn_name to one of {', '.join(_SIMILARITIES)} and save it again."
            )
        self.similarity: Similarity = _SIMILARITIES[model.similarity_fn_name]
        self.prompts = {role: self._prompt(role, prompts.get(role)) for role in ("query", "document")}
        self.dtype: torch.dtype = getattr(torch, dtype)
        if self.dtype != torch.float32:
            # Linear weights are cast once; LayerNorm, softmax, the residual stream and pooling stay float32
            # (smallest cosine to float32 over SciFact 0.9999; casting everything: 0.9998).
            for module in model[0].modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(self.dtype)

    def _prompt(self, role: str, given: Any) -> str:
        """As encode_query and encode_document choose: an empty prompt of the role's name hides the default prompt."""
        names = ("query",) if role == "query" else ("document", "passage", "corpus")
        name = next((name for name in names if name in self.model.prompts), self.model.default_prompt_name)
        return str(given if given is not None else self.model.prompts.get(name or "") or "")

    @property
    def dim(self) -> int:
        return int(self.model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """float32 [n, dim]."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        with self._precision():
            vectors = encode(list(texts), prompt=self.prompts[role], batch_size=8, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    def _precision(self) -> Any:
        import torch

        return torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32)


class TokenEncoder(_Encoder):
    """`TokenModel`: tokens first, then padded batches of the lengths that the harness groups."""

    @property
    def token_budget(self) -> int:
        """Tokens per batch: what keeps a CPU's cache warm, or a GPU busy."""
        return 1024 if self.model.device.type == "cpu" else 32_768

    def agrees(self) -> bool:
        """Whether tokenising apart gives what the folder's own preprocessing gives (plain text transformers only)."""
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        first = self.model[0]
        pooled = [m for m in self.model if isinstance(m, Pooling)]
        if type(first) is not Transformer or getattr(first.tokenizer, "padding_side", "") != "right":
            return False
        if len(pooled) != 1 or not (pooled[0].include_prompt or not any(self.prompts.values())):
            return False
        roles: tuple[Role, ...] = ("query", "document")
        for role in roles:
            for probe in _PROBES:
                features = self.model.preprocess([probe], prompt=self.prompts[role] or None, task=role)
                if set(features) - {"input_ids", "attention_mask", "token_type_ids", "modality", "prompt_length"}:
                    return False
                if features["input_ids"][0].tolist() != self.tokenize([probe], role=role)[0]:
                    return False
        return True

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        """Token ids per text."""
        ids = self.model.tokenizer(
            [self.prompts[role] + text for text in texts],
            truncation=True,
            max_length=self.model.max_seq_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return ids  # type: ignore[no-any-return]

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """float32 [n, dim] as one batch."""
        return self.encode_tokens(self.tokenize(texts, role=role), role=role)

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        """float32 [n, dim] from one padded batch."""
        import torch

        width, device = max(map(len, tokens)), self.model.device
        ids = np.full((len(tokens), width), self.model.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
        }
        with torch.inference_mode():
            with self._precision():
                features = self.model[0](features)
            features["token_embeddings"] = features["token_embeddings"].float()
            for module in list(self.model)[1:]:
                features = module(features)
            vectors: NDArray[np.float32] = features["sentence_embedding"].float().cpu().numpy()
        return vectors
