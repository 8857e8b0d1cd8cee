"""Late interaction: folders and hub models that sentence-transformers' `MultiVectorEncoder` runs (ColBERT and others).

Query expansion, prompts, prefix tokens and the list of skipped words are the library's. Folders of PyLate and of
ColBERT's own code run as far as the library loads them; their code is never run.

PyLate reads texts without white space at their ends, and where a word to skip is not in the vocabulary, it skips the
unknown token. sentence-transformers does neither, and it is done here for the folders that PyLate wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import Role, Similarity, TokenVectors, UserError
from harness.types import Options
from harness_plugins.model_folder.files import pools
from harness_plugins.model_folder.kind import kind_of
from harness_plugins.model_folder.load import load_errors, load_model, require_vocabulary
from harness_plugins.sentence_transformers import checkpoint, folder_kinds, prompts
from harness_plugins.sentence_transformers.limits import finite, limit_length, limit_of, narrow_layers

IMPLEMENTATION = "MultiVectorEncoder.encode of batches, bf16/fp16 linear layers below the head; 1"
"""Part of the fingerprint, so that vectors of different forward passes never share a key."""
PYLATE, AS_PYLATE = "ColBERT", "stripped texts, unknown words skipped; 1"
"""The model_type of a folder that PyLate wrote, and the part of its fingerprint that says how it is read."""
TEXTS = 32
"""Texts in a batch."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors."""
    found = folder_kinds.fingerprint(options, "multi-vector encoder", IMPLEMENTATION)
    return found | ({"pylate": AS_PYLATE} if kind_of(Path(str(options["path"])))[1] == PYLATE else {})


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
        if pylate := kind_of(folder)[1] == PYLATE:
            _skip_unknown(model)
        dtype = checkpoint.resolve_dtype(str(options["dtype"]), str(options["device"]))
        return TokenVectorEncoder(model, dtype, prompts.chosen(options, folder), strip=pylate)


def _skip_unknown(model: Any) -> None:
    """Skip the unknown token if a word to skip is not in the vocabulary."""
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    words, unknown = model.tokenizer, model.tokenizer.unk_token
    for module in model.modules():
        if isinstance(module, MultiVectorMask) and unknown is not None:
            ids = words.convert_tokens_to_ids(module.skiplist_words)
            if words.unk_token_id in ids and unknown not in module.skiplist_words:
                module.skiplist_words = [*module.skiplist_words, unknown]
                module.resolve_with_tokenizer(words)


class TokenVectorEncoder:
    """`MultiVectorModel` of a `MultiVectorEncoder`."""

    def __init__(self, model: Any, dtype: str, given: Mapping[str, str | None], *, strip: bool = False) -> None:
        """``strip``: whether white space at the ends of a text is not read."""
        import torch
        from sentence_transformers.base.modules import Transformer

        if getattr(model[0], "transformer_task", "") == "retrieval":
            raise UserError(
                "This model reads images as documents and every text as a query; texts cannot be ranked by it."
            )
        self.model, self.dtype, self.strip = model, getattr(torch, dtype), strip
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
        texts = [text.strip() for text in texts] if self.strip else texts
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
