"""Exact search out of core: a quick product proposes, float64 disposes.

Documents stream by in blocks. For every query, |x|^2 - 2 q.x (the squared distance without the query's own constant) is
one matrix product (`harness.search.matmul`), and a document stays a candidate while it is not certain that k others are
nearer: "certain" by a bound on that product's error, so nothing is lost to rounding. What remains is compared again in
float64, from the vectors themselves. The ranking is that of float64 brute force, whatever the blocks, threads or BLAS.
Threads collect candidates for queries of their own, then compare them with documents of their own.

Both sides are moved by the corpus mean first. Distances do not change, but on anisotropic vectors the error bound, and
with it the number of candidates, shrinks a hundredfold. Where squares would leave float32's range, both sides are
scaled by a power of two, which changes no order either.

Cosine is searched as the distance of unit vectors, sqrt(2 - 2 cos). A zero vector has cosine 0 with everything, so it
is at the distance sqrt(2) from everything.
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
from harness.search.topk import Pool
from harness.system.environment import cores
from harness.types import Hits, Similarity, UserError

MEMORY = 2 * 10**9
"""Bytes that a search may take by default."""
TILE_BYTES = 32 << 20
"""Of distances at a time: few enough to be looked at while the cache still holds them."""
TILE_ROWS = 16_384
PAIRS = 1024
"""Pairs of query and document that the threads together compare in float64 at a time, for the same reason."""
THREADS = 8
PARTS = 4
"""Of the documents, per thread: some hold more candidates than others."""
ORDINARY, LARGE, MOST = 40, 50, 100
"""Binary orders of magnitude: of numbers whose squares and their sums are within float32's range; of the largest
numbers where some are far larger than others, whose squares should not vanish; of a scale."""
SOME = 256
"""Documents that tell the order of magnitude."""
RIGHT_ANGLE = math.sqrt(2)
"""Distance of unit vectors whose cosine is 0."""
THREAD_BYTES = 1 << 28
"""Memory of a search from which one more thread, with its stack and buffers, is within reason."""

Floats = NDArray[np.float32]


class Limits(NamedTuple):
    """What a search may use."""

    memory: int = MEMORY
    """Bytes that buffers and candidates may take together (documents that tie at the cut come on top)."""
    device: str = "cpu"
    """Where the products are computed: "cpu", or a device of torch's such as "cuda"."""

    def rows(self, dim: int) -> int:
        """Documents of a block, two of which take half of the memory at the most."""
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
    """Per query, its k nearest documents and every further one that ties with the k-th, best first.

    Args:
        queries: float32 [q, d], of unit length already (or zero) where the similarity is cosine.
        documents: n vectors of d dimensions, read once per group of queries that fits into memory.
        centre: float64 [d], a point near the documents: their mean.
        k: how many; more than n gives all n.
        similarity: cosine is Euclidean search over unit vectors; dot ranks by inner product.
        limits: what it may use; the result does not depend on them.

    Yields:
        Hits with scores -|q - x| (Euclidean), -sqrt(2 - 2 cos) (cosine) or q.x (dot), float64.

    Raises UserError where the memory is too little for even one query.
    """
    wanted = min(k, len(documents))
    shares = _shares(limits.memory, wanted, queries.shape[1], len(queries))
    directed = np.asarray(queries.any(axis=1) | (similarity != "cosine"))
    for start in range(0, len(queries), shares.group):
        group = slice(start, start + shares.group)
        asked = queries[group] if directed[group].all() else queries[group][directed[group]]
        found = _group(asked, documents, centre, wanted, similarity, shares, limits)
        for has_direction in directed[group].tolist():
            yield next(found) if has_direction else _all_tie(len(documents) if wanted else 0)


def _all_tie(n: int) -> Hits:
    """What a zero query finds under cosine: every document, at right angles."""
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
    middle = centre.astype(np.float32)  # any point will do, if both sides are moved by the same
    some = documents.gather(np.arange(min(len(documents), SOME)))
    scale = _scale(max(map(_largest, (queries, some, middle))))
    del some
    try:
        found = _propose(queries, documents, middle, k, similarity, shares, limits, scale)
    except OverflowError:
        longest = max(map(_largest, documents.blocks(shares.rows)))
        scale = _scale(max(longest, _largest(queries)), at_most=LARGE)
        found = _propose(queries, documents, middle, k, similarity, shares, limits, scale)
    return _dispose(queries, documents, found, k, similarity, shares)


def _largest(values: Floats) -> float:
    """The largest absolute value, without a copy."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def _scale(largest: float, *, at_most: int = 0) -> float:
    """The power of two that brings numbers up to ``largest`` to 2^at_most; 1 where squares stay well within range."""
    exponent = int(np.frexp(largest)[1])
    return 1.0 if abs(exponent) < ORDINARY and not at_most else 2.0 ** min(at_most - exponent, MOST)


class _Shares(NamedTuple):
    """What fits into the memory together."""

    rows: int
    """Documents of a block, of which two are held."""
    group: int
    """Queries searched at once."""
    tile: int
    """Distances of a tile."""
    pairs: int
    """Pairs that a thread compares in float64 at once."""
    threads: int
    """Which look through tiles, and compare pairs, beside each other."""


def _shares(memory: int, k: int, dim: int, queries: int) -> _Shares:
    tile = min(TILE_BYTES, memory // 8)
    threads = max(1, min(cores(), THREADS, memory // THREAD_BYTES))
    pairs = max(1, min(PAIRS, memory // (16 * 24 * dim)) // threads)
    rows = min(BLOCK_ROWS, (memory // 2 - 2 * tile) // (10 * dim))  # beside a tile and what is near in it
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
    """A query, moved and in float64; its pool; its candidates' rows, places, scores and order."""
    return 24 * dim + Pool.bytes_per_query(k) + 64 * k


def most_memory(documents: int, queries: int, dim: int, k: int) -> int:
    """Bytes that a search takes where its limit allows them."""
    blocks = 10 * dim * min(BLOCK_ROWS, documents)
    return blocks + 2 * TILE_BYTES + 24 * dim * PAIRS + queries * _bytes_per_query(min(k, documents), dim)


def _propose(
    queries: Floats,
    documents: Vectors,
    middle: Floats,
    k: int,
    similarity: Similarity,
    shares: _Shares,
    limits: Limits,
    scale: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates: query places [m] in rising order and document rows [m]; every true neighbour is among them.

    Raises OverflowError where squared distances leave float32's range in spite of the scale.
    """
    dot, factor = similarity == "dot", np.float32(scale)
    centre = middle * factor
    # Inner products are ranked by q.(x - middle) = q.x - a constant of the query: only documents are moved.
    asked = queries if scale == 1 else queries * factor
    asked = asked if dot else asked - centre
    step = max(1, min(TILE_ROWS, shares.tile // max(len(queries), 1)))
    sizes = {"step": step, "documents": len(documents), "memory": limits.memory}
    zero = -centre if similarity == "cosine" else None
    product = make_product(asked, dot=dot, zero=zero, device=limits.device, **sizes)
    edges = np.linspace(0, len(queries), (shares.threads if limits.device == "cpu" else 1) + 1).astype(int).tolist()
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    pools = [Pool(part.stop - part.start, k) for part in parts]

    def look(tile: Tile, at: int, error: NDArray[np.float64]) -> None:
        """Every thread has queries of its own."""
        list(crew.map(lambda part, pool: pool.add(tile.of(part), at, error[part]), parts, pools))

    at = 0
    with ThreadPoolExecutor(len(parts), "search") as crew:
        for block in documents.blocks(shares.rows):
            for start in range(0, len(block), step):
                moved = block[start : start + step]
                if scale != 1:
                    moved *= factor
                moved -= centre
                tile, error = product(moved)
                look(tile, at, error)
                at += len(moved)
    found = [pool.candidates() for pool in pools]
    places = [own + part.start for part, (own, _) in zip(parts, found, strict=True)]
    return np.concatenate(places), np.concatenate([rows for _, rows in found])


def _dispose(
    queries: Floats,
    documents: Vectors,
    candidates: tuple[NDArray[np.int64], NDArray[np.int64]],
    k: int,
    similarity: Similarity,
    shares: _Shares,
) -> Iterator[Hits]:
    """The candidates in float64, cut after the k-th and all that tie with it."""
    places, rows = candidates
    wide = queries.astype(np.float64)
    scores = np.empty(len(rows), np.float64)

    def compare(first: int, end: int) -> None:
        """With these documents; each pair is summed by itself, alike wherever it stands: equal vectors score equal."""
        mine = np.flatnonzero((rows >= first) & (rows < end))
        for pairs, vectors in documents.pieces(rows[mine], shares.pairs):
            at = mine[pairs]
            asked = wide.take(places[at], axis=0)
            if similarity == "dot":
                scores[at] = np.einsum("ij,ij->i", asked, vectors.astype(np.float64))
            else:
                asked -= vectors
                distances = np.sqrt(np.einsum("ij,ij->i", asked, asked))
                if similarity == "cosine":
                    distances[~vectors.any(axis=1)] = RIGHT_ANGLE
                scores[at] = -distances

    parts = 1 if shares.threads == 1 else PARTS * shares.threads
    limits = np.linspace(0, len(documents), parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(shares.threads, "compare") as crew:
        list(crew.map(compare, limits[:-1], limits[1:]))
    edges = np.searchsorted(places, np.arange(len(queries) + 1))
    for start, stop in pairwise(edges.tolist()):
        order = _order(scores[start:stop], rows[start:stop])
        falling = scores[start:stop][order]
        kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
        yield Hits(rows[start:stop][order[:kept]], falling[:kept])


def _order(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Score descending, then row ascending."""
    order = np.argsort(-scores)  # not stable, and several times as fast
    ties = np.diff(scores[order]) == 0
    return np.lexsort((rows, -scores)) if ties.any() else order
