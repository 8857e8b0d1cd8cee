"""Compiled scores of one query in one block of an inverted file; imported only where the compilation is worth it.

A document's score is summed in the order of the query's terms. Products of two float32 numbers are exact in float64, so
fused multiplication and addition gives the same digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def _score(
    starts: Any, documents: Any, weights: Any, terms: Any, factors: Any, sums: Any, floor: float, rows: Any, scores: Any
) -> int:  # pragma: no cover (compiled)
    """Write the documents whose score is above 0 and at least ``floor``, in ascending order.

    Args:
        starts: integers [terms + 1], where the postings of a term begin.
        documents: int32, the documents of the postings.
        weights: float32, their weights.
        terms: the query's terms.
        factors: float32, their weights in the query.
        sums: float64 [documents of the block], zeros, which it leaves.
        floor: the least score wanted.
        rows: int64 [documents of the block], receives documents.
        scores: float64 [documents of the block], receives their scores.

    Returns:
        How many documents were written.
    """
    for place in range(len(terms)):
        factor = np.float64(factors[place])
        for at in range(starts[terms[place]], starts[terms[place] + 1]):
            sums[documents[at]] += factor * np.float64(weights[at])
    found = 0
    for row in range(len(sums)):
        score = sums[row]
        if score > 0.0 and score >= floor:
            rows[found] = row
            scores[found] = score
            found += 1
        sums[row] = 0.0
    return found


score: Callable[..., int] = numba.njit(nogil=True, cache=True, error_model="numpy")(_score)
