"""Rank correlation and risk-coverage against scipy, closed forms, simulation and enumeration."""

from __future__ import annotations

from itertools import permutations
from math import inf

import numpy as np
import pytest
from scipy import stats

from harness.metrics.correlation import (
    bootstrap_interval,
    clustered_p,
    kendall,
    profile_test,
    ranks,
    risk_coverage,
    spearman,
    spearman_interval,
    stratified,
)

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_ranks_and_correlations_are_scipys_ties_included(levels: int) -> None:
    x, y = RNG.integers(levels, size=(2, 200)).astype(np.float64)
    y += x / 2
    np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    found = kendall(x, y)
    assert found is not None
    assert found[0] == pytest.approx(stats.kendalltau(x, y).statistic)
    assert spearman(x, np.ones(200)) is None
    assert kendall(np.ones(200), y) is None


def test_strata_are_ranked_apart() -> None:
    """Two hard and two easy datasets, opposed to what holds in each: pooled ranks would say the contrary."""
    strata = [(np.arange(5.0) + 10 * s, np.arange(5.0) - 10 * s) for s in range(4)]
    assert stratified(strata) == pytest.approx(1)
    assert spearman(*(np.concatenate(side) for side in zip(*strata, strict=True))) < 0  # type: ignore[operator]
    some = [tuple(RNG.standard_normal((2, 6))) for _ in range(3)]
    mean = np.mean([stats.spearmanr(x, y).statistic for x, y in some])
    assert stratified(some) == pytest.approx(mean)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "rho"), [(8, 0.0), (20, 0.6), (100, -0.8)])
def test_the_interval_covers(n: int, rho: float) -> None:
    """The share of simulated samples whose interval holds Spearman's correlation of the population."""
    true = 6 / np.pi * np.arcsin(rho / 2)
    draw = np.random.default_rng(n)
    held = 0
    for _ in range(1000):
        x, e = draw.standard_normal((2, n))
        found = spearman_interval(float(spearman(x, rho * x + np.sqrt(1 - rho**2) * e) or 0), n)
        held += found.low <= true <= found.high
    assert 0.93 <= held / 1000 <= 0.985


def test_few_and_perfect_orders() -> None:
    assert spearman_interval(1.0, 4).ends is None
    found = spearman_interval(1.0, 5)
    assert 0 < found.low < 0.5
    assert found.high == 1
    assert spearman_interval(1.0, 50).low > 0.99
    assert spearman_interval(-1.0, 5).low == -1


def test_the_profile_test_is_the_exact_permutation_test() -> None:
    x, y = RNG.standard_normal((2, 6))
    observed = abs(stats.spearmanr(x, y).statistic)
    every = [abs(stats.spearmanr(x[list(order)], y).statistic) >= observed - 1e-9 for order in permutations(range(6))]
    assert profile_test(x[:, None], y[:, None]) == pytest.approx(np.mean(every))
    assert profile_test(np.arange(5.0)[:, None], np.arange(5.0)[:, None]) == pytest.approx(2 / 120)
    assert profile_test(np.arange(4.0)[:, None], np.arange(4.0)[:, None]) is None


@pytest.mark.parametrize("units", [6, 12])
def test_datasets_are_no_replicates_of_models(units: int) -> None:
    """Thirty datasets that all rank the models alike carry as little as one: false alarms stay at 5%."""
    draw = np.random.default_rng(units)
    alarms = 0
    for number in range(300):
        x, y = (np.tile(draw.standard_normal((units, 1)), 30) + 0.05 * draw.standard_normal((units, 30)) for _ in "xy")
        x[0, :5] = np.nan
        alarms += (profile_test(x, y, samples=400, seed=number) or 0) <= 0.05
    assert alarms / 300 <= 0.085  # 5% and three standard errors


def test_the_bootstrap_is_a_bootstrap() -> None:
    x = RNG.standard_normal(80)
    y = np.round(x + 2 * RNG.standard_normal(80))  # many ties
    found = bootstrap_interval(x, y, samples=2000)
    plain = []
    for _ in range(600):
        rows = RNG.integers(80, size=80)
        plain.append(stats.spearmanr(x[rows], y[rows]).statistic)
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.04)
    assert bootstrap_interval(x[:5], y[:5]).low == -inf
    assert bootstrap_interval(x, np.ones(80)).high == inf


def test_pairs_of_a_cluster_are_drawn_together() -> None:
    """Every pair five times: the interval is that of the pairs once, and so is p; against a brute-force bootstrap."""
    x, y = RNG.standard_normal(60), RNG.standard_normal(60)
    codes = np.repeat(np.arange(60), 5)
    five = bootstrap_interval(np.repeat(x, 5), np.repeat(y, 5), codes)
    once = bootstrap_interval(x, y)
    assert (five.low, five.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert bootstrap_interval(x, y, np.arange(60)) == once
    uneven = np.minimum(np.arange(60) // 3, 14)  # the last of fifteen clusters has eighteen pairs
    plain = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(uneven == one) for one in RNG.integers(15, size=15)])
        plain.append(stats.spearmanr(x[rows], y[rows]).statistic)
    found = bootstrap_interval(x, y, uneven, samples=4000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.04)
    assert bootstrap_interval(x, y, np.arange(60) // 10).low == -inf  # six clusters
    p_five = stats.kendalltau(np.repeat(x, 5), np.repeat(y, 5), method="asymptotic").pvalue
    z_five = stats.norm.ppf(p_five / 2)
    assert stats.norm.ppf(clustered_p(p_five, np.repeat(x, 5), np.repeat(y, 5), codes) / 2) == pytest.approx(
        z_five / np.sqrt(5), rel=0.1
    )
    assert clustered_p(0.03, x, y, None) == 0.03
    assert clustered_p(0.03, x, y, np.arange(60)) == pytest.approx(0.03)


def test_risk_coverage_by_hand_and_by_shuffling() -> None:
    curve = risk_coverage(np.array([3.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(curve, [0, 0.25, 0.5])
    risk = RNG.random(60)
    np.testing.assert_allclose(risk_coverage(np.zeros(60), risk), risk.mean())
    tied = RNG.integers(4, size=60).astype(np.float64)
    curves = [risk_coverage(tied + 0.1 * RNG.random(60), risk) for _ in range(4000)]
    np.testing.assert_allclose(np.mean(curves, axis=0), risk_coverage(tied, risk), atol=0.02)
    best = risk_coverage(-risk, risk).mean()
    assert best <= min(curve.mean() for curve in curves)
