"""Float64 scores of given pairs of query and document.

Each pair is summed by itself and in one fixed order, so its score depends on nothing but the two vectors: not on the
other pairs, threads, blocks or the instructions of the processor. Large searches use a kernel compiled by numba, where
that is installed; NumPy computes the same digits.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.types import Similarity

RIGHT_ANGLE = math.sqrt(2)
"""Distance of orthogonal unit vectors."""
LANES = 64
"""Partial sums of a pair: sum i holds the dimensions i, i + LANES, ...; they are folded in halves."""
DOCUMENTS = 256
"""Documents whose pairs are scored together; they fit into the CPU cache."""
PAIRS = 1024
"""Pairs that NumPy scores at a time, for the same reason."""
COMPILED = 2 * 10**8
"""Number of pairs times dimensions from which importing numba (about half a second) is worth it."""

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def rescore(
    queries: Floats, documents: Vectors, places: Ints, rows: Ints, similarity: Similarity, threads: int
) -> Doubles:
    """Score pairs of query and document in float64.

    Args:
        queries: float32 [q, d].
        documents: n vectors of d dimensions; each shard is read once.
        places: int64 [m], the query of each pair.
        rows: int64 [m], the document of each pair.
        similarity: which score.
        threads: number of threads; each scores a range of documents.

    Returns:
        float64 [m]: -|q - x| (Euclidean), -sqrt(2 - 2 cos) (cosine) or q.x (dot).
    """
    padded, dot = _padded(queries), similarity == "dot"
    order = np.argsort(rows)
    found, starts = np.unique(rows[order], return_index=True)
    edges = np.append(starts, len(rows))
    scores = np.empty(len(rows))
    score = _implementation(len(rows) * queries.shape[1])

    def work(part: Ints) -> None:
        for positions, vectors in documents.pieces(found[part], DOCUMENTS):
            at = part[positions]  # ascending, as the documents are
            own = edges[at[0] : at[-1] + 2]
            score(padded, _padded(vectors), own, order, places, scores, dot)
            if similarity == "cosine":
                for zero in np.flatnonzero(~vectors.any(axis=1)).tolist():
                    scores[order[own[zero] : own[zero + 1]]] = RIGHT_ANGLE**2

    shares = np.array_split(np.arange(len(found)), max(1, min(4 * threads, len(found) // DOCUMENTS)))
    with ThreadPoolExecutor(threads, "rescore") as pool:
        list(pool.map(work, shares))
    return scores if dot else -np.sqrt(scores)


def _implementation(size: int) -> Callable[..., None]:
    """The compiled kernel where it is worth it, else NumPy: both give the same digits."""
    if "numba" in sys.modules or (size >= COMPILED and importlib.util.find_spec("numba")):
        from harness.search.rescore_kernel import score

        return score
    return score_with_numpy


def score_with_numpy(
    queries: Floats, documents: Floats, edges: Ints, order: Ints, places: Ints, scores: Doubles, dot: bool
) -> None:
    """The same as the compiled kernel (`harness.search.rescore_kernel`), to the last digit."""
    own = np.repeat(np.arange(len(documents)), np.diff(edges))
    pairs = order[edges[0] : edges[-1]]
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        left = queries[places[some]].astype(np.float64)
        right = documents[own[start : start + PAIRS]]
        if dot:
            left *= right
        else:
            left -= right
            left *= left
        sums = np.add.reduce(left.reshape(len(left), -1, LANES), axis=1)
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        scores[some] = sums[:, 0]


def _padded(vectors: Floats) -> Floats:
    """The vectors with zeros up to a multiple of `LANES` dimensions."""
    missing = -vectors.shape[1] % LANES
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(vectors)
