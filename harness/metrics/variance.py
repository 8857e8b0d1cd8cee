"""The variance of a mean as a sum of independent parts: queries or clusters, datasets, and training runs.

An interval from several parts, of which some rest on a few runs, is Banerjee's (1960, Sankhya 22): its half width is
the root of the sum of each part's own squared half width, t^2 x variance. It covers *at least* as often as it says,
whatever the true sizes of the parts. Welch's interval with Satterthwaite's degrees of freedom is narrower, but covers
87% instead of 95% where two runs are the only ones of a side (docs/statistics.md has the simulation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Source = Literal["queries", "datasets", "runs"]
LOWEST = -690.0
"""Logarithm of the smallest p that is told from 0."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; from -inf to inf if it is undefined (a single query)."""

    low: float
    high: float
    level: float = 0.95

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends for JSON, which has no infinity; None if the interval is undefined."""
        return (self.low, self.high) if isfinite(self.low) and isfinite(self.high) else None


@dataclass(frozen=True, slots=True)
class Part:
    """An independent part of the variance of a mean."""

    source: Source
    variance: float
    """Of the mean, as far as this source goes; infinite if it is unknown."""
    freedom: float
    """Degrees of freedom that it is estimated with."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean, or a difference of means, and the parts of its variance."""

    mean: float
    parts: tuple[Part, ...]

    @property
    def error(self) -> float:
        """Standard error."""
        return sqrt(sum(part.variance for part in self.parts))

    def interval(self, level: float = 0.95) -> Interval:
        """The interval of this level, or of a greater one."""
        half = self._half_width(1 - level)
        return Interval(self.mean - half, self.mean + half, level)

    def p(self) -> float:
        """Two-sided p of no difference: 1 minus the level of the interval that just reaches 0."""
        from scipy.special import stdtr

        if not self.mean:
            return 1.0
        if not self.error:
            return 0.0
        if len(self.parts) == 1:
            return float(2 * stdtr(self.parts[0].freedom, -abs(self.mean) / self.error))
        low, high = LOWEST, 0.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._half_width(exp(middle)) > abs(self.mean) else (low, middle)
        return exp(high)

    def smallest_effect(self, *, power: float = 0.8, alpha: float = 0.05) -> float:
        """The smallest difference that is found at ``alpha`` with a chance of ``power``.

        Exact for one part (noncentral t), else the half width and the normal quantile of the power; inf if unknown.
        """
        from scipy.special import nctdtrinc, ndtri, stdtrit

        if not isfinite(self.error):
            return inf
        if len(self.parts) == 1:
            freedom = self.parts[0].freedom
            return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, 1 - alpha / 2)) * self.error)
        return self._half_width(alpha) + float(ndtri(power)) * self.error

    def _half_width(self, alpha: float) -> float:
        from scipy.special import stdtrit

        parts = [part for part in self.parts if part.variance > 0]
        return sqrt(sum(float(stdtrit(part.freedom, alpha / 2)) ** 2 * part.variance for part in parts))


def spread(models: Sequence[Sequence[Values]], *, new_datasets: bool) -> Spread:
    """The sum over models of their mean over datasets, and its variance.

    Args:
        models: Per model and dataset values [queries] or [runs, queries], the same queries for all models; a model
            that is subtracted comes with its sign changed. Row i is the same run in every dataset.
        new_datasets: Whether the datasets are a sample. Their spread then stands for that of the queries, too, which
            is in it.

    The spread of a model's runs is in it if it has more than one.
    """
    if not models or not models[0] or any(array.size == 0 for arrays in models for array in arrays):
        raise ValueError("there is nothing to compute from: no datasets, or one without queries")
    if any(len({len(array) for array in arrays if array.ndim > 1}) > 1 for arrays in models):
        raise ValueError("the datasets have different numbers of seeds")
    combined = [np.sum([over_runs(array) for array in arrays], axis=0) for arrays in zip(*models, strict=True)]
    means = np.array([array.mean() for array in combined])
    parts = [_of_datasets(means) if new_datasets and len(means) > 1 else _of_queries(combined)]
    return Spread(float(means.mean()), (*parts, *(part for arrays in models for part in _of_runs(arrays))))


def over_runs(values: Values) -> Values:
    """Values [queries] as the mean over the runs of values [runs, queries]."""
    return np.asarray(values.mean(axis=0)) if values.ndim > 1 else values


def has_runs(arrays: Sequence[Values]) -> bool:
    """Whether the values are of more than one run."""
    return any(array.ndim > 1 and len(array) > 1 for array in arrays)


def _of_datasets(means: Values) -> Part:
    return Part("datasets", float(means.var(ddof=1)) / len(means), len(means) - 1)


def _of_queries(datasets: Sequence[Values]) -> Part:
    """Of the mean over these very datasets, with Satterthwaite's degrees of freedom."""
    if min(map(len, datasets)) < 2:
        return Part("queries", inf, 1)
    variances = np.array([array.var(ddof=1) / len(array) for array in datasets])
    freedoms = np.array([len(array) - 1 for array in datasets])
    total = float(variances.sum())
    freedom = total**2 / float((variances**2 / freedoms).sum()) if total else float(freedoms.sum())
    return Part("queries", total / len(datasets) ** 2, freedom)


def _of_runs(arrays: Sequence[Values]) -> list[Part]:
    if not has_runs(arrays):
        return []
    runs = np.mean(np.stack(np.broadcast_arrays(*(np.atleast_2d(array).mean(axis=1) for array in arrays))), axis=0)
    return [Part("runs", float(runs.var(ddof=1)) / len(runs), len(runs) - 1)]
