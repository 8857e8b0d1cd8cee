"""Exact out-of-core search: the nearest documents in float32 (FAISS), rescored in float64.

Documents are read in blocks, and the nearest ones of every query so far are kept, some more than k. Given the error
bound of the float32 values, k documents are certainly nearer than any beyond a certain value. If that value lies within
the documents kept, those up to it are the candidates; otherwise the query is searched again with more documents kept.
The candidates are rescored in float64 from the vectors (`harness.search.rescore`), so the ranking is that of float64
brute force and does not depend on blocks, threads or the BLAS library. Large searches on processors that multiply
bfloat16 fast find the candidates in bfloat16 (`harness.search.bfloat16`), with the same result.

Queries and documents are centred on the corpus mean first. This does not change distances, but on anisotropic vectors
it reduces the error bound, and with it the number of candidates, by a factor of 100. If squares would exceed the range
of float32, both sides are scaled by a power of two, which does not change the order.

Cosine is searched as the distance of unit vectors, sqrt(2 - 2 cos). The cosine of a zero vector with any vector is
defined as 0, a distance of sqrt(2).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import BLOCK_ROWS, Vectors
from harness.search import bfloat16
from harness.search.nearest import Engine, Nearest, Space, error_bound, lengths, make_engine
from harness.search.rescore import RIGHT_ANGLE, rescore
from harness.system.environment import cores
from harness.types import Hits, Similarity, UserError

MEMORY = 2 * 10**9
"""Default memory limit of a search in bytes."""
BLOCK_BYTES = 100 << 20
"""float32 vectors per block: FAISS sorts the nearest of each block, which large blocks make rarer."""
ONE_BLOCK = 1.75
"""So many times the documents of a block are read as one."""
FIXED_BYTES = 24 << 20
"""Memory of FAISS's own buffers and of the rescoring threads."""
SPARE, SPARE_SHARE, WIDEN = 32, 16, 4
"""Documents kept beyond k: at first SPARE + k / SPARE_SHARE; WIDEN times as many where the cut is not certain."""
ORDINARY, LARGE, MOST = 40, 50, 100
"""Binary exponents: largest one of numbers whose sums of squares are in float32's range; target of scaling if a few
numbers are far larger than the rest, whose squares must not underflow; largest one of a scale."""
FEW = 64
"""Documents selected of a later block beyond 1.25 times the expected number of nearer ones."""
SAMPLE_ROWS = 256
"""Documents from which the order of magnitude is estimated."""
THREADS = 8
THREAD_BYTES = 1 << 28
"""Minimum memory budget per additional thread that rescores."""
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Limits(NamedTuple):
    """Resources that a search may use."""

    memory: int = MEMORY
    """Bytes for buffers and candidates (documents that tie at the cut come on top)."""
    device: str = "cpu"
    """Where products are computed: "cpu" or a torch device such as "cuda"."""

    def rows(self, dim: int) -> int:
        """Documents per block; two blocks take at most half of the memory."""
        return max(1, min(BLOCK_ROWS, self.memory // (16 * dim)))


def search(
    queries: Floats,
    documents: Vectors,
    centre: NDArray[np.float64],
    k: int,
    similarity: Similarity,
    *,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> Iterator[Hits]:
    """Find the k nearest documents of each query, and all further ones that tie with the k-th, best first.

    Args:
        queries: float32 [q, d]; for cosine already of unit length (or zero).
        documents: n vectors of d dimensions, read once per group of queries that fits into memory.
        centre: float64 [d], the mean of the documents (or any point near them).
        k: number of documents; all n if it is greater than n.
        similarity: cosine is Euclidean search over unit vectors; dot ranks by inner product.
        limits: resources to use; the result does not depend on them.

    Yields:
        Hits with scores -|q - x| (Euclidean), -sqrt(2 - 2 cos) (cosine) or q.x (dot), float64.

    Raises:
        UserError: the memory is too small for a single query.
    """
    wanted = min(k, len(documents))
    shares = _shares(limits.memory, wanted, queries.shape[1])
    if len(documents) < ONE_BLOCK * shares.rows:
        shares = shares._replace(rows=max(1, len(documents)))
    directed = np.asarray(queries.any(axis=1) | (similarity != "cosine"))
    step = shares.group(queries.shape[1], wanted, _depth(wanted))
    for start in range(0, len(queries), step):
        group = slice(start, start + step)
        group_queries = queries[group] if directed[group].all() else queries[group][directed[group]]
        found = _group(group_queries, documents, centre, wanted, similarity, shares, limits)
        for has_direction in directed[group].tolist():
            yield next(found) if has_direction else _all_tie(len(documents) if wanted else 0)


def _all_tie(n: int) -> Hits:
    """Hits of a zero query under cosine: all documents, with cosine 0."""
    return Hits(np.arange(n), np.full(n, -RIGHT_ANGLE))


def _group(
    queries: Floats,
    documents: Vectors,
    centre: NDArray[np.float64],
    k: int,
    similarity: Similarity,
    shares: _Shares,
    limits: Limits,
) -> Iterator[Hits]:
    """`search` for the queries of one group, none of which is zero under cosine."""
    middle = centre.astype(np.float32)  # any point is valid if both sides are centred by the same one
    sample = documents.gather(np.arange(min(len(documents), SAMPLE_ROWS)))
    scale = _scale(max(map(_largest, (queries, sample, middle))))
    try:
        found = _candidates(queries, documents, _space(middle, scale, similarity), k, shares, limits)
    except OverflowError:
        longest = max(map(_largest, documents.blocks(shares.rows)))
        scale = _scale(max(longest, _largest(queries)), at_most=LARGE)
        found = _candidates(queries, documents, _space(middle, scale, similarity), k, shares, limits)
    scores = rescore(queries, documents, *found, similarity, shares.threads)
    return _best(len(queries), *found, scores, k)


def _largest(values: Floats) -> float:
    """The largest absolute value, without a copy."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def _scale(largest: float, *, at_most: int = 0) -> float:
    """The power of two that scales ``largest`` to 2^at_most; 1 if no scaling is needed."""
    exponent = int(np.frexp(largest)[1])
    return 1.0 if abs(exponent) < ORDINARY and not at_most else 2.0 ** min(at_most - exponent, MOST)


def _space(middle: Floats, scale: float, similarity: Similarity) -> Space:
    factor = np.float32(scale)
    return Space(factor, middle * factor, similarity)


class _Shares(NamedTuple):
    """How the memory is divided."""

    rows: int
    """Documents per block; two blocks are in memory."""
    queries: int
    """Bytes for the queries of a group and their nearest documents."""
    threads: int
    """Threads that rescore."""

    def group(self, dim: int, k: int, depth: int) -> int:
        """Queries that are searched together if ``depth`` documents are kept of each; at least 1."""
        return max(1, self.queries // _bytes_per_query(dim, k, depth))


def _shares(memory: int, k: int, dim: int) -> _Shares:
    free, row, query = memory - FIXED_BYTES, _bytes_per_row(dim), _bytes_per_query(dim, k, _depth(k))
    if free // 2 < max(row, query):
        least = FIXED_BYTES + 2 * max(row, query)
        raise UserError(
            f"{memory:,} bytes are too little to search {dim} dimensions for {k} documents a query; "
            f"allow more: --memory {-(-least // 10**6)}MB."
        )
    rows = min(_rows(dim), free // 2 // row)
    return _Shares(rows, free - rows * row, max(1, min(cores(), THREADS, memory // THREAD_BYTES)))


def _rows(dim: int) -> int:
    """Documents per block, fewer than 400,000 of few dimensions."""
    return BLOCK_BYTES // (4 * dim + 256)


def _depth(k: int) -> int:
    return k + SPARE + k // SPARE_SHARE


def _bytes_per_row(dim: int) -> int:
    """Memory of a row of the blocks: two blocks, or a larger one, and a copy."""
    return 14 * dim + 12


def _bytes_per_query(dim: int, k: int, depth: int) -> int:
    """Memory of a query: its copies; the nearest so far, those of a block and FAISS's buffer; its candidates."""
    return 12 * dim + 88 * depth + 16 * k


def most_memory(documents: int, queries: int, dim: int, k: int) -> int:
    """Bytes that a search takes without a memory limit."""
    k = min(k, documents)
    return (
        FIXED_BYTES + _bytes_per_row(dim) * min(_rows(dim), documents) + queries * _bytes_per_query(dim, k, _depth(k))
    )


class _Scan:
    """The first pass over all documents for some queries."""

    def __init__(self, documents: Vectors, space: Space, rows: int, engine: Engine) -> None:
        self.documents, self.space, self.rows, self.engine = documents, space, rows, engine
        self.dot = space.similarity == "dot"
        self.zero = -space.centre if space.similarity == "cosine" else None
        """Zero vectors, once centred."""
        self.sorted = False
        """Whether later blocks hold many nearer documents, as where similar ones stand together."""

    def __call__(self, queries: Floats, depth: int) -> tuple[Nearest, NDArray[np.float64]]:
        """The ``depth`` nearest documents of each query, and the error bound [q] of all values.

        Raises:
            OverflowError: squared distances exceed the range of float32 in spite of the scale.
        """
        left = self.space.queries(queries)
        norms, error, found, row = lengths(left), np.zeros(len(left)), None, 0
        for block in self.documents.blocks(self.rows):
            if self.space.factor != 1:
                block *= self.space.factor
            block -= self.space.centre
            with np.errstate(over="ignore"):  # error_bound checks for overflow
                squares = np.einsum("ij,ij->i", block, block)
            marked = self._zero_rows(block, squares)
            squares[marked] += 1
            np.maximum(error, error_bound(norms, squares, block.shape[1] + 1, dot=self.dot), out=error)
            both = (left, block) if not len(marked) else _apart(left, block, marked)
            found, row = self._merged(*both, depth, found, row), row + len(block)
        assert found is not None
        return found, error

    def _merged(self, queries: Floats, block: Floats, depth: int, found: Nearest | None, before: int) -> Nearest:
        """The ``depth`` nearest of the documents of a block and of those found ``before`` it.

        Selecting many takes as long as the products. Of documents in random order a block holds its share of the
        nearest, so a quarter more are selected, and ``depth`` only for queries for which that is not enough.
        """

        def nearest(queries: Floats, many: int) -> Nearest:
            values, rows = self.engine(queries, block, many, dot=self.dot)
            return Nearest(values, rows + before)

        most, few = min(depth, len(block)), FEW + 5 * depth * len(block) // (before + len(block)) // 4
        if found is None:
            return nearest(queries, most)
        if found.values.shape[1] < depth or few >= most or self.sorted:
            return found.merged(nearest(queries, most), depth)
        some = nearest(queries, few)
        both = found.merged(some, depth)
        more = np.flatnonzero(some.values[:, -1] < both.values[:, -1])
        if len(more):
            self.sorted = 4 * len(more) > len(queries)
            again = Nearest(found.values[more], found.rows[more]).merged(nearest(queries[more], most), depth)
            both.values[more], both.rows[more] = again
        return both

    def _zero_rows(self, block: Floats, squares: Floats) -> Ints:
        """Rows of zero vectors, under cosine."""
        if self.zero is None:
            return np.empty(0, np.int64)
        near = np.flatnonzero(np.isclose(squares, np.dot(self.zero, self.zero), rtol=1e-3, atol=1e-30))
        found: Ints = near[(block[near] == self.zero).all(axis=1)]
        return found


def _apart(queries: Floats, block: Floats, marked: Ints) -> tuple[Floats, Floats]:
    """Both sides with one more dimension, in which the marked documents are 1: their squared distances grow by 1."""
    side = np.zeros((len(block), 1), np.float32)
    side[marked] = 1
    return np.pad(queries, ((0, 0), (0, 1))), np.concatenate([block, side], axis=1)


def _candidates(
    queries: Floats, documents: Vectors, space: Space, k: int, shares: _Shares, limits: Limits
) -> tuple[Ints, Ints]:
    """Find the candidates of all queries: query indices [m] in ascending order and document rows [m].

    Every true neighbour, and every document that ties with the k-th, is among them.
    """
    n, depth, pending = len(documents), _depth(k), np.arange(len(queries) if k else 0)
    places, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if len(pending) and limits.device == "cpu" and bfloat16.worthwhile(queries.size * n, limits.memory):
        found = bfloat16.candidates(queries, documents, k, space, shares.rows, limits.memory)
        places, rows, pending = [found.queries], [found.rows], found.left
    scan = _Scan(documents, space, shares.rows, make_engine(limits.device))
    while len(pending):
        depth, uncertain = min(depth, n), []
        step = shares.group(queries.shape[1], k, depth)
        for start in range(0, len(pending), step):
            some = pending[start : start + step]
            nearest, error = scan(queries if len(some) == len(queries) else queries[some], depth)
            limit = np.nextafter((nearest.values[:, k - 1] + 2 * error).astype(np.float32), np.float32(np.inf))
            kept = nearest.values <= limit[:, None]
            certain = ~kept[:, -1] if depth < n else np.ones(len(some), bool)
            kept &= certain[:, None]
            uncertain.append(some[~certain])
            places.append(some[np.nonzero(kept)[0]])
            rows.append(nearest.rows[kept])
        pending, depth = np.concatenate(uncertain), WIDEN * depth
    place = np.concatenate(places)
    order = np.argsort(place, kind="stable")
    return place[order], np.concatenate(rows)[order]


def _best(queries: int, places: Ints, rows: Ints, scores: NDArray[np.float64], k: int) -> Iterator[Hits]:
    """The hits of each query: its candidates, best first, cut after the k-th and all that tie with it."""
    edges = np.searchsorted(places, np.arange(queries + 1))
    for start, stop in pairwise(edges.tolist()):
        order = _order(scores[start:stop], rows[start:stop])
        falling = scores[start:stop][order]
        kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
        yield Hits(rows[start:stop][order[:kept]], falling[:kept])


def _order(scores: NDArray[np.float64], rows: Ints) -> Ints:
    """Score descending, then row ascending."""
    order = np.argsort(-scores)  # not stable, but several times as fast
    ties = np.diff(scores[order]) == 0
    return np.lexsort((rows, -scores)) if ties.any() else order
