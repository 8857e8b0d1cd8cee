"""First and second moments of vectors in one streaming pass, in float64, merged as by Chan, Golub and LeVeque 1979.

The result depends only on the vectors and their order, not on the block sizes, threads or processes: sums are computed
over `BLOCK` rows, each in one thread, then over `PART` rows, then over all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from harness.system.blas import thread_pool
from harness.system.environment import cores
from harness.types import UserError

Floats = NDArray[np.float64]

SAMPLE = 2000
"""Sample size for values over pairs of vectors."""
BLOCK = 4096
"""Rows converted to float64 at a time."""
PART = 1 << 18
"""Rows per partial sum, whether they are computed by one process or by several."""


class Moments:
    """Mergeable state over n vectors of ``dim`` dimensions, all float64."""

    def __init__(self, dim: int):
        self.n = 0
        self.mean: Floats = np.zeros(dim)
        self.scatter: Floats = np.zeros((dim, dim))
        """sum over vectors of (x - mean)(x - mean)^T"""
        self.unit_sum: Floats = np.zeros(dim)
        self.zeros = 0
        """number of zero vectors, which have no direction"""
        self.norm_mean = 0.0
        self.norm_scatter = 0.0
        self._memory: list[Floats] = []
        """A reused float64 block per thread: page faults of new memory would cost as much as the work."""

    def update(self, block: NDArray[np.float32]) -> None:
        """Add the rows of ``block`` [m, dim]. UserError if one contains NaN or infinity."""
        pieces = [block[start : start + BLOCK] for start in range(0, len(block), BLOCK)]
        if pieces and (len(self._memory) < min(cores(), len(pieces)) or len(self._memory[0]) < len(pieces[0])):
            self._memory = [np.empty((len(pieces[0]), len(self.mean))) for _ in range(min(cores(), len(pieces)))]
        with thread_pool() as pool:
            while pieces:
                for state in pool.map(_of_block, pieces, self._memory):  # one piece for each block of memory
                    self._absorb(state)
                pieces = pieces[len(self._memory) :]

    def packed(self) -> Floats:
        """Serialise the state as an array [(dim + 1)^2 + 3]."""
        counted = [float(self.n), float(self.zeros), self.norm_mean, self.norm_scatter]
        return np.concatenate([counted, self.mean, self.unit_sum, self.scatter.ravel()])

    @classmethod
    def unpacked(cls, numbers: Floats) -> Moments:
        """Restore a state from `packed`."""
        state = cls(dim := math.isqrt(len(numbers) - 3) - 1)
        state.n, state.zeros = int(numbers[0]), int(numbers[1])
        state.norm_mean, state.norm_scatter = map(float, numbers[2:4])
        state.mean, state.unit_sum = numbers[4 : 4 + 2 * dim].reshape(2, dim).copy()
        state.scatter = numbers[4 + 2 * dim :].reshape(dim, dim).copy()
        return state

    def merge(self, other: Moments) -> Moments:
        """Return the state over both sets of vectors; the operands are unchanged."""
        merged = Moments(len(self.mean))
        merged._absorb(self)
        merged._absorb(other)
        return merged

    def _absorb(self, other: Moments) -> None:
        if not other.n:
            return
        n = self.n + other.n
        weight, share = self.n * other.n / n, other.n / n
        shift, norm_shift = other.mean - self.mean, other.norm_mean - self.norm_mean
        self.scatter += other.scatter
        self.scatter += weight * np.outer(shift, shift)
        self.mean = self.mean + shift * share
        self.norm_scatter += other.norm_scatter + weight * norm_shift**2
        self.norm_mean += norm_shift * share
        self.unit_sum = self.unit_sum + other.unit_sum
        self.zeros += other.zeros
        self.n = n


def _of_block(block: NDArray[np.float32], memory: Floats) -> Moments:
    """State over the m rows of ``block``; ``memory`` [at least m, dim] is overwritten.

    The first row is subtracted first, which leaves equal rows exactly 0.
    """
    rows = memory[: len(block)]
    rows[:] = block
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not np.isfinite(norms).all():
        raise UserError("The vectors hold NaN or infinity, so their geometry is undefined; fix the model.")
    state = Moments(rows.shape[1])
    state.n = len(rows)
    state.unit_sum = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0) @ rows
    state.zeros = int((norms == 0).sum())
    state.norm_mean = float(norms.mean())
    state.norm_scatter = float(((norms - state.norm_mean) ** 2).sum())
    first = rows[0].copy()
    rows -= first
    offset = np.ones(len(rows)) @ rows / len(rows)
    rows -= offset
    state.mean = first + offset
    state.scatter = rows.T @ rows
    return state


Part = tuple[Moments, NDArray[np.float32]]
"""The moments of some vectors, and those of them that are in the sample [s, d]."""


def parts(blocks: Iterable[NDArray[np.float32]], n: int, start: int = 0) -> Iterator[Part]:
    """Yield a `Part` for every `PART` rows of n; the blocks [m, d] hold the rows from ``start`` on.

    The result is the same for all block sizes that are a multiple of `BLOCK` rows (`aligned`).
    """
    wanted = np.arange(min(SAMPLE, n)) * n // min(SAMPLE, max(n, 1))
    state: Moments | None = None
    kept: list[NDArray[np.float32]] = []
    for block in blocks:
        for piece in np.split(block, range(PART - start % PART, len(block), PART)):
            state = state or Moments(piece.shape[1])
            state.update(piece)
            kept.append(piece[wanted[(wanted >= start) & (wanted < start + len(piece))] - start])
            start += len(piece)
            if start % PART == 0:
                yield state, np.concatenate(kept)
                state, kept = None, []
    if state is not None:
        yield state, np.concatenate(kept)


def joined(several: Iterable[Part]) -> Part:
    """Merge parts in order. ValueError if there are none."""
    whole: Moments | None = None
    kept = []
    for state, sample in several:
        whole = whole or Moments(len(state.mean))
        whole._absorb(state)
        kept.append(sample)
    if whole is None:
        raise ValueError("0 vectors arrived")
    return whole, np.concatenate(kept)


def aligned(rows: int) -> int:
    """Round a number of rows down to a multiple of `BLOCK` (at least one)."""
    return max(1, rows // BLOCK) * BLOCK


def collect(blocks: Iterable[NDArray[np.float32]], n: int) -> Part:
    """Moments of n vectors given as blocks [m, d], and `SAMPLE` evenly spaced rows. ValueError if n is wrong."""
    found = joined(parts(blocks, n))
    if found[0].n != n:
        raise ValueError(f"{found[0].n} vectors arrived, {n} were announced")
    return found
