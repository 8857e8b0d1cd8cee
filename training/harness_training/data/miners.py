"""Miners: models that retrieve candidate negatives for blocks of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.datasets.corpus import Corpus
from harness.embeddings.store import Vectors
from harness.metrics.ranking import rank
from harness.models.runner import Cost, Prepared
from harness.search.exact import search
from harness.search.lexical import lexical_hits, lexical_index
from harness.search.maxsim import search_multivector
from harness.search.sparse import search_sparse
from harness.storage.atomic import content_key
from harness.types import Hits, Query


class Miner(Protocol):
    """Retrieves candidate negatives."""

    label: str

    def candidates(self, queries: Sequence[Query]) -> Iterator[list[int]]:
        """For each query, the corpus rows of its top documents, best first."""
        ...


def open_miner(model: Prepared, dataset: Dataset, depth: int, home: Path) -> Miner:
    """A miner of the model's top ``depth`` documents; builds its index or vectors if they are missing."""
    return MINERS.get(model.ref.spec.kind, _Dense)(model, dataset, depth, home)


class _Lexical:
    def __init__(self, model: Prepared, dataset: Dataset, depth: int, home: Path) -> None:
        self.label, self._model, self._dataset, self._depth = model.label, model, dataset, depth
        self._index, _ = lexical_index(model, dataset.corpus, home, dataset.label)

    def candidates(self, queries: Sequence[Query]) -> Iterator[list[int]]:
        hits = lexical_hits(self._model, self._index, queries, self._depth + self._dataset.exclude_self)
        return _ranked(self._dataset, queries, hits, self._depth)


class _Dense:
    def __init__(self, model: Prepared, dataset: Dataset, depth: int, home: Path) -> None:
        self.label, self._model, self._dataset, self._depth = model.label, model, dataset, depth
        self._documents = document_vectors(model, dataset.corpus)
        total = np.zeros(self._documents.dim)
        for block in self._documents.blocks():
            total += block.sum(axis=0, dtype=np.float64)
        self._centre = total / len(self._documents)

    def candidates(self, queries: Sequence[Query]) -> Iterator[list[int]]:
        asked, depth = query_vectors(self._model, queries), self._depth + self._dataset.exclude_self
        hits = search(asked, self._documents, self._centre, depth, self._model.similarity)
        return _ranked(self._dataset, queries, hits, self._depth)


class _Sparse:
    def __init__(self, model: Prepared, dataset: Dataset, depth: int, home: Path) -> None:
        self.label, self._model, self._dataset, self._depth = model.label, model, dataset, depth
        corpus = dataset.corpus
        texts = lambda: (document.content for document in corpus.iter())  # noqa: E731
        self._documents = self._vectors(corpus.sha256, texts, len(corpus), "document")[0]

    @property
    def _vectors(self) -> Callable[..., tuple[Any, Cost]]:
        return self._model.sparse_vectors

    def _search(self, asked: Any, depth: int) -> Iterator[Hits]:
        return search_sparse(asked, self._documents, depth)

    def candidates(self, queries: Sequence[Query]) -> Iterator[list[int]]:
        collection = content_key([list(query) for query in queries])
        asked, _ = self._vectors(collection, lambda: (q.text for q in queries), len(queries), "query")
        hits = self._search(asked.whole(), self._depth + self._dataset.exclude_self)
        return _ranked(self._dataset, queries, hits, self._depth)


class _MultiVector(_Sparse):
    @property
    def _vectors(self) -> Callable[..., tuple[Any, Cost]]:
        return self._model.token_vectors

    def _search(self, asked: Any, depth: int) -> Iterator[Hits]:
        return search_multivector(asked, self._documents, depth, self._model.similarity)


MINERS: Mapping[str, Callable[[Prepared, Dataset, int, Path], Miner]] = {
    "lexical": _Lexical,
    "sparse": _Sparse,
    "multivector": _MultiVector,
}
"""Kind of a model -> its miner; `_Dense` for others."""


def document_vectors(model: Prepared, corpus: Corpus) -> Vectors:
    """Vectors of the corpus, computed if they are not stored."""
    return model.vectors(corpus.sha256, lambda: (d.content for d in corpus.iter()), len(corpus), "document")[0]


def query_vectors(model: Prepared, queries: Sequence[Query]) -> NDArray[np.float32]:
    """float32 [len(queries), d], computed if not stored."""
    collection = content_key([list(query) for query in queries])
    vectors, _ = model.vectors(collection, lambda: (q.text for q in queries), len(queries), "query")
    return vectors.gather(np.arange(len(queries)))


def _ranked(dataset: Dataset, queries: Sequence[Query], hits: Iterator[Hits], depth: int) -> Iterator[list[int]]:
    """Rows in ranking order, cut at ``depth``, without the query's own document where that is excluded."""
    for query, (rows, scores) in zip(queries, hits, strict=True):
        ids = dataset.corpus.ids(rows)
        row_of = dict(zip(ids, rows.tolist(), strict=True))
        ranking = rank(query.id, ids, scores, depth, exclude=query.id if dataset.exclude_self else None)
        yield [row_of[doc_id] for doc_id in ranking.doc_ids]


def interleave(lists: Sequence[Sequence[int]]) -> list[int]:
    """Interleave the lists round-robin, without duplicates."""
    return list(dict.fromkeys(row for rank in zip_longest(*lists) for row in rank if row is not None))
