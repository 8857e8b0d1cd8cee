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
"""Documents whose pairs are scored together, query by query; they fit into the CPU cache."""
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
        documents: n vectors of d dimensions; each one that is scored is read once.
        places: int64 [m], the query of each pair.
        rows: int64 [m], the document of each pair.
        similarity: which score.
        threads: number of threads; each scores the pairs of a group of documents at a time.

    Returns:
        float64 [m]: -|q - x| (Euclidean), -sqrt(2 - 2 cos) (cosine) or q.x (dot).
    """
    dot, width = similarity == "dot", -(-queries.shape[1] // LANES) * LANES
    padded = np.zeros((len(queries), width), np.float32)
    padded[:, : queries.shape[1]] = queries
    found, owners = _distinct(rows, len(documents))
    groups, count = owners // DOCUMENTS, -(-len(found) // DOCUMENTS)
    order = np.argsort(groups.astype(np.min_scalar_type(count)), kind="stable")
    edges = np.searchsorted(groups, np.arange(count + 1), sorter=order)
    scores = np.empty(len(rows))
    score = _implementation(len(rows) * queries.shape[1])

    def work(group: int) -> None:
        wanted = found[group * DOCUMENTS : (group + 1) * DOCUMENTS]
        vectors = np.zeros((len(wanted), width), np.float32)
        for positions, piece in documents.pieces(wanted, DOCUMENTS):
            vectors[positions, : queries.shape[1]] = piece
        pairs = order[edges[group] : edges[group + 1]]  # in the order of their queries, if the given pairs were
        own = owners[pairs] - group * DOCUMENTS
        made = np.empty(len(pairs))
        score(padded, vectors, places[pairs], own, made, dot)
        if similarity == "cosine":
            made[np.isin(own, np.flatnonzero(~vectors.any(axis=1)))] = RIGHT_ANGLE**2
        scores[pairs] = made

    with ThreadPoolExecutor(threads, "rescore") as pool:
        list(pool.map(work, range(count)))
    return scores if dot else -np.sqrt(scores)


def _distinct(rows: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct ones of rows below ``size``, ascending, and the place of each row among them."""
    if size > len(rows):  # a table of all would be larger than what is looked up in it
        return np.unique(rows, return_inverse=True)
    present = np.zeros(size, bool)
    present[rows] = True
    found = np.flatnonzero(present)
    place = np.empty(size, np.int64)
    place[found] = np.arange(len(found))
    return found, place[rows]


def _implementation(size: int) -> Callable[..., None]:
    """The compiled kernel where it is worth it, else NumPy: both give the same digits."""
    if "numba" in sys.modules or (size >= COMPILED and importlib.util.find_spec("numba")):
        from harness.search.rescore_kernel import score

        return score
    return score_with_numpy


def score_with_numpy(
    queries: Floats, documents: Floats, places: Ints, owners: Ints, scores: Doubles, dot: bool
) -> None:
    """The same as the compiled kernel (`harness.search.rescore_kernel`), to the last digit."""
    for start in range(0, len(scores), PAIRS):
        some = slice(start, start + PAIRS)
        left = queries[places[some]].astype(np.float64)
        right = documents[owners[some]]
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
