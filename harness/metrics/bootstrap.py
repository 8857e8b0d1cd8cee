"""The bootstrap of means over given datasets: queries (or clusters of them) drawn with replacement.

Trade-off: with `LARGE` queries or more, resampled means are drawn from their limiting distribution instead: the normal
distribution with the covariance of the sample, corrected for skewness (Cornish and Fisher 1938). The error is of order
1/queries, below the noise of 10,000 resamples. Explicit resampling of 10,000 queries takes seconds, and a report needs
hundreds. All results are deterministic functions of the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from harness.system.blas import single_threaded

Values = NDArray[np.float64]
LARGE = 256
"""Minimum number of queries for the limiting distribution, unless the means are very skewed."""
SKEWED = 0.3
"""Skewness of a resampled mean above which queries are resampled explicitly."""
CHUNK = 1 << 22
"""Random numbers in memory at a time: about 50 MB."""


def resample(blocks: Sequence[Sequence[Values]], samples: int, seed: int) -> Values:
    """Resampled means of means [samples, blocks]; a block is one model's arrays [queries], one per dataset."""
    if not blocks or not blocks[0] or any(array.size == 0 for arrays in blocks for array in arrays):
        raise ValueError("there is nothing to draw from: no datasets, or one without queries")
    pools = [
        _means(np.stack([arrays[place] for arrays in blocks]), samples, (seed, place))
        for place in range(len(blocks[0]))
    ]
    return np.asarray(np.mean(pools, axis=0))


@single_threaded()
def _means(rows: Values, samples: int, seed: tuple[int, int]) -> Values:
    """Resampled means [samples, rows] of values [rows, queries]; all rows see the same queries."""
    n = rows.shape[1]
    centre = rows.mean(axis=1)
    around = rows - centre[:, None]
    spread = np.sqrt((around**2).mean(axis=1))
    cubes = (around**3).mean(axis=1)
    skewness = np.divide(cubes, spread**3 * sqrt(n), out=np.zeros_like(cubes), where=spread > 1e-12)
    if n < LARGE or np.abs(skewness).max() > SKEWED:
        return np.asarray(np.concatenate([counts @ rows.T for counts in _counts(n, samples, seed)]) / n)
    values, vectors = np.linalg.eigh(around @ around.T / n)
    normal = np.random.default_rng(seed).standard_normal((samples, len(rows)))
    moved = normal @ (vectors * np.sqrt(np.maximum(values, 0))).T
    standard = np.divide(moved, spread, out=np.zeros_like(moved), where=spread > 1e-12)
    return np.asarray(centre + spread / sqrt(n) * (standard + skewness / 6 * (standard**2 - 1)))


def _counts(n: int, samples: int, seed: tuple[int, int]) -> Iterator[Values]:
    """Yield how often each resample contains each query, in chunks [samples, n]."""
    if n < LARGE:
        yield _few_counts(n, samples, seed).astype(np.float64)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, samples, step := max(1, CHUNK // n)):
        yield _count(n, min(step, samples - start), rng).astype(np.float64)


@lru_cache(maxsize=64)
def _few_counts(n: int, samples: int, seed: tuple[int, int]) -> NDArray[np.uint8]:
    """The counts of a small dataset, cached because all models are resampled with the same counts."""
    return _count(n, samples, np.random.default_rng(seed)).astype(np.uint8)


def _count(n: int, samples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    drawn = rng.integers(n, size=(samples, n), dtype=np.int64)
    drawn += n * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * n).reshape(samples, n)
