"""Exact out-of-core search of token vectors by MaxSim.

MaxSim adds up, of every vector of the query, the largest inner product with a vector of the document (``maxsim``), or
takes the mean of these (``meanmaxsim``).

Documents are read in blocks and scored in low precision with an error bound (`harness.search.maxsim_bounds`). Of every
query the documents are kept that may be among the k best, given the bounds. When they are more than the memory allows,
and at the end, those without an exact score get one from the stored vectors, and only the k best stay, with all that
tie with the k-th.

An exact score is the sum, in the order of the query's vectors, of the largest inner product of each, which is summed in
float64 in a fixed order. float32 products with an error bound tell which vectors of a document that may be, so few are
computed. The score depends on nothing but the two texts' vectors: not on blocks, threads, the memory or the device.

A document without vectors is never found, and a query without vectors finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.search.exact import Limits
from harness.search.maxsim_bounds import (
    COLUMNS,
    Asked,
    Scorer,
    compiled,
    largest,
    make_scorer,
    product_errors,
    scale_of,
    scaled,
)
from harness.search.nearest import lengths
from harness.system.blas import limited_pool, single_threaded
from harness.system.environment import cores
from harness.types import Hits, Similarity, UserError

ROWS = 1 << 13
"""Most documents per block."""
TILE, DEVICE_TILE = 1 << 22, 1 << 28
"""Products that a thread, or a device, computes at a time."""
FIXED_BYTES = 96 << 20
"""Memory of the libraries' buffers."""
THREADS = 8
LANES = 64
"""Partial sums of an inner product: sum i holds the dimensions i, i + LANES, ...; they are folded in halves."""
PIECE, DEVICE_PIECE = 1 << 14, 1 << 17
"""Vectors of documents that a thread, or a device, scores at a time."""
EXACT = 2.0**-50
"""Largest relative error of comparing sums of float64 numbers."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Shares(NamedTuple):
    """How the memory is divided."""

    rows: int
    """Documents per block."""
    tokens: int
    """Vectors of documents per block."""
    candidates: int
    """Documents that are kept of all queries of a group before they get exact scores."""
    queries: int
    """Queries of a group."""
    threads: int


class _Found(NamedTuple):
    """Documents of one query that may be among the best."""

    rows: Ints
    values: Doubles
    errors: Doubles
    """0 for an exact score."""

    def best(self, k: int) -> _Found:
        """Those that may be among the k best, or tie with the k-th."""
        if len(self.rows) <= k:
            return self
        least = self.values - self.errors
        floor = float(np.partition(least, -k)[-k])
        return self.only(self.values + self.errors >= floor - EXACT * abs(floor))

    def first(self, k: int) -> Ints:
        """Positions of the k with the largest values, without those whose scores are exact."""
        order = np.argpartition(-self.values, k - 1)[:k] if len(self.rows) > k else np.arange(len(self.rows))
        return order[self.errors[order] > 0]

    def only(self, chosen: NDArray[Any]) -> _Found:
        """Some of them."""
        return _Found(*(each[chosen] for each in self))

    def hits(self, k: int, count: int) -> Hits:
        """The k best and all that tie with the k-th, best first; exact scores, divided by ``count``."""
        scores = self.values / count
        kept = np.ones(len(scores), bool) if len(scores) <= k else scores >= np.partition(scores, -k)[-k]
        rows, scores = self.rows[kept], scores[kept]
        order = np.lexsort((rows, -scores))
        return Hits(rows[order], scores[order])


NOTHING = _Found(np.empty(0, np.int64), np.empty(0), np.empty(0))


def search_multivector(
    queries: TokenVectors,
    documents: MultiVectors,
    k: int,
    similarity: Similarity = "maxsim",
    *,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> Iterator[Hits]:
    """Find the k documents with the largest MaxSim, and all further ones that tie with the k-th, best first.

    Args:
        queries: float32.
        documents: of the same dimension; read once per group of queries that fits into memory, their candidates twice.
        k: number of documents.
        similarity: ``maxsim``, or ``meanmaxsim`` to divide the scores by the number of the query's vectors.
        limits: resources to use; the result does not depend on them.

    Yields:
        Hits with float64 scores.

    Raises:
        UserError: the memory is too small.
    """
    counts = queries.counts
    shares = _shares(limits, min(k, len(documents)) or 1, documents.dim, int(counts.max(initial=1)))
    for start in range(0, len(queries), shares.queries):
        group = queries[start : start + shares.queries]
        own = group.counts
        asked = Asked(np.asarray(group.vectors, np.float32), group.offsets[np.append(own > 0, True)])
        found = iter(_QueryGroup(asked, documents, k, shares, limits.device).search() if len(asked.tokens) else ())
        for count in own.tolist():
            each = next(found) if count else NOTHING
            yield each.hits(k, count if similarity == "meanmaxsim" else 1)


def _shares(limits: Limits, k: int, dim: int, longest: int) -> _Shares:
    threads = max(1, min(cores(), THREADS)) if limits.device == "cpu" else 1
    tile = 4 * TILE + 16 * PIECE * dim if limits.device == "cpu" else 16 * DEVICE_PIECE * dim
    free = limits.memory - FIXED_BYTES
    threads = max(1, min(threads, free // 4 // tile))
    query, token = 12 * dim * longest + 100 * k, 14 * dim
    part = (free - threads * tile) // 3
    if part < max(query, 64 * token):
        least = FIXED_BYTES + tile + 3 * max(query, 64 * token)
        raise UserError(
            f"{limits.memory:,} bytes are too little to search {dim} dimensions for {k} documents a query; "
            f"allow more: --memory {-(-least // 10**6)}MB."
        )
    group = max(1, part // query)
    tokens = part // 2 // token
    return _Shares(max(1, min(ROWS, part // 2 // 40 // group)), tokens, part // 50, group, threads)


class _QueryGroup:
    """The search of some queries, each with vectors."""

    def __init__(self, asked: Asked, documents: MultiVectors, k: int, shares: _Shares, device: str) -> None:
        self.asked, self.documents, self.k, self.shares = asked, documents, k, shares
        self.size = float(len(asked.tokens)) * documents.dim * len(documents)
        self.tile = TILE if device == "cpu" else DEVICE_TILE
        self.scorer = make_scorer(device, asked, self.size)
        self.found = [NOTHING] * (len(asked.starts) - 1)

    def search(self) -> Iterator[_Found]:
        """The k best of each query with all that tie with the k-th, with exact scores."""
        row = 0
        with single_threaded(), limited_pool(self.shares.threads, "maxsim") as pool:
            for block in self.documents.blocks(self.shares.rows, self.shares.tokens):
                self._add(block, row, pool)
                row += len(block)
                if sum(len(each.rows) for each in self.found) > self.shares.candidates:
                    self._rescore(pool)
            self._rescore(pool)
        yield from self.found

    def _add(self, block: TokenVectors, first: int, pool: ThreadPoolExecutor) -> None:
        """Score a block, and keep the documents that may be among the best."""
        [own] = np.nonzero(block.counts)
        if not len(own):
            return
        edges = block.offsets[np.append(block.counts > 0, True)]
        tokens = min(self.tile // min(len(self.asked.tokens), COLUMNS), PIECE if self.tile == TILE else DEVICE_PIECE)
        cuts = np.searchsorted(edges, np.arange(0, edges[-1], max(1, tokens)))
        cuts = np.unique([*cuts, len(own)])
        score = partial(_scores, self.scorer, block.vectors, edges)
        each = list(pool.map(score, cuts[:-1].tolist(), cuts[1:].tolist()))
        values, errors = (np.concatenate(parts, axis=1) for parts in zip(*each, strict=True))

        def merge(query: int) -> None:
            some = _Found(own + first, values[query], errors[query]).best(self.k)
            both = _Found(*(np.concatenate(pair) for pair in zip(self.found[query], some, strict=True)))
            self.found[query] = both.best(self.k)

        list(pool.map(merge, range(len(self.found))))

    def _rescore(self, pool: ThreadPoolExecutor) -> None:
        """Give the documents that were kept exact scores, and keep the best.

        Those with the best values come first: their scores leave few others.
        """
        self._rescore_some(pool, [found.first(self.k) for found in self.found])
        self._rescore_some(pool, [np.flatnonzero(found.errors) for found in self.found])

    def _rescore_some(self, pool: ThreadPoolExecutor, pending: list[Ints]) -> None:
        """Give some of the documents that were kept exact scores, and keep the best."""
        places = np.repeat(np.arange(len(pending)), list(map(len, pending)))
        rows = np.concatenate([found.rows[some] for found, some in zip(self.found, pending, strict=True)])
        scores = _exact(self.asked, self.documents, places, rows, self.shares.threads, pool, self.size)
        edges = np.cumsum([0, *map(len, pending)])
        for query, (found, some) in enumerate(zip(self.found, pending, strict=True)):
            found.values[some], found.errors[some] = scores[edges[query] : edges[query + 1]], 0
            self.found[query] = found.best(self.k)


def _scores(scorer: Scorer, vectors: NDArray[Any], edges: Ints, first: int, last: int) -> Any:
    """The scores of some documents of a block."""
    tokens = np.ascontiguousarray(vectors[edges[first] : edges[last]], np.float32)
    return scorer(tokens, edges[first : last + 1] - edges[first])


def _exact(
    asked: Asked, documents: MultiVectors, places: Ints, rows: Ints, threads: int, pool: ThreadPoolExecutor, size: float
) -> Doubles:
    """Exact scores of pairs of query and document, each of which has vectors; each shard is read once."""
    order = np.lexsort((places, rows))
    unique, starts = np.unique(rows[order], return_index=True)
    edges, scores = np.append(starts, len(rows)), np.empty(len(rows))
    score = _Pairs(asked, fast=compiled(size))

    def work(part: Ints) -> None:
        for at, texts in documents.pieces(unique[part], PIECE):
            score(texts, part[at], edges, order, places, scores)

    list(pool.map(work, np.array_split(np.arange(len(unique)), max(1, min(4 * threads, len(unique) // 16)))))
    return scores


class _Pairs:
    """Exact scores of documents and queries."""

    def __init__(self, asked: Asked, *, fast: bool) -> None:
        self.starts, self.fast = asked.starts, fast
        self.tokens = scaled(asked.tokens, scale_of(asked.tokens))
        self.lengths = lengths(self.tokens)
        self.padded = _padded(asked.tokens)
        self.together = max(1, COLUMNS // int(np.diff(asked.starts).max()))
        """Queries whose products with a document are computed together."""
        self.score: Callable[..., None] = score_with_numpy
        if fast:
            from harness.search.maxsim_kernel import score

            self.score = score

    def __call__(
        self, texts: TokenVectors, numbers: Ints, edges: Ints, order: Ints, places: Ints, scores: Doubles
    ) -> None:
        """Write the scores of the pairs ``order[edges[i]:edges[i + 1]]``, which have text i of ``numbers``.

        Args:
            texts: the vectors of the documents.
            numbers: int64 [len(texts)].
            edges: int64, where the pairs of each document begin.
            order: int64 [m], positions of pairs in ``places`` and ``scores``.
            places: int64, the query of each pair.
            scores: float64, receives the score of each pair.
        """
        vectors = np.ascontiguousarray(texts.vectors, np.float32)
        narrow, padded = scaled(vectors, scale_of(vectors)), _padded(vectors)
        longest, _ = largest(narrow, narrow, fast=self.fast)
        margins = (2.01 * product_errors(self.lengths, longest, vectors.shape[1])).astype(np.float32)
        for text, number in enumerate(numbers.tolist()):
            own = slice(texts.offsets[text], texts.offsets[text + 1])
            for start in range(edges[number], edges[number + 1], self.together):
                pairs = order[start : min(start + self.together, edges[number + 1])]
                columns, ends = self._columns(places[pairs])
                products = narrow[own] @ self.tokens[columns].T
                found = np.empty(len(pairs))
                self.score(products, margins[columns], self.padded[columns], padded[own], ends, found)
                scores[pairs] = found

    def _columns(self, queries: Ints) -> tuple[slice | Ints, Ints]:
        """The vectors of some queries, and where those of each begin among them."""
        first, last = self.starts[queries], self.starts[queries + 1]
        if len(queries) == 1:
            return slice(first[0], last[0]), np.array([0, last[0] - first[0]])
        ends = np.concatenate([[0], np.cumsum(last - first)])
        return np.arange(ends[-1]) + np.repeat(first - ends[:-1], last - first), ends


def score_with_numpy(
    products: Floats, margins: Floats, tokens: Floats, document: Floats, starts: Ints, scores: Doubles
) -> None:
    """The same as the compiled kernel (`harness.search.maxsim_kernel`), to the last digit."""
    columns, rows = np.nonzero((products >= products.max(axis=0) - margins).T)
    sums = tokens[columns].astype(np.float64)
    sums *= document[rows]
    sums = np.add.reduce(sums.reshape(len(sums), -1, LANES), axis=1)
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    best = np.maximum.reduceat(sums[:, 0], np.searchsorted(columns, np.arange(len(tokens))))
    for query, (start, stop) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        scores[query] = np.cumsum(best[start:stop])[-1]  # added one after the other


def _padded(vectors: Floats) -> Floats:
    """The vectors with zeros up to a multiple of `LANES` dimensions."""
    missing = -vectors.shape[1] % LANES
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(vectors)
