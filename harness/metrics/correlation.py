"""Rank correlation with intervals and tests, and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import atanh, copysign, inf, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from harness.metrics.clusters import Codes
from harness.metrics.significance import Interval
from harness.system.blas import single_threaded

Floats = NDArray[np.float64]
FEWEST = 5
"""With fewer units even a perfect order fails a two-sided permutation test at 5%: 2/4! is 8%, 2/5! is 1.7%."""
EXACT = 8
"""Largest number of units for the exact permutation test."""
SAMPLES = 20_000
CHUNK = 1 << 22
"""Numbers in memory at a time in the bootstrap."""


def ranks(values: Floats) -> Floats:
    """From 1, equal values sharing the mean of their ranks."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[group]


def spearman(x: Floats, y: Floats) -> float | None:
    """Spearman's correlation of n pairs (ties: mean ranks); None if either side is constant."""
    return stratified([(x, y)])


@single_threaded()
def stratified(strata: Sequence[tuple[Floats, Floats]]) -> float | None:
    """Correlation of ranks taken within each stratum, centred there and scaled by its size; None without variation.

    Differences between strata (some datasets are hard for all models) have no effect. With one stratum it is
    Spearman's; with strata of one size without ties, the mean of theirs.
    """
    first, second = (np.concatenate([_centred(side[place]) for side in strata]) for place in (0, 1))
    size = float(first @ first) * float(second @ second)
    if not size > 0:
        return None
    rho = float(first @ second) / sqrt(size)
    return rho if abs(rho) < 1 - 1e-12 else copysign(1.0, rho)


def _centred(values: Floats) -> Floats:
    return ranks(values) / (len(values) + 1) - 0.5 if len(values) else values


def spearman_interval(rho: float, n: int, level: float = 0.95) -> Interval:
    """Confidence interval of Spearman's correlation of n pairs.

    Fisher's z with the variance (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000, Psychometrika 65).

    A perfect order, whose z is infinite, is replaced by one that is half a swap of neighbours away. From -inf to inf
    with fewer than `FEWEST` pairs.
    """
    from scipy.special import ndtri

    if n < FEWEST:
        return Interval(-inf, inf, level)
    most = 1 - 6 / (n * (n * n - 1))
    short = max(-most, min(most, rho))
    width = float(ndtri((1 + level) / 2)) * sqrt((1 + short**2 / 2) / (n - 3))
    low, high = tanh(atanh(short) - width), tanh(atanh(short) + width)
    return Interval(-1.0 if rho == -1 else low, 1.0 if rho == 1 else high, level)


@single_threaded()
def profile_test(x: Floats, y: Floats, *, samples: int = SAMPLES, seed: int = 0) -> float | None:
    """Two-sided p of no association between x and y [units, strata], NaN where a unit is not in a stratum.

    Whole rows of x are permuted among the units: a unit (a model) is one draw, however many strata (datasets) it was
    measured in. Exact up to `EXACT` units; else (count + 1) / (samples + 1). None with fewer than `FEWEST`.
    """
    units = len(x)
    if units < FEWEST:
        return None
    first, second = np.zeros_like(x), np.zeros_like(y)
    for stratum in range(x.shape[1]):
        there = np.isfinite(x[:, stratum]) & np.isfinite(y[:, stratum])
        first[there, stratum], second[there, stratum] = _centred(x[there, stratum]), _centred(y[there, stratum])
    products = first @ second.T
    observed = abs(float(np.trace(products))) - 1e-9
    if units <= EXACT:
        orders = np.array(list(permutations(range(units))))
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(units), (samples, 1)), axis=1)
    sums = np.abs(products[orders, np.arange(units)].sum(axis=1))
    count = int((sums >= observed).sum())
    return count / len(orders) if units <= EXACT else (count + 1) / (samples + 1)


def bootstrap_interval(
    x: Floats, y: Floats, codes: Codes | None = None, *, level: float = 0.95, samples: int = 2_000, seed: int = 0
) -> Interval:
    """Percentile interval of Spearman's correlation over bootstrap resamples of the n pairs.

    Suitable for many ties, which the formula of `spearman_interval` assumes do not exist. From -inf to inf with fewer
    than 10 pairs (or clusters), or if either side is constant.

    Args:
        x: [n]
        y: [n]
        codes: The cluster of each pair [n], if some are not independent: whole clusters are drawn.
        level: Of confidence.
        samples: Number of resamples.
        seed: Of the draws.
    """
    units = len(x) if codes is None else int(codes.max(initial=-1)) + 1
    if units < 10 or spearman(x, y) is None:
        return Interval(-inf, inf, level)
    found = _resampled(x, y, codes, samples, seed)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def clustered_p(p: float, x: Floats, y: Floats, codes: Codes | None) -> float:
    """The two-sided p of a rank correlation under the normal law, with clusters: z over the root of the design effect.

    The design effect is the variance of Spearman's correlation over resamples of clusters, over that over resamples of
    pairs; at least 1.

    Args:
        p: As if the pairs were independent.
        x: [n]
        y: [n]
        codes: The cluster of each pair [n]; None: each is its own, and ``p`` is returned.
    """
    from scipy.special import ndtr, ndtri

    if codes is None or not 0 < p < 1:
        return p
    clustered, simple = (float(_resampled(x, y, each, 2_000, 0).var()) for each in (codes, None))
    effect = max(1.0, clustered / simple) if simple > 0 else 1.0
    return float(2 * ndtr(ndtri(p / 2) / sqrt(effect)))


def _resampled(x: Floats, y: Floats, codes: Codes | None, samples: int, seed: int) -> Floats:
    """Spearman's correlation [samples] of resamples with replacement of the pairs, or of whole clusters of them."""
    n = len(x)
    units = n if codes is None else int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    for start in range(0, samples, step := max(1, CHUNK // n)):
        weights = rng.multinomial(units, np.full(units, 1 / units), size=min(step, samples - start)).astype(np.float64)
        weights = weights if codes is None else weights[:, codes]
        first, second = (_weighted_ranks(side, weights) for side in (x, y))
        upper = (weights * first * second).sum(axis=1)
        lower = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
        found.append(np.divide(upper, np.sqrt(lower), out=np.zeros(len(upper)), where=lower > 0))
    return np.concatenate(found)


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Centred ranks [samples, n] of n values, each repeated by its weight [samples, n]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    held = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(held, axis=1) - held / 2
    centred: Floats = middle - weights.sum(axis=1, keepdims=True) / 2
    return centred[:, group]


def kendall(x: Floats, y: Floats) -> tuple[float, float] | None:
    """Kendall's tau-b and its two-sided p (normal law, corrected for ties); None if either side is constant."""
    from scipy.stats import kendalltau

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = kendalltau(x, y, method="asymptotic")
    return float(found.statistic), float(found.pvalue)


def risk_coverage(confidence: Floats, risk: Floats) -> Floats:
    """Mean risk [n] of the 1, 2, ... n most confident; equally confident items are in random order (expected curve).

    The mean of the curve is the area under it (AURC; Geifman, Uziel and El-Yaniv 2019). Without any order it is the
    mean risk; the minimum over all orders is that of ``confidence = -risk``.
    """
    _, group = np.unique(-confidence, return_inverse=True)
    mean = np.bincount(group, risk) / np.bincount(group)
    shared = mean[group][np.argsort(group, kind="stable")]
    return np.cumsum(shared) / np.arange(1, len(risk) + 1)
