"""The nearest documents of each query in float32, with an error bound: the first pass of exact search.

A value is the squared distance, or -q.x to rank by inner product. FAISS computes them on the CPU, torch on a GPU, and
NumPy where FAISS is not installed.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.types import Similarity

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

UNIT = float(np.finfo(np.float32).eps) / 2
TINY = float(np.finfo(np.float32).tiny)
"""Largest error of a float32 underflow: processors may flush such numbers to 0."""
GREATEST = 2.0**126
"""Largest |q|^2 + |x|^2 + 2 |q| |x| for which float32 values cannot overflow."""
TILE = 8 << 20
"""Values that NumPy computes at a time."""
DEVICE_TILE = 1 << 28
"""Values that a device computes at a time."""


class Space(NamedTuple):
    """Where queries and documents are compared: both are multiplied by ``factor``, then moved to ``centre``."""

    factor: np.float32
    """A power of two."""
    centre: Floats
    """[d], after the multiplication."""
    similarity: Similarity

    def queries(self, queries: Floats) -> Floats:
        """Queries in this space; not moved for inner products, as q.(x - centre) = q.x - a constant of the query."""
        left = queries if self.factor == 1 else queries * self.factor
        return left if self.similarity == "dot" else left - self.centre


class Nearest(NamedTuple):
    """The nearest documents of each query so far, nearest first."""

    values: Floats
    """[q, m]."""
    rows: Ints
    """[q, m]."""

    def merged(self, other: Nearest, depth: int) -> Nearest:
        """The ``depth`` nearest of both."""
        values, rows = other
        if self.values.shape[1] >= depth:  # columns in which no query has a nearer document are left out
            better = int((values < self.values[:, -1:]).sum(axis=1).max(initial=0))
            values, rows = values[:, :better], rows[:, :better]
        if not values.shape[1]:
            return self
        values, rows = np.concatenate([self.values, values], axis=1), np.concatenate([self.rows, rows], axis=1)
        order = np.argsort(values, axis=1)[:, :depth]
        return Nearest(np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1))


class Engine(Protocol):
    """Searches one block of documents."""

    def __call__(self, queries: Floats, documents: Floats, depth: int, *, dot: bool) -> Nearest:
        """The ``depth`` nearest of the documents [n, d] for each query [q, d]; depth is at most n."""
        ...


def make_engine(device: str) -> Engine:
    """The implementation for a device: "cpu" or a torch device."""
    if device != "cpu":
        return _Torch(device)
    return _faiss if importlib.util.find_spec("faiss") else _numpy


def _faiss(queries: Floats, documents: Floats, depth: int, *, dot: bool) -> Nearest:
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT if dot else faiss.METRIC_L2
    values, rows = faiss.knn(queries, documents, depth, metric=metric)
    return Nearest(-values if dot else values, rows)


def _numpy(queries: Floats, documents: Floats, depth: int, *, dot: bool) -> Nearest:
    found, step = None, max(1, TILE // max(len(queries), 1))
    for start in range(0, len(documents), step):
        piece = documents[start : start + step]
        values = queries @ piece.T
        values *= np.float32(-1 if dot else -2)
        if not dot:
            values += np.einsum("ij,ij->i", piece, piece)
            values += np.einsum("ij,ij->i", queries, queries)[:, None]
        order = np.argsort(values, axis=1)[:, :depth]
        some = Nearest(np.take_along_axis(values, order, axis=1), order + start)
        found = some if found is None else found.merged(some, depth)
    assert found is not None
    return found


class _Torch:
    def __init__(self, device: str) -> None:
        import torch

        torch.set_float32_matmul_precision("highest")  # TF32 has a 10-bit mantissa; its error would exceed the bound
        self.device = device

    def __call__(self, queries: Floats, documents: Floats, depth: int, *, dot: bool) -> Nearest:
        import torch

        right = torch.from_numpy(documents).to(self.device)
        squares = None if dot else right.square().sum(dim=1)
        parts, step = [], max(1, DEVICE_TILE // len(documents))
        for start in range(0, len(queries), step):
            left = torch.from_numpy(queries[start : start + step]).to(self.device)
            values = (left @ right.T).mul_(-1 if dot else -2)
            if squares is not None:
                values += squares
                values += left.square().sum(dim=1, keepdim=True)
            nearest = values.topk(depth, dim=1, largest=False)
            parts.append((nearest.values.cpu().numpy(), nearest.indices.cpu().numpy()))
        return Nearest(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))


def lengths(vectors: Floats) -> Doubles:
    """Norms [n] in float64."""
    found: Doubles = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    return found


def longest_lengths(squares: NDArray[np.floating[Any]], dim: int) -> Doubles:
    """Lengths [n], no less than the true ones, of vectors of which the squares were summed in float32."""
    found: Doubles = np.sqrt(np.asarray(squares, np.float64) * (1 + (dim + 8) * UNIT) + dim * TINY)
    return found


def error_bound(lengths: Doubles, squares: Floats, dim: int, *, dot: bool) -> Doubles:
    """Worst-case error [q] of the values of queries and documents, whichever engine computes them.

    Terms: a float32 inner product of d terms in any order (d u |q| |x|), the squared norms likewise, their sum, and
    the rounding of both sides when they were centred. N. Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1; underflow (in d products, d squares and the coordinates) as there in section 2.1.

    Args:
        lengths: [q], norms of the queries.
        squares: [n], squared norms of the documents in float32.
        dim: number of dimensions.
        dot: the values are inner products.

    Raises:
        OverflowError: a value could exceed the range of float32.
    """
    norm = float(np.sqrt(float(squares.max()))) * (1 + dim * UNIT)
    if not (norm + float(lengths.max(initial=0.0))) ** 2 < GREATEST:
        raise OverflowError("a squared distance leaves float32's range")
    found: Doubles = UNIT * (dim + 8) * (lengths * norm if dot else (lengths + norm) ** 2)
    return found + 4 * dim * TINY * (1 + lengths + norm)
