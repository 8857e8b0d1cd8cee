"""Filters that remove false negatives: relevant documents without a judgement.

`PositiveAware` is TopK-PercPos of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831): with s the positive's
similarity to the query, a candidate above s - margin |s| is dropped (above 0.95 s, for a margin of 0.05 and s > 0).
`CrossEncoding` drops a candidate that a cross-encoder scores above the positive's score minus a margin in logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.datasets.corpus import Corpus
from harness.models.runner import Prepared
from harness.storage.atomic import sha256_file
from harness.types import Query
from harness_plugins.cross_encoder import folder_of, parts_of
from harness_plugins.model_folder.files import hashes_of
from harness_plugins.model_folder.load import load_errors, load_model
from harness_plugins.sentence_transformers.checkpoint import resolve_device
from harness_training.data.miners import document_vectors, query_vectors
from harness_training.data.sampling import Passage

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

PAIRS = 32
"""Batch size of the cross-encoder, in pairs."""


class PositiveAware:
    """Filters by a dense model's similarities: inner products for models compared that way, else cosines.

    Models with Euclidean distance use the cosine too, because a margin relative to a negated distance would be larger
    for distant positives.
    """

    name = "positive_aware"

    def __init__(self, model: Prepared, corpus: Corpus, margin: float) -> None:
        self._model, self._margin = model, margin
        self._documents = document_vectors(model, corpus)
        self._queries: dict[str, NDArray[np.float64]] = {}

    def begin(self, queries: Sequence[Query]) -> None:
        """Encode the queries of the next part."""
        vectors = self._scaled(query_vectors(self._model, queries))
        self._queries = {query.id: vector for query, vector in zip(queries, vectors, strict=True)}

    def keep(self, query: Query, positive: Passage, candidates: Sequence[Passage]) -> list[bool]:
        """Whether to keep each candidate for this positive."""
        rows = np.array([positive.row, *(one.row for one in candidates)], np.int64)
        own, *others = (self._scaled(self._documents.gather(rows)) @ self._queries[query.id]).tolist()
        return [score <= own - self._margin * abs(own) for score in others]

    def _scaled(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = vectors.astype(np.float64)
        if self._model.similarity == "dot":
            return wide
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        return wide / np.where(norms > 0, norms, 1.0)


class CrossEncoding:
    """Filters by the logits of a cross-encoder in a local folder, loaded on first use; its code is never run."""

    name = "cross_encoder"

    def __init__(self, folder: Path, margin: float) -> None:
        self.folder, self._margin = folder_of({"model": str(folder)}), margin

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of the files that determine the scores."""
        kinds = {".json", ".safetensors", ".txt", ".model"}
        files = sorted(file for file in self.folder.rglob("*") if file.is_file() and file.suffix in kinds)
        found = {file.relative_to(self.folder).as_posix(): sha256_file(file) for file in files}
        return found | hashes_of(self.folder, parts_of(self.folder), [])

    def begin(self, queries: Sequence[Query]) -> None:
        """Nothing to prepare."""

    def keep(self, query: Query, positive: Passage, candidates: Sequence[Passage]) -> list[bool]:
        """Whether to keep each candidate for this positive."""
        own, *others = self.scores(query.text, [positive.text, *(one.text for one in candidates)])
        return [score <= own - self._margin for score in others]

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """One logit for each text."""
        import torch

        pairs = [(query, text) for text in texts]
        identity = torch.nn.Identity()  # the folder may configure a sigmoid, but the margin is in logits
        logits = self._model.predict(pairs, batch_size=PAIRS, show_progress_bar=False, activation_fn=identity)
        return [float(logit) for logit in logits]

    @cached_property
    def _model(self) -> CrossEncoder:
        import torch
        from sentence_transformers import CrossEncoder

        with load_errors(self.folder):
            model: CrossEncoder = load_model(
                CrossEncoder, self.folder, resolve_device("auto"), activation_fn=torch.nn.Identity()
            )
        return model
