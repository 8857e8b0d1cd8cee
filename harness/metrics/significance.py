"""Confidence intervals and significance tests on per-query values, with numpy and ``scipy.special`` only.

The sample is stated by the caller:

- ``new_datasets=True`` and several datasets: the datasets. *The estimand is the mean on datasets like these.*
  Intervals are those of Student's t over the datasets' means, which contain the noise of the queries.
- Otherwise the queries of these very datasets, by the bootstrap: percentile intervals, their quantiles widened as
  proposed by Hesterberg (2015, The American Statistician 69, "expanded percentile").
- Values of several training runs, [runs, queries]: their spread is added (harness/metrics/variance.py).

For queries that are not independent, give values by cluster (`harness.metrics.clusters.per_cluster`) to everything but
the randomisation test, which takes the clusters' sums. docs/statistics.md has assumptions, simulations and sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import exp, inf, log, pi, sqrt

import numpy as np

from harness.metrics.bootstrap import Values, resample
from harness.metrics.variance import Interval as Interval
from harness.metrics.variance import has_runs, over_runs, spread
from harness.system.blas import single_threaded

ALPHA = 0.05
"""Chance of a false finding in a whole table."""
MANY = 50
"""Effective number of differences from which the saddlepoint approximation replaces random signs."""
CHUNK = 1 << 22
"""Random bytes (eight signs each) in memory at a time."""


def mean_interval(
    datasets: Sequence[Values],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    new_datasets: bool = True,
) -> Interval:
    """Interval of the unweighted mean of the datasets' means; per dataset [queries] or [runs, queries].

    Row i is the same run in every dataset; an array without runs goes with any number of them. ValueError for an
    empty array and for unequal numbers of runs.
    """
    return interval_of_sum([datasets], level=level, samples=samples, seed=seed, new_datasets=new_datasets)


def difference_interval(
    first: Sequence[Values],
    second: Sequence[Values],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    new_datasets: bool = True,
) -> Interval:
    """Interval of the mean of ``first`` minus ``second``, paired: the same datasets and queries, in the same order.

    Runs of the two are independent. ValueError where datasets or queries do not match in number.
    """
    if len(first) != len(second) or any(a.shape[-1] != b.shape[-1] for a, b in zip(first, second, strict=True)):
        raise ValueError("a paired difference needs the same datasets and the same queries on both sides")
    both = [first, [-array for array in second]]
    return interval_of_sum(both, level=level, samples=samples, seed=seed, new_datasets=new_datasets)


def interval_of_sum(
    models: Sequence[Sequence[Values]],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    new_datasets: bool = True,
) -> Interval:
    """Interval of the sum over models of their mean over datasets; per model and dataset as in `mean_interval`.

    All models have the same queries; one that is subtracted comes with its sign changed.
    """
    if (new_datasets and len(models[0]) > 1) or any(map(has_runs, models)):
        return spread(models, new_datasets=new_datasets).interval(level)
    combined = [sum(map(over_runs, arrays), start=np.zeros(1)) for arrays in zip(*models, strict=True)]
    return _percentile(resample([combined], samples, seed)[:, 0], level, _independent(combined))


def rank_intervals(
    models: Mapping[str, Sequence[Values]], *, level: float = 0.95, new_datasets: bool = True
) -> dict[str, tuple[int, int]]:
    """First and last plausible rank of each model (1 is the greatest mean), with simultaneous coverage ``level``.

    The ranks of a model begin after the models that are significantly better and end before those that are
    significantly worse (Mogstad, Romano, Shaikh and Wilhelm 2024, Review of Economic Studies 91), by t-tests of all
    pairs with Bonferroni's correction. The band of a bootstrap maximum, which is narrower for many models with many
    queries, is wrong in up to 68% of tables over few datasets and in up to 10% with few clusters. Ranks counted in
    resamples would have too little coverage: they favour one of several equal models.
    """
    if len({tuple(array.shape[-1] for array in arrays) for arrays in models.values()}) > 1:
        raise ValueError("ranks need the same datasets and the same queries of every model")
    arrays = [*models.values()]
    pairs = [*combinations(range(len(arrays)), 2)]
    worse = np.zeros((len(arrays), len(arrays)), bool)  # [i, j]: whether model i is worse than model j
    for i, j in pairs:
        apart = spread([arrays[i], [-array for array in arrays[j]]], new_datasets=new_datasets)
        worse[(i, j) if apart.mean < 0 else (j, i)] = apart.p() <= (1 - level) / len(pairs)
    first, last = 1 + worse.sum(axis=1), len(arrays) - worse.sum(axis=0)
    return {model: (int(low), int(high)) for model, low, high in zip(models, first, last, strict=True)}


def randomisation_test(differences: Values, *, samples: int = 100_000, seed: int = 0) -> float:
    """Two-sided p value of a paired randomisation test.

    How often the mean of the differences [queries] lies as far from 0 with random signs (Fisher 1935; for retrieval
    Smucker, Allan and Carterette 2007).

    Zeros change nothing and are left out. Exact where there are no more than ``samples`` choices of signs. From `MANY`
    effective differences on the saddlepoint approximation of their sum's law (Robinson 1982, Journal of the Royal
    Statistical Society B 44), corrected for a common step of the differences: within some 3% of p, also far below what
    random signs can show, but too great where nearly all differences have one size and one sign. Otherwise
    (count + 1) / (samples + 1) of random signs (Phipson and Smyth 2010). No difference at all: 1.
    """
    sizes = np.abs(differences[differences != 0.0])
    observed = abs(float(differences.sum())) - 1e-12 * float(sizes.sum())
    if not len(sizes) or observed <= 0:
        return 1.0
    if len(sizes) < 63 and 2 ** len(sizes) <= samples:
        sums = np.zeros(1)
        for size in sizes[1:]:
            sums = np.concatenate([sums - size, sums + size])
        return float(np.mean(np.abs(sums + sizes[0]) >= observed))
    squares = sizes**2
    if squares.sum() ** 2 / (squares**2).sum() >= MANY:
        return _saddlepoint(sizes, observed - _step(sizes))
    count = sum(int((np.abs(sums) >= observed).sum()) for sums in _signed_sums(sizes, samples, seed))
    return (count + 1) / (samples + 1)


def paired_t(differences: Values) -> tuple[float, float]:
    """T and two-sided p of no difference (Student 1908) from differences [queries].

    (0, 1) for fewer than two queries or without any difference; infinite t and p 0 for equal differences other
    than 0.
    """
    from scipy.special import stdtr

    n = len(differences)
    if n < 2 or not differences.any():
        return 0.0, 1.0
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / sqrt(n)
    if error <= 1e-15 * abs(mean):
        return (inf if mean > 0 else -inf), 0.0
    t = mean / error
    return t, float(2 * stdtr(n - 1, -abs(t)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the given order, which control the family-wise error rate (Holm 1979)."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def smallest_effect(differences: Values, *, power: float = 0.8, alpha: float = ALPHA) -> float:
    """The smallest mean difference that a test of this power detects.

    Of a two-sided paired t-test at ``alpha``, with as many queries and as much spread (noncentral t; Cohen 1988,
    section 2.3; the chance of the wrong sign is left out).

    inf with fewer than two queries.
    """
    n = len(differences)
    return (
        smallest_effect_by_error(differences.std(ddof=1) / sqrt(n), n - 1, power=power, alpha=alpha) if n > 1 else inf
    )


def smallest_effect_by_error(error: float, freedom: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """`smallest_effect` for a standard error of the mean difference with these degrees of freedom."""
    from scipy.special import nctdtrinc, stdtrit

    return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, 1 - alpha / 2)) * error)


def as_one(members: Sequence[Values]) -> Values:
    """Concatenate the datasets of a group to one dataset [queries] or [seeds, queries].

    Its mean is the unweighted mean of the members' means, and the mean of a resample of it varies as that of resamples
    within each member would: every member's deviations are scaled to the weight of its queries.
    """
    means = [array.mean(axis=-1, keepdims=True) for array in members]
    centre = np.mean(np.broadcast_arrays(*means), axis=0)
    total = sum(array.shape[-1] for array in members)
    scaled = [
        centre + (array - mean) * (total / (len(members) * array.shape[-1]))
        for array, mean in zip(members, means, strict=True)
    ]
    return np.concatenate(scaled, axis=-1)


def _independent(datasets: Sequence[Values]) -> int:
    """Sample size that limits an interval."""
    return sum(array.shape[-1] for array in datasets)


def _tail(level: float, n: int) -> float:
    """Share of resamples beyond each end (Hesterberg's expanded percentile)."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2))) if n > 1 else 0.0


def _percentile(means: Values, level: float, n: int) -> Interval:
    if n < 2:
        return Interval(-inf, inf, level)
    tail = _tail(level, n)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def _step(sizes: Values) -> float:
    """The common step of the sizes (1 for differences of 0 and 1); 0 if there is none."""
    smallest = float(sizes.min())
    parts = sizes / smallest
    return smallest if np.abs(parts - np.rint(parts)).max() < 1e-6 else 0.0


def _saddlepoint(sizes: Values, observed: float) -> float:
    """Chance that the sum of the sizes under random signs is ``observed`` or more away from 0 (Lugannani and Rice)."""
    from scipy.special import ndtr

    if observed >= sizes.sum() * (1 - 1e-9):  # all signs alike
        return float(2.0 ** (1 - len(sizes)))
    tilt = max(observed, 0) / (sizes**2).sum()
    for _ in range(100):  # Newton from below on a concave function: no step overshoots
        faded = np.exp(-2 * tilt * sizes)
        mean, variance = (sizes * (1 - faded) / (1 + faded)).sum(), (sizes**2 * 4 * faded / (1 + faded) ** 2).sum()
        tilt += (step := (observed - mean) / variance)
        if abs(step) <= 1e-10 * tilt:
            break
    generating = (tilt * sizes + np.log1p(np.exp(-2 * tilt * sizes)) - log(2)).sum()
    distance = sqrt(max(0.0, 2 * (tilt * observed - generating)))
    if distance < 0.01:
        return float(2 * ndtr(-distance))
    density = exp(-(distance**2) / 2) / sqrt(2 * pi)
    return float(min(1.0, 2 * (ndtr(-distance) + density * (1 / (tilt * sqrt(variance)) - 1 / distance))))


def _signed_sums(sizes: Values, samples: int, seed: int) -> Iterator[Values]:
    """Sums of the sizes under random signs, in chunks; eight signs are one lookup in a table of their 256 sums."""
    padded = np.concatenate([sizes, np.zeros(-len(sizes) % 8)]).reshape(-1, 8)
    signs = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    with single_threaded():
        tables = padded @ signs.T
    rng = np.random.default_rng(seed)
    for start in range(0, samples, step := max(1, CHUNK // len(tables))):
        drawn = rng.integers(256, size=(len(tables), min(step, samples - start)), dtype=np.uint8)
        yield np.sum([table[choice] for table, choice in zip(tables, drawn, strict=True)], axis=0)
