"""The first pass of exact search in bfloat16, for processors that multiply it faster than float32 and large searches.

A value is the squared distance without the square of the query, or -q.x to rank by inner product. For a query q, a
document x, both rounded to q' and x', and their product c, of float32 sums and itself rounded,

    |q.x - c| <= |q - q'| |x| + |q'| |x - x'| + g |q'| |x'| + u |c|

with g = (dim + 8) 2^-24 (N. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1) and u = 2^-8. The
first two differences are computed, not bounded. A document is a candidate while its least possible value is no more
than the k-th smallest of the greatest possible ones: every true neighbour and every tie is among the candidates, which
are rescored in float64. Queries with too many candidates, as where many documents are alike, are left to float32.
"""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import BLOCK_ROWS, Vectors
from harness.search.nearest import Space, error_bound, lengths, longest_lengths
from harness.system.blas import limited_pool
from harness.system.environment import cores, multiplies_bfloat16

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDED = 2.0**-8 * (1 + 2.0**-7)
"""Largest error of rounding a float32 sum to bfloat16, relative to the rounded one."""
LOADED, UNLOADED = 10**10, 2 * 10**11
"""Queries times documents times dimensions that are worth it: with torch loaded, and with torch to be imported."""
ROOM, SPARE = 5, 160
"""Candidates that a query can have, ROOM k + SPARE: they take no more memory than a search in float32."""
TILE, LEAST, MOST = 1 << 21, 64, 8192
"""Products of a thread at a time; documents at a time, at least and at most."""
THREAD_BYTES = 1 << 26
"""Minimum memory limit per thread."""
ROOMY = 1 << 29
"""Least memory limit: torch and the compiler take more than a small one allows."""
SLACK, WIDER = 24, 1 + 2.0**-6
"""Further roundings of a value; how much longer rounded vectors can be, squared."""


class Candidates(NamedTuple):
    """Documents of which the k nearest are certainly some."""

    queries: Ints
    """[m], ascending."""
    rows: Ints
    """[m]."""
    left: Ints
    """Queries that had too many."""


def worthwhile(size: float, memory: int) -> bool:
    """Whether a search of so many queries times documents times dimensions is faster in bfloat16, and may be."""
    least = LOADED if "torch" in sys.modules else UNLOADED
    if size < least or memory < ROOMY or not multiplies_bfloat16():
        return False
    return all(importlib.util.find_spec(name) for name in ("torch", "numba"))


def candidates(queries: Floats, documents: Vectors, k: int, space: Space, rows: int, memory: int) -> Candidates:
    """Find the documents that may be among the k nearest of each query.

    Args:
        queries: float32 [q, d].
        documents: n vectors of d dimensions, read once; n is at least k.
        k: at least 1.
        space: where both are compared.
        rows: documents per block, at most; large blocks gain nothing.
        memory: limit in bytes, which limits the threads.

    Raises:
        OverflowError: squared distances exceed the range of float32 in spite of the scale.
    """
    search, first = _Search(space.queries(queries), k, space), 0
    threads = max(1, min(cores(), memory // THREAD_BYTES))
    with limited_pool(threads, "select") as pool:
        for block in documents.blocks(min(rows, BLOCK_ROWS)):
            search.add(block, first, pool, threads)
            first += len(block)
            if not search.open:
                break
    return search.found()


class _Search:
    """The candidates of all queries so far."""

    def __init__(self, queries: Floats, k: int, space: Space) -> None:
        import torch

        self.torch, self.k, self.space = torch, k, space
        self.dim = queries.shape[1] + 1  # one more for zero vectors
        self.rounded = torch.from_numpy(queries).bfloat16()
        wide = self.rounded.float().numpy()
        self.norms, self.apart, self.lengths = lengths(queries), lengths(queries - wide), lengths(wide)
        most = ROOM * k + SPARE
        self.bounds = np.empty((2, len(queries), most), np.float32)
        self.rows = np.empty((len(queries), most), np.int64)
        self.counts, self.limits = np.zeros(len(queries), np.int64), np.full(len(queries), np.inf, np.float32)

    @property
    def open(self) -> bool:
        """Whether any query has not too many candidates."""
        return bool((self.counts >= 0).any())

    def add(self, block: Floats, first: int, pool: ThreadPoolExecutor, threads: int) -> None:
        """Add the candidates among the documents of a block, of which ``first`` were before."""
        from harness.search.bfloat16_kernel import round_block, select

        torch, space, dot = self.torch, self.space, self.space.similarity == "dot"
        bits, (squares, apart) = np.empty(block.shape, np.uint16), np.empty((2, len(block)), np.float32)

        def rounding(part: slice) -> None:
            unit = space.similarity == "cosine"
            round_block(block[part], space.factor, space.centre, unit, bits[part], squares[part], apart[part])

        list(pool.map(rounding, _parts(len(block), threads)))
        sizes, farthest = _above(longest_lengths(squares, self.dim)), float(longest_lengths(apart, self.dim).max())
        more = WIDER * error_bound(self.norms, squares, self.dim + SLACK, dot=dot)
        factor = np.float32(1 if dot else 2)
        slopes, offsets = _above(self.apart), _above(factor * self.lengths * farthest + more)
        rounded = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
        values = np.zeros_like(squares) if dot else squares

        def selecting(share: slice) -> None:
            own = self.rounded[share]
            step = min(max(TILE // len(own), LEAST), MOST)
            for start in range(0, len(block), step):
                part = slice(start, start + step)
                products = (own @ rounded[part].T).view(torch.int16).numpy().view(np.uint16)
                given = (products, values[part], sizes[part], first + start, factor, np.float32(ROUNDED))
                found = (self.bounds[0, share], self.bounds[1, share], self.rows[share])
                select(*given, slopes[share], offsets[share], *found, self.counts[share], self.limits[share], self.k)

        list(pool.map(selecting, _parts(len(self.counts), threads)))

    def found(self) -> Candidates:
        """What is left at the end."""
        from harness.search.bfloat16_kernel import finish

        finish(*self.bounds, self.rows, self.counts, self.limits, self.k)
        kept = np.arange(self.rows.shape[1]) < self.counts[:, None]
        return Candidates(np.nonzero(kept)[0], self.rows[kept], np.flatnonzero(self.counts < 0))


def _parts(total: int, count: int) -> list[slice]:
    edges = np.linspace(0, total, min(count, total) + 1).astype(int).tolist()
    return [slice(*pair) for pair in pairwise(edges)]


def _above(values: Doubles) -> Floats:
    """float32 numbers no less than the values."""
    found: Floats = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return found
