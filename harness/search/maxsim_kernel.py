"""Compiled parts of MaxSim search; imported only for searches that are worth the compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

LANES = np.uint64(64)
ZERO, TWO = np.uint64(0), np.uint64(2)


def _segment_max(keys: Any, edges: Any, sign: Any, rest: Any, best: Any) -> None:  # pragma: no cover (compiled)
    """Write the largest value of every column in every segment of rows.

    Args:
        keys: int [n, c], the bits of floating-point numbers.
        edges: int64 [m + 1], where the segments begin, none of them empty.
        sign: number of bits below the sign, of the type of ``keys``.
        rest: those bits set, likewise.
        best: int [m, c], receives bits.
    """
    for segment in range(len(edges) - 1):
        own = best[segment]
        for column in range(len(own)):
            bits = keys[edges[segment], column]
            own[column] = bits ^ ((bits >> sign) & rest)  # ordered as the numbers are
        for row in range(edges[segment] + 1, edges[segment + 1]):
            given = keys[row]
            for column in range(len(own)):
                bits = given[column]
                own[column] = max(own[column], bits ^ ((bits >> sign) & rest))
        for column in range(len(own)):
            own[column] = own[column] ^ ((own[column] >> sign) & rest)


def _score(
    products: Any, margins: Any, tokens: Any, document: Any, starts: Any, scores: Any
) -> None:  # pragma: no cover (compiled)
    """Write the MaxSim of a document and some queries, in float64.

    Args:
        products: float32 [n, c], the inner products of the document's n vectors and the queries' c.
        margins: float32 [c], no less than twice the error of the products of each vector of the queries.
        tokens: float32 [c, dim], the vectors of the queries; dim is a multiple of `LANES`.
        document: float32 [n, dim], those of the document.
        starts: int64 [m + 1], where the vectors of each query begin.
        scores: float64 [m], receives the sums of the largest products.
    """
    sums = np.zeros(LANES)
    width = np.uint64(tokens.shape[1])
    count, columns = products.shape
    largest = products[0].copy()
    for row in range(1, count):
        for column in range(columns):
            largest[column] = max(largest[column], products[row, column])
    for column in range(columns):
        largest[column] -= margins[column]
    best = np.full(columns, -np.inf)
    for row in range(count):
        for column in range(columns):
            if products[row, column] >= largest[column]:
                left, right = tokens[column], document[row]
                for lane in range(LANES):
                    sums[lane] = 0.0
                start = ZERO
                while start < width:
                    for lane in range(LANES):
                        sums[lane] += np.float64(left[start + lane]) * np.float64(right[start + lane])
                    start += LANES
                half = LANES // TWO
                while half:
                    for lane in range(half):
                        sums[lane] += sums[lane + half]
                    half //= TWO
                best[column] = max(best[column], sums[0])
    for query in range(len(starts) - 1):
        total = 0.0
        for column in range(starts[query], starts[query + 1]):
            total += best[column]
        scores[query] = total


def _largest(vectors: Any, others: Any) -> Any:  # pragma: no cover (compiled)
    """The largest squared length of float32 vectors [n, dim], and that of their differences from ``others``."""
    longest, farthest = np.float32(0), np.float32(0)
    for row in range(len(vectors)):
        whole, apart = np.float32(0), np.float32(0)
        for column in range(vectors.shape[1]):
            value = vectors[row, column]
            rest = value - others[row, column]
            whole += value * value
            apart += rest * rest
        longest, farthest = max(longest, whole), max(farthest, apart)
    return longest, farthest


segment_max: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy")(_segment_max)
score: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy")(_score)
largest: Callable[..., tuple[float, float]] = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})(
    _largest
)
