"""MaxSim of all documents of a block in low precision, with an error bound: the first pass of its exact search.

The products are computed in bfloat16 (torch, where the processor multiplies it), in float32 (NumPy), or in float32 on a
GPU (torch). For vectors q and d, rounded to q' and d', and their product c, of float32 sums and itself rounded,

    |q.d - c| <= |q - q'| |d| + |q'| |d - d'| + g |q'| |d'| + u |c|

with g = (dim + 8) 2^-24 (N. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1) and u = 2^-8. The
first two differences are computed, not bounded, and are 0 in float32, as u is. The largest product is as exact as the
products are, and MaxSim adds those of a query's vectors. As rounding keeps the order, u is multiplied by the largest.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.search.bfloat16 import ROUNDED
from harness.search.nearest import TINY, UNIT, lengths, longest_lengths
from harness.system.environment import multiplies_bfloat16

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS = 2048
"""Vectors of queries that are multiplied together."""
COMPILED = 2 * 10**7
"""Vectors of queries times documents times dimensions from which importing numba (about half a second) is worth it."""
NARROW = 2 * 10**9
"""The same for importing torch, where it is not loaded yet."""
ORDINARY = 20
"""Largest binary exponent of numbers that need no scaling."""


class Asked(NamedTuple):
    """The vectors of some queries."""

    tokens: Floats
    """[c, dim]."""
    starts: Ints
    """[q + 1], where those of each query begin; none is empty."""


class Bounded(NamedTuple):
    """MaxSim of queries and documents in low precision."""

    values: Doubles
    """[q, n]."""
    errors: Doubles
    """[q, n], no less than their errors."""


class Scorer(Protocol):
    """Scores documents for the queries that it was made with. Several threads may use one on a CPU."""

    def __call__(self, tokens: Floats, edges: Ints) -> Bounded:
        """The scores of documents with the vectors ``tokens`` [m, dim], document i from ``edges[i]`` on."""
        ...


def make_scorer(device: str, asked: Asked, size: float) -> Scorer:
    """The implementation for a device, "cpu" or a torch device, and a search of such a size."""
    if device != "cpu":
        return DeviceScorer(asked, device)
    fast = compiled(size)
    if multiplies_bfloat16() and ("torch" in sys.modules or (size >= NARROW and importlib.util.find_spec("torch"))):
        return NarrowScorer(asked, fast=fast)
    return WideScorer(asked, fast=fast)


def compiled(size: float) -> bool:
    """Whether the compiled kernels are worth it; NumPy computes the same digits."""
    return "numba" in sys.modules or (size >= COMPILED and importlib.util.find_spec("numba") is not None)


def scale_of(vectors: Floats) -> int:
    """The exponent of the power of two by which vectors are multiplied before their products can leave float32."""
    largest = max(float(vectors.max(initial=0)), -float(vectors.min(initial=0)))
    exponent = int(np.frexp(largest)[1])
    return 0 if abs(exponent) <= ORDINARY else -exponent


def scaled(vectors: Floats, exponent: int) -> Floats:
    """Vectors times a power of two."""
    return np.ldexp(vectors, exponent) if exponent else vectors


def product_errors(lengths: Doubles, longest: float, dim: int) -> Doubles:
    """Largest error of the float32 inner products of vectors of these lengths with one no longer than ``longest``."""
    return (dim + 8) * UNIT * lengths * longest + 4 * dim * TINY * (1 + lengths + longest)


def largest(vectors: Floats, others: Floats, *, fast: bool) -> tuple[float, float]:
    """Bounds of the length of vectors, and of that of their differences from others."""
    if fast:
        from harness.search.maxsim_kernel import largest as both

        squares = [*both(vectors, others)]
    else:
        squares = [np.einsum("ij,ij->i", each, each).max() for each in (vectors, vectors - others)]
    dim = vectors.shape[1]
    whole, apart = longest_lengths(np.array(squares), dim).tolist()
    return whole, apart


class _Cpu:
    """What the scorers on a CPU share."""

    def __init__(self, asked: Asked, *, fast: bool) -> None:
        """``fast``: with the compiled kernels."""
        self.fast = fast
        self.exponent = scale_of(asked.tokens)
        self.tokens, self.starts = scaled(asked.tokens, self.exponent), asked.starts
        self.lengths = lengths(self.tokens)
        cuts = np.searchsorted(self.starts, np.arange(COLUMNS, self.starts[-1], COLUMNS))
        self.parts = np.unique([0, *cuts, len(self.starts) - 1]).tolist()
        """Queries whose vectors are multiplied together begin here."""

    def sums(self, products: Callable[[slice], NDArray[Any]], edges: Ints) -> tuple[Doubles, Doubles]:
        """Sums [q, n] of the largest products and of their amounts, given the bits of those of some columns."""
        values, amounts = np.empty((2, len(self.starts) - 1, len(edges) - 1))
        for first, last in zip(self.parts, self.parts[1:], strict=False):
            columns = slice(self.starts[first], self.starts[last])
            best = _numbers(_segment_max(products(columns), edges, fast=self.fast))
            starts = self.starts[first:last] - self.starts[first]
            values[first:last] = np.add.reduceat(best, starts, axis=1).T
            amounts[first:last] = np.add.reduceat(np.abs(best, out=best), starts, axis=1).T
        return values, amounts

    def bounded(self, values: Doubles, each: Doubles, more: Doubles | float, exponent: int) -> Bounded:
        """The values and their errors, without the scales.

        Args:
            values: [q, n].
            each: errors of every vector of the queries [c].
            more: further errors [q, n].
            exponent: scale of the documents.
        """
        errors = (np.add.reduceat(each, self.starts[:-1])[:, None] + more) * (1 + 1e-6)
        back = -self.exponent - exponent
        return Bounded(np.ldexp(values, back), np.ldexp(np.broadcast_to(errors, values.shape), back))


class WideScorer(_Cpu):
    """float32, NumPy."""

    def __call__(self, tokens: Floats, edges: Ints) -> Bounded:
        """As `Scorer`."""
        exponent = scale_of(tokens)
        tokens = scaled(tokens, exponent)
        values, _ = self.sums(lambda columns: (tokens @ self.tokens[columns].T).view(np.int32), edges)
        longest, _ = largest(tokens, tokens, fast=self.fast)
        return self.bounded(values, product_errors(self.lengths, longest, tokens.shape[1]), 0, exponent)


class NarrowScorer(_Cpu):
    """bfloat16, torch."""

    def __init__(self, asked: Asked, *, fast: bool) -> None:
        import torch

        super().__init__(asked, fast=fast)
        self._torch, self._narrow = torch, torch.from_numpy(self.tokens).bfloat16()
        rounded = self._narrow.float().numpy()
        self.apart, self.rounded = lengths(self.tokens - rounded), lengths(rounded)

    def __call__(self, tokens: Floats, edges: Ints) -> Bounded:
        """As `Scorer`."""
        exponent, torch = scale_of(tokens), self._torch
        tokens = scaled(tokens, exponent)
        narrow = torch.from_numpy(tokens).bfloat16()
        values, amounts = self.sums(lambda part: (narrow @ self._narrow[part].T).view(torch.int16).numpy(), edges)
        longest, apart = largest(tokens, narrow.float().numpy(), fast=self.fast)
        each = self.apart * longest + self.rounded * apart
        each += product_errors(self.rounded, longest + apart, tokens.shape[1])
        return self.bounded(values, each, ROUNDED * amounts, exponent)


class DeviceScorer:
    """float32 on a torch device."""

    def __init__(self, asked: Asked, device: str) -> None:
        import torch

        torch.set_float32_matmul_precision("highest")  # TF32 has a 10-bit mantissa; its error would exceed the bound
        self._torch, self._cpu, self._device = torch, _Cpu(asked, fast=False), device
        self._tokens = torch.from_numpy(self._cpu.tokens).to(device)
        counts = torch.from_numpy(np.diff(asked.starts))
        self._owners = torch.repeat_interleave(torch.arange(len(counts)), counts).to(device)

    def __call__(self, tokens: Floats, edges: Ints) -> Bounded:
        """As `Scorer`."""
        exponent, torch = scale_of(tokens), self._torch
        tokens = scaled(tokens, exponent)
        documents = torch.from_numpy(np.ascontiguousarray(tokens)).to(self._device)
        values = torch.zeros(len(self._cpu.starts) - 1, len(edges) - 1, dtype=torch.float64, device=self._device)
        offsets = torch.from_numpy(edges).to(self._device)
        for first, last in zip(self._cpu.parts, self._cpu.parts[1:], strict=False):
            part = slice(self._cpu.starts[first], self._cpu.starts[last])
            products = documents @ self._tokens[part].T
            best = torch.segment_reduce(products, "max", offsets=offsets, axis=0, unsafe=True)
            values.index_add_(0, self._owners[part], best.T.double())
        longest, _ = largest(tokens, tokens, fast=False)
        errors = product_errors(self._cpu.lengths, longest, tokens.shape[1])
        return self._cpu.bounded(values.cpu().numpy(), errors, 0, exponent)


def _segment_max(keys: NDArray[Any], edges: Ints, *, fast: bool) -> NDArray[Any]:
    """The bits of the largest number of every column in every segment of rows, of which none is empty."""
    sign, rest = (keys.dtype.type(value) for value in (8 * keys.itemsize - 1, np.iinfo(keys.dtype).max))
    if fast:
        from harness.search.maxsim_kernel import segment_max

        best = np.empty((len(edges) - 1, keys.shape[1]), keys.dtype)
        segment_max(keys, edges, sign, rest, best)
        return best
    keys ^= (keys >> sign) & rest  # ordered as the numbers are
    found: NDArray[Any] = np.maximum.reduceat(keys, edges[:-1], axis=0)
    found ^= (found >> sign) & rest
    return found


def _numbers(bits: NDArray[Any]) -> Doubles:
    """float32 or bfloat16 numbers, of their bits."""
    if bits.dtype == np.int16:
        bits = bits.astype(np.int32) << 16
    return bits.view(np.float32).astype(np.float64)
