"""Late interaction: folders and hub models that sentence-transformers' `MultiVectorEncoder` runs (ColBERT and others).

Query expansion, prompts, prefix tokens and the list of skipped words are the library's. Folders of PyLate and of
ColBERT's own code run as far as the library loads them; their code is never run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness import Role, Similarity, TokenVectors, UserError
from harness.types import Options
from harness_plugins.model_folder.files import pools
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.sentence_transformers import checkpoint, folder_kinds, prompts
from harness_plugins.sentence_transformers.limits import finite, limit_length, limit_of, narrow_layers

IMPLEMENTATION = "MultiVectorEncoder.encode of batches, bf16/fp16 linear layers below the head; 1"
"""Part of the fingerprint, so that vectors of different forward passes never share a key."""
TEXTS = 32
"""Texts in a batch."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors."""
    return folder_kinds.fingerprint(options, "multi-vector encoder", IMPLEMENTATION)


def load(options: Options) -> TokenVectorEncoder:
    """Load the folder."""
    from sentence_transformers import MultiVectorEncoder

    folder = folder_kinds.folder_of(options, "multi-vector encoder")
    plain = not (folder / "modules.json").is_file()
    with load_errors(folder):
        device = checkpoint.resolve_device(str(options["device"]))
        model = load_model(MultiVectorEncoder, folder, device, unused="pooler" if plain or not pools(folder) else "")
        require_vocabulary(model, folder)
        if length := int(options["max_seq_length"] or 0):
            limit_length(model, folder, length)
            first: Any = model[0]
            if getattr(first, "document_length", None) is not None:
                first.document_length = length
        dtype = checkpoint.resolve_dtype(str(options["dtype"]), str(options["device"]))
        return TokenVectorEncoder(model, dtype, prompts.chosen(options, folder))


class TokenVectorEncoder:
    """`MultiVectorModel` of a `MultiVectorEncoder`."""

    def __init__(self, model: Any, dtype: str, given: Mapping[str, str | None]) -> None:
        import torch
        from sentence_transformers.base.modules import Transformer

        if getattr(model[0], "transformer_task", "") == "retrieval":
            raise UserError(
                "This model reads images as documents and every text as a query; texts cannot be ranked by it."
            )
        self.model, self.dtype = model, getattr(torch, dtype)
        self.similarity: Similarity = model.similarity_fn_name
        stated = {role: given.get(role) for role in ("query", "document")}
        self.prompts = {
            role: prompts.default_prompt(model, role) if own is None else own for role, own in stated.items()
        }
        for module in model.modules():
            if isinstance(module, Transformer):
                narrow_layers(module.model, self.dtype)
        self.dim = int(self._encoded(["a"], "document")[0].shape[1])

    def encode(self, texts: Sequence[str], *, role: Role) -> TokenVectors:
        """The vectors of the tokens that are compared."""
        found = TokenVectors.of(self._encoded(texts, role), self._truncated(texts, role))
        finite(found.vectors, self.dtype, "vectors")
        return found

    def _encoded(self, texts: Sequence[str], role: Role) -> list[Any]:
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        made = encode(
            list(texts), prompt=self.prompts[role], batch_size=TEXTS, show_progress_bar=False, convert_to_numpy=True
        )
        return [np.asarray(each, np.float32) for each in made]

    def _truncated(self, texts: Sequence[str], role: Role) -> list[bool] | None:
        """Whether the tokens of a text are more than the model reads; None where its texts are not plain ones."""
        from sentence_transformers.base.modules import Transformer

        first = self.model[0]
        if type(first) is not Transformer or "message" in first.modality_config or first.tokenizer is None:
            return None
        if (limit := _limit(first, role)) is None:
            return [False] * len(texts)
        tokens = first.tokenizer([self.prompts[role] + text for text in texts], truncation=False, verbose=False)
        return [len(ids) > limit for ids in tokens["input_ids"]]


def _limit(transformer: Any, role: Role) -> int | None:
    """Tokens that the first module reads of a text; None for no limit."""
    own = transformer.query_length if role == "query" else transformer.document_length
    expansion = transformer.query_expansion if role == "query" else None
    if expansion is not None and expansion["strategy"] == "fixed":
        return int(expansion["length"])
    if own is not None:
        return int(max(own, expansion["length"]) if expansion is not None else own)
    return limit_of(transformer.max_seq_length)
