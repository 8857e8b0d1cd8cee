"""Variances of a mean in parts, against closed forms, scipy and simulations."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy import stats

from harness.metrics.variance import Part, Spread, spread

RNG = np.random.default_rng


def test_one_part_is_students_t() -> None:
    means = RNG(1).normal(0.3, 0.2, 7)
    found = spread([[np.array([mean]) for mean in means]], new_datasets=True)
    theirs = stats.ttest_1samp(means, 0)
    assert found.p() == pytest.approx(theirs.pvalue)
    interval, expected = found.interval(), theirs.confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    effect = found.smallest_effect(power=0.8, alpha=0.01)
    shift = effect / stats.sem(means)
    assert stats.nct.sf(stats.t.isf(0.005, 6), 6, shift) == pytest.approx(0.8, abs=1e-6)


def test_queries_and_runs_by_hand() -> None:
    rng = RNG(2)
    first = rng.normal(0, 1, 200) + rng.normal(0, 0.1, 3)[:, None] + rng.normal(0, 0.3, (3, 200))
    second = rng.normal(0, 1, 200)
    found = spread([[first], [-second]], new_datasets=False)
    queries, runs = found.parts
    apart = first.mean(axis=0) - second
    assert found.mean == pytest.approx(apart.mean())
    assert [(part.source, part.freedom) for part in found.parts] == [("queries", 199), ("runs", 2)]
    assert queries.variance == pytest.approx(apart.var(ddof=1) / 200)
    assert runs.variance == pytest.approx(first.mean(axis=1).var(ddof=1) / 3)
    half = np.sqrt(stats.t.ppf(0.975, 199) ** 2 * queries.variance + stats.t.ppf(0.975, 2) ** 2 * runs.variance)
    assert found.interval().high - found.mean == pytest.approx(half)


def test_p_and_interval_never_disagree() -> None:
    rng = RNG(3)
    for _ in range(50):
        parts = tuple(Part("runs", rng.exponential(), freedom) for freedom in (300, 1, 4))
        found = Spread(rng.normal(0, 4), parts)
        interval = found.interval(1 - found.p())
        assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-6 * abs(found.mean))
        assert (found.p() <= 0.05) == (not found.interval().low <= 0 <= found.interval().high)


def test_runs_are_averaged_over_datasets() -> None:
    rng = RNG(4)
    arrays = [rng.normal(0, 1, (4, n)) for n in (30, 50)]
    found = spread([arrays], new_datasets=True)
    means = np.array([array.mean(axis=1) for array in arrays])
    assert [part.source for part in found.parts] == ["datasets", "runs"]
    assert found.parts[0].variance == pytest.approx(means.mean(axis=1).var(ddof=1) / 2)
    assert found.parts[1].variance == pytest.approx(means.mean(axis=0).var(ddof=1) / 4)


def test_what_is_not_known_is_infinite() -> None:
    found = spread([[np.array([0.5])]], new_datasets=True)
    assert found.interval().ends is None
    assert (found.p(), found.smallest_effect()) == (1.0, inf)
    assert Spread(0.0, (Part("queries", 0.0, 5),)).p() == 1
    assert Spread(0.1, (Part("queries", 0.0, 5),)).p() == 0


@pytest.mark.parametrize(("share", "runs"), [(0.1, 2), (1, 2), (10, 2), (1, 3), (10, 3)])
def test_banerjees_interval_covers_where_welchs_does_not(share: float, runs: int) -> None:
    """One side has few runs, whose variance is ``share`` times that of the queries."""
    rng, count = RNG(5), 4000
    truth = rng.normal(0, np.sqrt(1 + share), count)
    estimates = share * rng.chisquare(runs - 1, count) / (runs - 1)
    intervals = [
        Spread(mean, (Part("queries", 1.0, 300), Part("runs", variance, runs - 1))).interval()
        for mean, variance in zip(truth, estimates, strict=True)
    ]
    missed = np.mean([not each.low <= 0 <= each.high for each in intervals])
    assert missed <= stats.binom.ppf(0.999, count, 0.05) / count
    if (share, runs) == (10, 2):
        freedom = (1 + estimates) ** 2 / (1 / 300 + estimates**2)
        welch = np.mean(np.abs(truth) > stats.t.ppf(0.975, freedom) * np.sqrt(1 + estimates))
        assert welch > 0.11
