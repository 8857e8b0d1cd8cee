"""Confidence intervals and significance tests on per-query values, with numpy and ``scipy.special`` only.

Intervals are percentile intervals of a hierarchical bootstrap (Davison and Hinkley 1997, section 3.8): datasets are
drawn with replacement, then queries within each draw, then seeds (training runs) where there are several. *The
estimand is the mean on datasets like these*: several datasets count as a sample, so the interval says how the mean
would move on other ones. With ``new_datasets=False``, and always with a single dataset, they are taken as given and
only queries are drawn. The quantiles are widened as proposed by Hesterberg (2015, The American Statistician 69,
"expanded percentile"), which corrects the bootstrap's variance in small samples.

Limitations: resampled means hardly exceed the range of the datasets' means, so over D datasets the intervals cover at
most about 1 - 2^(1 - D) (94% with five, 75% with three). As queries are resampled in
each drawn dataset, their noise counts twice; the intervals are too wide if it exceeds the differences of the datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, pi, sqrt

import numpy as np

from harness.metrics.bootstrap import Values, resample
from harness.system.blas import single_threaded

MANY = 50
"""Effective number of differences from which the saddlepoint approximation replaces random signs."""
CHUNK = 1 << 22
"""Random bytes (eight signs each) in memory at a time."""


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


def mean_interval(
    datasets: Sequence[Values],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    new_datasets: bool = True,
) -> Interval:
    """Interval of the unweighted mean of the datasets' means; per dataset [queries] or [seeds, queries].

    Row i is the same seed in every dataset; an array without seeds goes with any number of them. ValueError for an
    empty array and for unequal numbers of seeds.
    """
    means = resample([datasets], samples, seed, new_datasets)[:, 0]
    return _percentile(means, level, _independent(datasets, new_datasets))


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

    Seeds of the two are drawn independently. ValueError where datasets or queries do not match in number.
    """
    if len(first) != len(second) or any(a.shape[-1] != b.shape[-1] for a, b in zip(first, second, strict=True)):
        raise ValueError("a paired difference needs the same datasets and the same queries on both sides")
    if any(array.ndim > 1 for array in (*first, *second)):
        both = resample([first, second], samples, seed, new_datasets)
        means = both[:, 0] - both[:, 1]
    else:
        means = resample([[a - b for a, b in zip(first, second, strict=True)]], samples, seed, new_datasets)[:, 0]
    return _percentile(means, level, _independent(first, new_datasets))


def rank_intervals(
    models: Mapping[str, Sequence[Values]],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    new_datasets: bool = True,
) -> dict[str, tuple[int, int]]:
    """First and last plausible rank of each model (1 is the greatest mean), with simultaneous coverage ``level``.

    Every resample draws the same datasets and queries for all models, which must therefore match as in
    `difference_interval`. The ranks of a model begin after the models that are significantly better and end before
    those that are significantly worse, by the simultaneous band of all studentised pairwise differences (Mogstad,
    Romano, Shaikh and Wilhelm 2024, Review of Economic Studies 91). Ranks counted in resamples would have too little
    coverage: they favour one of several equal models.
    """
    if len({tuple(array.shape[-1] for array in arrays) for arrays in models.values()}) > 1:
        raise ValueError("ranks need the same datasets and the same queries of every model")
    means = resample([*models.values()], samples, seed, new_datasets)
    observed = np.array([np.mean([array.mean() for array in arrays]) for arrays in models.values()])
    widest = np.zeros(samples)
    spreads = np.zeros((len(models), len(models)))
    for place, own in enumerate(means.T):
        apart = (own[:, None] - means) - (observed[place] - observed)
        spreads[place] = apart.std(axis=0)
        known = spreads[place] > 1e-12
        if known.any():
            np.maximum(widest, np.abs(apart[:, known] / spreads[place, known]).max(axis=1), out=widest)
    outside = 2 * _tail(level, _independent(next(iter(models.values()), ()), new_datasets)) if models else 0
    margin = np.quantile(widest, 1 - outside) * spreads + 1e-12
    gaps = observed[:, None] - observed
    better, worse = (gaps < -margin).sum(axis=1), (gaps > margin).sum(axis=1)
    return {model: (int(1 + b), int(len(models) - w)) for model, b, w in zip(models, better, worse, strict=True)}


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


def smallest_effect(differences: Values, *, power: float = 0.8, alpha: float = 0.05) -> float:
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


def _independent(datasets: Sequence[Values], new_datasets: bool) -> int:
    """Sample size that limits an interval."""
    return len(datasets) if new_datasets and len(datasets) > 1 else sum(array.shape[-1] for array in datasets)


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
