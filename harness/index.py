"""Exact search out of core: a quick product proposes, float64 disposes.

Documents stream by in blocks. For every query, |x|^2 - 2 q.x (the squared distance without the query's own constant) is
one matrix product (`harness.product`), and a document stays a candidate while it is not certain that k others are
nearer: "certain" by a bound on that product's error, so nothing is lost to rounding. What remains is compared again in
float64, from the vectors themselves. The ranking is that of float64 brute force, whatever the blocks, threads or BLAS.

Both sides are moved by the corpus mean first. Distances do not change, but on anisotropic vectors the error bound, and
with it the number of candidates, shrinks a hundredfold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.candidates import Pool
from harness.product import make_product
from harness.spec import Hits, Similarity, UserError
from harness.vectors import BLOCK_ROWS, Vectors

MEMORY = 2 * 10**9
"""Bytes that a search may take by default."""
TILE_BYTES = 32 << 20
"""Of distances at a time: few enough to be looked at while the cache still holds them."""
TILE_ROWS = 16_384
PAIRS = 512
"""Pairs of query and document compared in float64 at a time, for the same reason."""

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
        queries: float32 [q, d], of unit length already where the similarity is cosine.
        documents: n vectors of d dimensions, read once per group of queries that fits into memory.
        centre: float64 [d], a point near the documents: their mean.
        k: how many; more than n gives all n.
        similarity: cosine is Euclidean search over unit vectors; dot ranks by inner product.
        limits: what it may use; the result does not depend on them.

    Yields:
        Hits with scores -|q - x| (Euclidean, cosine) or q.x (dot), float64.

    Raises UserError where the memory is too little for even one query.
    """
    wanted = min(k, len(documents))
    shares = _shares(limits.memory, wanted, queries.shape[1], len(queries))
    for start in range(0, len(queries), shares.group):
        asked = queries[start : start + shares.group]
        middle = centre.astype(np.float32)  # any point will do, if both sides are moved by the same
        found = _propose(asked, documents, middle, wanted, similarity, shares, limits)
        yield from _dispose(asked, documents, found, wanted, similarity, shares.pairs)


class _Shares(NamedTuple):
    """What fits into the memory together."""

    rows: int
    """Documents of a block, of which two are held."""
    group: int
    """Queries searched at once."""
    tile: int
    """Distances of a tile."""
    pairs: int
    """Pairs compared in float64 at once."""


def _shares(memory: int, k: int, dim: int, queries: int) -> _Shares:
    tile = min(TILE_BYTES, memory // 8)
    pairs = max(1, min(PAIRS, memory // (16 * 24 * dim)))
    rows = min(BLOCK_ROWS, (memory // 2 - 2 * tile) // (10 * dim))  # beside a tile and what is near in it
    each = _bytes_per_query(k, dim)
    group = (memory - 2 * tile - 10 * dim * max(rows, 1) - 24 * dim * pairs) // each
    if rows < 1 or group < 1:
        least = max(4 * each, 64 * dim, 1 << 20)
        raise UserError(
            f"{memory:,} bytes are too little to search {dim} dimensions for {k} documents a query; "
            f"allow more: --memory {-(-least // 10**6)}MB."
        )
    return _Shares(rows, min(group, max(queries, 1)), tile // 4, pairs)


def _bytes_per_query(k: int, dim: int) -> int:
    """A query, moved and in float64; its pool; its candidates' rows, places, scores and order."""
    return 24 * dim + Pool.bytes_per_query(k) + 64 * k


def most_memory(documents: int, queries: int, dim: int, k: int) -> int:
    """Bytes that a search takes where its limit allows them."""
    blocks = 10 * dim * min(BLOCK_ROWS, documents)
    return blocks + 2 * TILE_BYTES + 24 * dim * PAIRS + queries * _bytes_per_query(min(k, documents), dim)


def _propose(
    queries: Floats, documents: Vectors, middle: Floats, k: int, similarity: Similarity, shares: _Shares, limits: Limits
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates: query places [m] in rising order and document rows [m]; every true neighbour is among them."""
    dot = similarity == "dot"
    # Inner products are ranked by q.(x - middle) = q.x - a constant of the query: only documents are moved.
    asked = queries if dot else queries - middle
    step = max(1, min(TILE_ROWS, shares.tile // max(len(queries), 1)))
    sizes = {"step": step, "documents": len(documents), "memory": limits.memory}
    product = make_product(asked, dot=dot, device=limits.device, **sizes)
    pool, at = Pool(len(queries), k), 0
    for block in documents.blocks(shares.rows):
        for start in range(0, len(block), step):
            moved = block[start : start + step]
            moved -= middle
            tile, error = product(moved)
            pool.add(tile, at, error)
            at += len(moved)
    return pool.candidates()


def _dispose(
    queries: Floats,
    documents: Vectors,
    candidates: tuple[NDArray[np.int64], NDArray[np.int64]],
    k: int,
    similarity: Similarity,
    most: int,
) -> Iterator[Hits]:
    """The candidates in float64, cut after the k-th and all that tie with it."""
    places, rows = candidates
    wide = queries.astype(np.float64)
    scores = np.empty(len(rows), np.float64)
    # Each pair is summed by itself, alike wherever it stands, so equal vectors get equal scores.
    for pairs, vectors in documents.pieces(rows, most):
        if similarity == "dot":
            scores[pairs] = np.einsum("ij,ij->i", wide[places[pairs]], vectors.astype(np.float64))
        else:
            apart = wide[places[pairs]]
            apart -= vectors
            scores[pairs] = -np.sqrt(np.einsum("ij,ij->i", apart, apart))
    edges = np.searchsorted(places, np.arange(len(queries) + 1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        order = np.lexsort((rows[start:stop], -scores[start:stop]))
        falling = scores[start:stop][order]
        kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
        yield Hits(rows[start:stop][order[:kept]], falling[:kept])
