"""Compiled float64 scores of pairs of query and document; imported only for searches that are worth the compilation.

The sums have the fixed order of `harness.search.rescore`: `LANES` partial sums, folded in halves. Unsigned indices let
the compiler use vector instructions, which leave that order as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

LANES = np.uint64(64)
ZERO, TWO = np.uint64(0), np.uint64(2)


def _score(
    queries: Any, documents: Any, places: Any, owners: Any, scores: Any, dot: bool
) -> None:  # pragma: no cover (compiled)
    """Write the scores of m pairs of query and document.

    Args:
        queries: float32 [q, d]; d is a multiple of `LANES`.
        documents: float32 [n, d].
        places: int64 [m], the query of each pair.
        owners: int64 [m], the document of each pair.
        scores: float64 [m], receives the inner product or the squared distance of each pair.
        dot: inner products instead of squared distances.
    """
    sums = np.zeros(LANES)
    width = np.uint64(queries.shape[1])
    for pair in range(len(scores)):
        left, right = queries[places[pair]], documents[owners[pair]]
        for lane in range(LANES):
            sums[lane] = 0.0
        start = ZERO
        if dot:
            while start < width:
                for lane in range(LANES):
                    sums[lane] += np.float64(left[start + lane]) * np.float64(right[start + lane])
                start += LANES
        else:
            while start < width:
                for lane in range(LANES):
                    apart = np.float64(left[start + lane]) - np.float64(right[start + lane])
                    sums[lane] += apart * apart
                start += LANES
        half = LANES // TWO
        while half:
            for lane in range(half):
                sums[lane] += sums[lane + half]
            half //= TWO
        scores[pair] = sums[0]


score: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy")(_score)
