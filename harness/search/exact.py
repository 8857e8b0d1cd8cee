"""Exact out-of-core search: generate candidates in low precision, rescore them in float64.

Documents are read in blocks. For every query, |x|^2 - 2 q.x (the squared distance up to a constant of the query) is one
matrix product (`harness.search.matmul`). A document is a candidate unless k others are certainly nearer, given the
error bound of that product. The candidates are rescored in float64 from the vectors, so the ranking is that of float64
brute force and does not depend on blocks, threads or the BLAS library. Candidate generation is parallel over queries,
rescoring over documents.

Queries and documents are centred on the corpus mean first. This does not change distances, but on anisotropic vectors
it reduces the error bound, and with it the number of candidates, by a factor of 100. If squares would exceed the range
of float32, both sides are scaled by a power of two, which does not change the order.

Cosine is searched as the distance of unit vectors, sqrt(2 - 2 cos). The cosine of a zero vector with any vector is
defined as 0, a distance of sqrt(2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import BLOCK_ROWS, Vectors
from harness.search.matmul import make_product
from harness.search.tiles import Tile
from harness.search.topk import Candidates
from harness.system.environment import cores
from harness.types import Hits, Similarity, UserError

MEMORY = 2 * 10**9
"""Default memory limit of a search in bytes."""
TILE_BYTES = 32 << 20
"""Size of a tile of distances; it is thresholded while in the CPU cache."""
TILE_ROWS = 16_384
PAIRS = 1024
"""Pairs of query and document that all threads together rescore at a time, for the same reason."""
THREADS = 8
PARTS = 4
"""Document ranges per thread in rescoring, as some have more candidates than others."""
ORDINARY, LARGE, MOST = 40, 50, 100
"""Binary exponents: largest one of numbers whose sums of squares are in float32's range; target of scaling if a few
numbers are far larger than the rest, whose squares must not underflow; largest one of a scale."""
SAMPLE_ROWS = 256
"""Documents from which the order of magnitude is estimated."""
RIGHT_ANGLE = math.sqrt(2)
"""Distance of orthogonal unit vectors."""
THREAD_BYTES = 1 << 28
"""Minimum memory budget per additional thread."""

Floats = NDArray[np.float32]


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
    shares = _shares(limits.memory, wanted, queries.shape[1], len(queries))
    directed = np.asarray(queries.any(axis=1) | (similarity != "cosine"))
    for start in range(0, len(queries), shares.group):
        group = slice(start, start + shares.group)
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
    del sample
    try:
        found = _candidates(queries, documents, middle, k, similarity, shares, limits, scale)
    except OverflowError:
        longest = max(map(_largest, documents.blocks(shares.rows)))
        scale = _scale(max(longest, _largest(queries)), at_most=LARGE)
        found = _candidates(queries, documents, middle, k, similarity, shares, limits, scale)
    return _rescore(queries, documents, found, k, similarity, shares)


def _largest(values: Floats) -> float:
    """The largest absolute value, without a copy."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def _scale(largest: float, *, at_most: int = 0) -> float:
    """The power of two that scales ``largest`` to 2^at_most; 1 if no scaling is needed."""
    exponent = int(np.frexp(largest)[1])
    return 1.0 if abs(exponent) < ORDINARY and not at_most else 2.0 ** min(at_most - exponent, MOST)


class _Shares(NamedTuple):
    """How the memory is divided."""

    rows: int
    """Documents per block; two blocks are in memory."""
    group: int
    """Queries per group."""
    tile: int
    """Distances per tile."""
    pairs: int
    """Pairs that a thread rescores at a time."""
    threads: int
    """Threads that threshold tiles and rescore pairs."""


def _shares(memory: int, k: int, dim: int, queries: int) -> _Shares:
    tile = min(TILE_BYTES, memory // 8)
    threads = max(1, min(cores(), THREADS, memory // THREAD_BYTES))
    pairs = max(1, min(PAIRS, memory // (16 * 24 * dim)) // threads)
    rows = min(BLOCK_ROWS, (memory // 2 - 2 * tile) // (10 * dim))  # beside a tile and its matches
    each = _bytes_per_query(k, dim)
    group = (memory - 2 * tile - 10 * dim * max(rows, 1) - 24 * dim * pairs * threads) // each
    if rows < 1 or group < 1:
        least = max(4 * each, 64 * dim, 1 << 20)
        raise UserError(
            f"{memory:,} bytes are too little to search {dim} dimensions for {k} documents a query; "
            f"allow more: --memory {-(-least // 10**6)}MB."
        )
    return _Shares(rows, min(group, max(queries, 1)), tile // 4, pairs, threads)


def _bytes_per_query(k: int, dim: int) -> int:
    """Memory of a query: copies in float32 and float64, and the rows, scores and order of its candidates."""
    return 24 * dim + Candidates.bytes_per_query(k) + 64 * k


def most_memory(documents: int, queries: int, dim: int, k: int) -> int:
    """Bytes that a search takes without a memory limit."""
    blocks = 10 * dim * min(BLOCK_ROWS, documents)
    return blocks + 2 * TILE_BYTES + 24 * dim * PAIRS + queries * _bytes_per_query(min(k, documents), dim)


def _candidates(
    queries: Floats,
    documents: Vectors,
    middle: Floats,
    k: int,
    similarity: Similarity,
    shares: _Shares,
    limits: Limits,
    scale: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Generate the candidates: query indices [m] in ascending order and document rows [m].

    Every true neighbour is among them.

    Raises:
        OverflowError: squared distances exceed the range of float32 in spite of the scale.
    """
    dot, factor = similarity == "dot", np.float32(scale)
    centre = middle * factor
    # Inner products are ranked by q.(x - middle) = q.x - a constant of the query: only documents are centred.
    scaled = queries if scale == 1 else queries * factor
    scaled = scaled if dot else scaled - centre
    step = max(1, min(TILE_ROWS, shares.tile // max(len(queries), 1)))
    sizes = {"step": step, "documents": len(documents), "memory": limits.memory}
    zero = -centre if similarity == "cosine" else None
    product = make_product(scaled, dot=dot, zero=zero, device=limits.device, **sizes)
    edges = np.linspace(0, len(queries), (shares.threads if limits.device == "cpu" else 1) + 1).astype(int).tolist()
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    pools = [Candidates(part.stop - part.start, k) for part in parts]

    def add(tile: Tile, row: int, error: NDArray[np.float64]) -> None:
        """Each thread adds the values of its own queries."""
        list(threads.map(lambda part, pool: pool.add(tile.queries(part), row, error[part]), parts, pools))

    row = 0
    with ThreadPoolExecutor(len(parts), "search") as threads:
        for block in documents.blocks(shares.rows):
            for start in range(0, len(block), step):
                centred = block[start : start + step]
                if scale != 1:
                    centred *= factor
                centred -= centre
                tile, error = product(centred)
                add(tile, row, error)
                row += len(centred)
    found = [pool.result() for pool in pools]
    places = [own + part.start for part, (own, _) in zip(parts, found, strict=True)]
    return np.concatenate(places), np.concatenate([rows for _, rows in found])


def _rescore(
    queries: Floats,
    documents: Vectors,
    candidates: tuple[NDArray[np.int64], NDArray[np.int64]],
    k: int,
    similarity: Similarity,
    shares: _Shares,
) -> Iterator[Hits]:
    """Rescore the candidates in float64 and cut them after the k-th and all that tie with it."""
    places, rows = candidates
    wide = queries.astype(np.float64)
    scores = np.empty(len(rows), np.float64)

    def rescore(first: int, end: int) -> None:
        """Rescore the candidates in a range of documents. Each pair is summed separately: equal vectors score equal."""
        mine = np.flatnonzero((rows >= first) & (rows < end))
        for pairs, vectors in documents.pieces(rows[mine], shares.pairs):
            at = mine[pairs]
            left = wide.take(places[at], axis=0)
            if similarity == "dot":
                scores[at] = np.einsum("ij,ij->i", left, vectors.astype(np.float64))
            else:
                left -= vectors
                distances = np.sqrt(np.einsum("ij,ij->i", left, left))
                if similarity == "cosine":
                    distances[~vectors.any(axis=1)] = RIGHT_ANGLE
                scores[at] = -distances

    parts = 1 if shares.threads == 1 else PARTS * shares.threads
    limits = np.linspace(0, len(documents), parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(shares.threads, "rescore") as threads:
        list(threads.map(rescore, limits[:-1], limits[1:]))
    edges = np.searchsorted(places, np.arange(len(queries) + 1))
    for start, stop in pairwise(edges.tolist()):
        order = _order(scores[start:stop], rows[start:stop])
        falling = scores[start:stop][order]
        kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
        yield Hits(rows[start:stop][order[:kept]], falling[:kept])


def _order(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Score descending, then row ascending."""
    order = np.argsort(-scores)  # not stable, but several times as fast
    ties = np.diff(scores[order]) == 0
    return np.lexsort((rows, -scores)) if ties.any() else order
