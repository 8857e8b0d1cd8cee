"""Learned sparse models: folders and hub models that sentence-transformers' `SparseEncoder` runs (SPLADE and others).

Queries may be computed like documents or looked up in a table of token weights (inference-free models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness import Role, UserError
from harness.embeddings.formats import SPARSE
from harness.types import Options
from harness_plugins.model_folder.files import pools
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.sentence_transformers import checkpoint, folder_kinds, prompts
from harness_plugins.sentence_transformers.limits import finite, limit_length, limit_of, narrow_layers

IMPLEMENTATION = "SparseEncoder.encode of batches, bf16/fp16 linear layers below the head; 1"
"""Part of the fingerprint, so that weights of different forward passes never share a key."""
LOGITS, LOGITS_ON_GPU, TEXTS = 1 << 25, 1 << 29, 32
"""Logits (tokens times terms) that are computed at a time, at 4 bytes each and in a few copies; texts in a batch."""
CHUNK = 16
"""Tokens whose logits are transformed and pooled at a time, so that they fit into the cache. A maximum does not depend
on it."""
LETTERS = 3
"""Characters of a token, if anything less than there are."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the weights of terms."""
    return folder_kinds.fingerprint(options, "sparse encoder", IMPLEMENTATION)


def load(options: Options) -> SparseTextEncoder:
    """Load the folder."""
    from sentence_transformers import SparseEncoder

    folder = folder_kinds.folder_of(options, "sparse encoder")
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
