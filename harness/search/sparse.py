"""Exact out-of-core search of sparse vectors: the inner product with every document that shares a term with the query.

Documents are read in blocks. Each block is inverted in memory (postings by term), which takes a small part of the time
of a search, so that nothing but the vectors has to be stored; the sums of a block stay in the processor's cache. For
every query the k best so far are kept, with all that tie with the k-th, and a block gives those that are not below.

A score is the sum of float64 products of float32 weights, which are exact, in the order of the terms. It depends on
nothing but the two vectors: not on blocks, threads or the memory. Large searches use a kernel compiled by numba, where
that is installed; NumPy computes the same digits.

As in an inverted file, a document is found only where its score is above 0: ranking those without a common term by
their ids would say nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.sparse import SparseVectors
from harness.search.exact import Limits
from harness.system.environment import cores
from harness.types import Hits, UserError

ROWS = 1 << 15
"""Most documents per block: their sums take 256 KiB, which fit into the cache of a core."""
WEIGHT_BYTES = 40
"""Memory per weight of a block: the shards that it comes from, the block by document, and by term."""
FIXED_BYTES = 16 << 20
THREADS = 8
COMPILED = 2 * 10**8
"""Number of query terms times documents from which importing numba (about half a second) is worth it."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class _Shares(NamedTuple):
    """How the memory is divided."""

    rows: int
    """Documents per block."""
    weights: int
    """Weights per block."""
    queries: int
    """Queries that are searched together."""


class _Best:
    """The best hits of one query so far."""

    def __init__(self, k: int) -> None:
        self.k, self.floor, self.number = k, 0.0, 0
        self._parts: list[tuple[Ints, Doubles]] = []

    def add(self, rows: Ints, scores: Doubles) -> None:
        """Add hits of a block."""
        if len(rows):
            self._parts.append((rows, scores))
            self.number += len(rows)
            if self.number > 2 * self.k:
                self._cut()

    def _cut(self) -> None:
        """Keep the k best and all that tie with the k-th."""
        rows, scores = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        if len(scores) > self.k:
            self.floor = float(np.partition(scores, -self.k)[-self.k])
            kept = scores >= self.floor
            rows, scores = rows[kept], scores[kept]
        self._parts, self.number = [(rows, scores)], len(rows)

    def hits(self) -> Hits:
        """The hits, best first: score descending, then row ascending."""
        if not self._parts:
            return Hits(np.empty(0, np.int64), np.empty(0))
        self._cut()
        [(rows, scores)] = self._parts
        order = np.lexsort((rows, -scores))
        return Hits(rows[order], scores[order])


def search_sparse(
    queries: Any,
    documents: SparseVectors,
    k: int,
    *,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> Iterator[Hits]:
    """Find the k documents with the largest inner product, and all further ones that tie with the k-th, best first.

    Args:
        queries: CSR array float32 [q, dim], terms rising in every row.
        documents: n rows of the same dimension, read once per group of queries that fits into memory.
        k: number of documents.
        limits: memory to use; the result does not depend on it.

    Yields:
        Hits with scores q.x above 0, float64.

    Raises:
        UserError: the memory is too small.
    """
    shares = _shares(limits.memory, min(k, len(documents)) or 1, documents.dim)
    score = _implementation(queries.nnz * len(documents))
    for start in range(0, queries.shape[0], shares.queries):
        yield from _group(queries[start : start + shares.queries], documents, k, shares, score)


def _shares(memory: int, k: int, dim: int) -> _Shares:
    table, row, query = 8 * dim, 8 + THREADS * 40, 64 * k
    free = memory - FIXED_BYTES - 2 * table
    if free < 4 * (query + row + WEIGHT_BYTES * min(dim, 1 << 12)):
        least = FIXED_BYTES + 2 * table + 4 * (query + row + WEIGHT_BYTES * min(dim, 1 << 12))
        raise UserError(
            f"{memory:,} bytes are too little to search {dim:,} terms for {k} documents a query; "
            f"allow more: --memory {-(-least // 10**6)}MB."
        )
    rows = min(ROWS, free // 4 // row)
    return _Shares(rows, free // 4 // WEIGHT_BYTES, max(1, free // 2 // query))


def _group(
    queries: Any, documents: SparseVectors, k: int, shares: _Shares, score: Callable[..., int]
) -> Iterator[Hits]:
    """`search_sparse` for the queries of one group."""
    best = [_Best(k) for _ in range(queries.shape[0])]
    edges = queries.indptr.tolist()
    threads = 1 if score is score_with_numpy else max(1, min(cores(), THREADS, len(best)))
    row = 0
    with ThreadPoolExecutor(threads, "sparse-search") as pool:
        for block in documents.blocks(shares.rows, shares.weights):
            postings, first = block.tocsc(), row

            def work(part: range, postings: Any = postings, first: int = first) -> None:
                size = postings.shape[0]
                sums, rows, scores = np.zeros(size), np.empty(size, np.int64), np.empty(size)
                inverted = postings.indptr, postings.indices, postings.data
                for query in part:
                    own, held = slice(edges[query], edges[query + 1]), best[query]
                    given = queries.indices[own], queries.data[own]
                    found = score(*inverted, *given, sums, held.floor, rows, scores)
                    held.add(rows[:found] + first, scores[:found].copy())

            list(pool.map(work, (range(start, len(best), 4 * threads) for start in range(4 * threads))))
            row += block.shape[0]
    for held in best:
        yield held.hits()


def _implementation(size: int) -> Callable[..., int]:
    """The compiled kernel where it is worth it, else NumPy: both give the same digits."""
    if "numba" in sys.modules or (size >= COMPILED and importlib.util.find_spec("numba")):
        from harness.search.sparse_kernel import score

        return score
    return score_with_numpy


def score_with_numpy(
    starts: NDArray[Any],
    documents: NDArray[Any],
    weights: NDArray[np.float32],
    terms: NDArray[Any],
    factors: NDArray[np.float32],
    sums: Doubles,
    floor: float,
    rows: Ints,
    scores: Doubles,
) -> int:
    """The same as the compiled kernel (`harness.search.sparse_kernel`), to the last digit."""
    for term, factor in zip(terms.tolist(), factors.astype(np.float64).tolist(), strict=True):
        own = slice(starts[term], starts[term + 1])
        sums[documents[own]] += factor * weights[own].astype(np.float64)
    found = np.flatnonzero((sums > 0) & (sums >= floor))
    rows[: len(found)], scores[: len(found)] = found, sums[found]
    sums[:] = 0
    return len(found)
