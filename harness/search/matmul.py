"""Queries times documents, tile by tile, with a bound on how far each value can be from the true one.

A value is |x|^2 - shift - 2 q.x (the squared distance, but for a constant of the query), or -q.x where inner products
are ranked. Under cosine a zero vector, which has no direction, is 1 further away: at the squared distance 2 of vectors
at right angles. Three ways: float32 on the processor (the oracle of the others), float32 on a device of torch's, and
bfloat16 on processors that multiply it several times as fast as float32. What bfloat16 loses is bounded by what it has
lost of these very vectors, and the documents it cannot decide about are compared in float64 like all others.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.search.tiles import CoarseTile, DeviceTile, Floats, HostTile, Tile
from harness.system.environment import multiplies_bfloat16

Doubles = NDArray[np.float64]
UNIT = float(np.finfo(np.float32).eps) / 2
TINY = float(np.finfo(np.float32).tiny)
"""What a float32 number loses at the most where it is too small: processors may replace such numbers by 0."""
GREATEST = 2.0**126
"""Bound of |q|^2 + |x|^2 + 2 |q| |x|, beyond which float32 values might overflow."""
WORTH = 10**10
"""Multiplications from which a search in bfloat16 gains more than importing torch costs."""
TORCH_BYTES = 10**9
"""Memory of a search from which what importing torch takes is within reason."""
PIECE = 512
FEWEST = 8
"""Queries from which a product is one of matrices to every library, and summed in float32."""


class Product(Protocol):
    """Multiplies by queries that are given beforehand."""

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        """Values of the documents [m, d], and how far a value of each query [q] can be off before it is rounded.

        Raises OverflowError where a value could leave float32's range.
        """
        ...


def make_product(
    queries: Floats, *, dot: bool, zero: Floats | None, step: int, documents: int, memory: int, device: str
) -> Product:
    """Multiplies these queries [q, d] by so many documents, ``step`` at a time at the most.

    ``zero`` [d] is a document without direction, after the move that all documents have had; None: each has one.
    """
    if device != "cpu":
        return _Device(queries, device, dot=dot, zero=zero)
    worth = len(queries) >= FEWEST and queries.size * documents >= WORTH
    at_hand = "torch" in sys.modules or (memory >= TORCH_BYTES and importlib.util.find_spec("torch"))
    if worth and at_hand and multiplies_bfloat16():
        return _Coarse(queries, step, dot=dot, zero=zero)
    return _Host(queries, step, dot=dot, zero=zero)


def _squares(documents: Floats, zero: Floats | None) -> Floats:
    """|x|^2 [m], 1 more for each document that equals ``zero``."""
    with np.errstate(over="ignore"):  # the caller finds out
        squares: Floats = np.einsum("ij,ij->i", documents, documents)
    if zero is not None:
        near = np.flatnonzero(np.isclose(squares, np.dot(zero, zero), rtol=1e-3, atol=1e-30))
        squares[near[(documents[near] == zero).all(axis=1)]] += 1
    return squares


def _norm(squares: Floats, lengths: Doubles, dim: int) -> float:
    """The longest document's length, with its rounding error; OverflowError beside a query that is too long for it."""
    norm = float(np.sqrt(float(squares.max()))) * (1 + dim * UNIT)
    if not (norm + float(lengths.max(initial=0.0))) ** 2 < GREATEST:
        raise OverflowError("a squared distance leaves float32's range")
    return norm


class _Plain:
    """What the ways in float32 have in common."""

    def __init__(self, queries: Floats, *, dot: bool, zero: Floats | None) -> None:
        self.dot, self.zero = dot, zero
        self.lengths = _lengths(queries)
        # Exact, and saves multiplying every product.
        self.factors = queries * np.float32(-1 if dot else -2)

    def error(self, squares: Floats) -> Doubles:
        """The worst case, [q], for documents of these squared norms [m].

        Terms: a float32 inner product of d terms in any order (d u |q| |x|), the squared norm likewise, their sum, and
        the rounding of both sides when they were moved. N. Higham, Accuracy and Stability of Numerical Algorithms,
        section 3.1; underflow as there in section 2.1.
        """
        dim = self.factors.shape[1]
        norm = _norm(squares, self.lengths, dim)
        found: Doubles = UNIT * (dim + 8) * (self.lengths * norm if self.dot else (self.lengths + norm) ** 2)
        return found + _underflow(self.lengths, norm, dim)


def _underflow(lengths: Doubles, norm: float, dim: int) -> Doubles:
    """What d products, d squares and the coordinates of both sides lose where they are too small, [q]."""
    return 4 * dim * TINY * (1 + lengths + norm)


class _Host(_Plain):
    def __init__(self, queries: Floats, step: int, *, dot: bool, zero: Floats | None) -> None:
        super().__init__(queries, dot=dot, zero=zero)
        self._memory = np.empty(len(queries) * step, np.float32)

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        squares = _squares(documents, self.zero)
        error = self.error(squares)
        shape = len(self.factors), len(documents)
        values = self._memory[: shape[0] * shape[1]].reshape(shape)
        np.matmul(self.factors, documents.T, out=values)
        if not self.dot:
            values += squares
        return HostTile(values), error


class _Device(_Plain):
    def __init__(self, queries: Floats, device: str, *, dot: bool, zero: Floats | None) -> None:
        import torch

        super().__init__(queries, dot=dot, zero=zero)
        # TF32 keeps 10 bits of the fraction, far beyond the error that the search reckons with.
        torch.set_float32_matmul_precision("highest")
        self._asked = torch.from_numpy(self.factors).to(device)

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        import torch

        squares = _squares(documents, self.zero)
        error = self.error(squares)
        values = self._asked @ torch.from_numpy(documents).to(self._asked.device).T
        if not self.dot:
            values += torch.from_numpy(squares).to(self._asked.device)
        return DeviceTile(values), error


class _Coarse:
    """bfloat16 products, summed in float32.

    The squared norm takes part as three more terms, its upper, middle and lower bits, times 1: exact, and no second
    pass over the values. The shift, the first documents' mean squared norm, brings values near 0, where bfloat16 is
    finer.
    """

    def __init__(self, queries: Floats, step: int, *, dot: bool, zero: Floats | None) -> None:
        import torch

        count, dim = queries.shape
        self._dot, self._zero = dot, zero
        self._shift: float | None = None
        factors = queries * np.float32(-1 if dot else -2)
        self._asked = torch.ones(count, dim + 3, dtype=torch.bfloat16)
        self._asked[:, :dim] = torch.from_numpy(factors)
        self._lengths = _lengths(factors)
        self._lost = _lengths(factors - self._asked[:, :dim].float().numpy())
        self._documents = torch.zeros(step, dim + 3, dtype=torch.bfloat16)
        self._values = torch.empty(count * step, dtype=torch.bfloat16)

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        import torch

        count, dim = documents.shape
        squares, lost = np.empty(count, np.float32), 0.0
        for start in range(0, count, PIECE):  # each is rounded, and looked at again, while the cache holds it
            piece = documents[start : start + PIECE]
            squares[start : start + PIECE] = _squares(piece, self._zero)
            exact, given = torch.from_numpy(piece), self._documents[start : start + len(piece), :dim]
            given.copy_(exact)
            lost = max(lost, float(torch.linalg.vector_norm(exact - given, dim=1).max()))
        norm = _norm(squares, self._lengths, dim)
        given = self._documents[:count]
        if not self._dot:
            if self._shift is None:
                self._shift = float(squares.mean())
            rest = torch.from_numpy(squares - np.float32(self._shift))
            for place in range(dim, dim + 3):
                given[:, place] = rest
                rest = rest - given[:, place]
        values = self._values[: len(self._asked) * count].view(len(self._asked), count)
        torch.mm(self._asked, given.T, out=values)
        return CoarseTile(values.view(torch.int16).numpy().view(np.uint16)), self._error(norm, lost * 1.001)

    def _error(self, norm: float, lost: float) -> Doubles:
        """[q], for documents of this norm that lost so much of theirs at the most.

        |a.x - a'.x'| <= |a - a'| |x| + |a'| |x - x'| (Cauchy and Schwarz), beside the sum's own error, twice that of
        `_Plain.error`: products are summed in pairs, whose order and intermediate rounding are the processor's.
        """
        own = self._lost * norm + (self._lengths + self._lost) * lost
        square = 0.0 if self._dot else norm**2 + (self._shift or 0.0)
        dim = self._asked.shape[1]
        found: Doubles = own + 2 * UNIT * (dim + 8) * (self._lengths * norm + square)
        return found + 2 * _underflow(self._lengths, norm, dim)


def _lengths(vectors: Floats) -> Doubles:
    lengths: Doubles = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    return lengths
