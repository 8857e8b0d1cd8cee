"""Matrix products of queries and documents, tile by tile, with an error bound for each query.

A value is |x|^2 - shift - 2 q.x (the squared distance up to a constant of the query), or -q.x to rank by inner product.
Under cosine, 1 is added for a zero vector, which has no direction: its squared distance is then 2, as of orthogonal
vectors. There are three implementations: float32 on the CPU (the reference implementation), float32 on a torch device,
and bfloat16 on CPUs that multiply it several times as fast as float32. The error of bfloat16 is bounded by the rounding
errors of the actual vectors; candidates within the bound are rescored in float64 as always.
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
"""Largest error of a float32 underflow: processors may flush such numbers to 0."""
GREATEST = 2.0**126
"""Largest |q|^2 + |x|^2 + 2 |q| |x| for which float32 values cannot overflow."""
BFLOAT16_MULTIPLICATIONS = 10**10
"""Minimum size of a search for bfloat16: the gain exceeds the time of importing torch."""
TORCH_BYTES = 10**9
"""Minimum memory budget for importing torch."""
PIECE = 512
FEWEST = 8
"""Minimum number of queries for which all libraries compute a matrix product with float32 sums."""


class QueryProduct(Protocol):
    """Product of fixed queries with blocks of documents."""

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        """Compute the tile of the documents [m, d] and the error bound [q] of its values before rounding.

        Raises:
            OverflowError: a value could exceed the range of float32.
        """
        ...


def make_product(
    queries: Floats, *, dot: bool, zero: Floats | None, step: int, documents: int, memory: int, device: str
) -> QueryProduct:
    """Choose the implementation for a search.

    Args:
        queries: float32 [q, d].
        dot: rank by inner product instead of distance.
        zero: float32 [d], the zero vector after centring, for cosine; None if it has no special role.
        step: largest number of documents per tile.
        documents: number of documents of the search.
        memory: memory budget of the search in bytes.
        device: "cpu" or a torch device.
    """
    if device != "cpu":
        return _TorchDevice(queries, device, dot=dot, zero=zero)
    worth = len(queries) >= FEWEST and queries.size * documents >= BFLOAT16_MULTIPLICATIONS
    available = "torch" in sys.modules or (memory >= TORCH_BYTES and importlib.util.find_spec("torch"))
    if worth and available and multiplies_bfloat16():
        return _Bfloat16(queries, step, dot=dot, zero=zero)
    return _Cpu(queries, step, dot=dot, zero=zero)


def _squares(documents: Floats, zero: Floats | None) -> Floats:
    """|x|^2 [m], plus 1 for each document that equals ``zero``."""
    with np.errstate(over="ignore"):  # the caller checks for overflow
        squares: Floats = np.einsum("ij,ij->i", documents, documents)
    if zero is not None:
        near = np.flatnonzero(np.isclose(squares, np.dot(zero, zero), rtol=1e-3, atol=1e-30))
        squares[near[(documents[near] == zero).all(axis=1)]] += 1
    return squares


def _norm(squares: Floats, lengths: Doubles, dim: int) -> float:
    """Largest norm of a document, including its rounding error. OverflowError if a value could overflow."""
    norm = float(np.sqrt(float(squares.max()))) * (1 + dim * UNIT)
    if not (norm + float(lengths.max(initial=0.0))) ** 2 < GREATEST:
        raise OverflowError("a squared distance leaves float32's range")
    return norm


class _Float32:
    """Base class of the float32 implementations."""

    def __init__(self, queries: Floats, *, dot: bool, zero: Floats | None) -> None:
        self.dot, self.zero = dot, zero
        self.lengths = _lengths(queries)
        # Exact, and cheaper than scaling every product.
        self.factors = queries * np.float32(-1 if dot else -2)

    def error(self, squares: Floats) -> Doubles:
        """Worst-case error [q] for documents of these squared norms [m].

        Terms: a float32 inner product of d terms in any order (d u |q| |x|), the squared norm likewise, their sum, and
        the rounding of both sides when they were centred. N. Higham, Accuracy and Stability of Numerical Algorithms,
        section 3.1; underflow as there in section 2.1.
        """
        dim = self.factors.shape[1]
        norm = _norm(squares, self.lengths, dim)
        found: Doubles = UNIT * (dim + 8) * (self.lengths * norm if self.dot else (self.lengths + norm) ** 2)
        return found + _underflow(self.lengths, norm, dim)


def _underflow(lengths: Doubles, norm: float, dim: int) -> Doubles:
    """Error [q] of underflow in d products, d squares and the coordinates of both sides."""
    return 4 * dim * TINY * (1 + lengths + norm)


class _Cpu(_Float32):
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


class _TorchDevice(_Float32):
    def __init__(self, queries: Floats, device: str, *, dot: bool, zero: Floats | None) -> None:
        import torch

        super().__init__(queries, dot=dot, zero=zero)
        # TF32 has a 10-bit mantissa; its error would exceed the bound.
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


class _Bfloat16:
    """bfloat16 products, summed in float32.

    The squared norm is added as three more columns (its upper, middle and lower bits) times 1: exact, and without a
    second pass over the values. The shift, the mean squared norm of the first documents, moves the values closer to 0,
    where bfloat16 is more precise.
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
        self._rounding = _lengths(factors - self._asked[:, :dim].float().numpy())
        self._documents = torch.zeros(step, dim + 3, dtype=torch.bfloat16)
        self._values = torch.empty(count * step, dtype=torch.bfloat16)

    def __call__(self, documents: Floats) -> tuple[Tile, Doubles]:
        import torch

        count, dim = documents.shape
        squares, rounding = np.empty(count, np.float32), 0.0
        for start in range(0, count, PIECE):  # small pieces stay in the cache
            piece = documents[start : start + PIECE]
            squares[start : start + PIECE] = _squares(piece, self._zero)
            exact, rounded = torch.from_numpy(piece), self._documents[start : start + len(piece), :dim]
            rounded.copy_(exact)
            rounding = max(rounding, float(torch.linalg.vector_norm(exact - rounded, dim=1).max()))
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
        return CoarseTile(values.view(torch.int16).numpy().view(np.uint16)), self._error(norm, rounding * 1.001)

    def _error(self, norm: float, rounding: float) -> Doubles:
        """Error bound [q] for documents of at most this norm and this rounding error.

        |a.x - a'.x'| <= |a - a'| |x| + |a'| |x - x'| (Cauchy and Schwarz), beside the sum's own error, twice that of
        `_Float32.error`: products are summed in pairs, whose order and intermediate rounding are the processor's.
        """
        own = self._rounding * norm + (self._lengths + self._rounding) * rounding
        square = 0.0 if self._dot else norm**2 + (self._shift or 0.0)
        dim = self._asked.shape[1]
        found: Doubles = own + 2 * UNIT * (dim + 8) * (self._lengths * norm + square)
        return found + 2 * _underflow(self._lengths, norm, dim)


def _lengths(vectors: Floats) -> Doubles:
    lengths: Doubles = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    return lengths
