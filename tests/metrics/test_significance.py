"""Tests and intervals against scipy, exact laws, and simulations with a known truth."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from scipy import stats

from harness.metrics.significance import (
    Values,
    as_one,
    difference_interval,
    holm,
    mean_interval,
    paired_t,
    randomisation_test,
    rank_intervals,
    smallest_effect,
)

RNG = np.random.default_rng


def scipy_randomisation(differences: Values, resamples: float) -> float:
    zeros = np.zeros_like(differences)
    found = stats.permutation_test(
        (differences, zeros),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=RNG(1),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_few_differences_exactly_as_scipy(n: int) -> None:
    for seed in range(5):
        differences = np.round(RNG(seed).normal(0.3, 1, n), 1)  # rounded: sums tie
        assert randomisation_test(differences) == pytest.approx(scipy_randomisation(differences, np.inf), abs=1e-12)


@pytest.mark.parametrize(("n", "shift"), [(25, 0.1), (40, 0.3), (70, 0.2), (300, 0.1), (300, 0.02)])
def test_many_differences_as_scipy(n: int, shift: float) -> None:
    """Random signs below some 100 differences, the saddlepoint above."""
    differences = RNG(n).normal(shift, 1, n) ** 3
    ours, theirs, draws = randomisation_test(differences), scipy_randomisation(differences, 20_000), 20_000
    noise = np.sqrt(ours * (1 - ours) * (1 / draws + 1 / 100_000))
    assert abs(ours - theirs) < 4 * noise + 2 / draws


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4])
def test_the_saddlepoint_against_the_exact_law(shift: int) -> None:
    """Whole differences: the law of their sum under random signs is a convolution."""
    differences = RNG(shift).integers(-9 + shift, 10 + shift, 150)
    law = np.ones(1)
    for size in np.abs(differences):
        law = np.convolve(law, [0.5, *[0] * (2 * size - 1), 0.5] if size else [1.0])
    sums = np.arange(len(law)) - len(law) // 2
    exact = law[np.abs(sums) >= abs(differences.sum())].sum()
    assert randomisation_test(differences / 10) == pytest.approx(exact, rel=0.04)


@pytest.mark.parametrize(("plus", "minus"), [(60, 40), (140, 60), (1600, 1400), (55, 45)])
def test_equal_differences_as_the_sign_test(plus: int, minus: int) -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [plus, minus, 500])
    exact = stats.binomtest(plus, plus + minus).pvalue
    assert exact * 0.999 <= randomisation_test(differences) <= exact * 1.04


def test_all_differences_one_way() -> None:
    assert randomisation_test(np.full(200, 0.3)) == pytest.approx(2.0**-199)
    assert randomisation_test(np.array([0.1, 0.2, 0.3])) == 2 / 8
    assert randomisation_test(np.full(30, 0.3), samples=999) == 1 / 1000


def test_the_randomisation_test_of_nothing_and_of_signs_and_zeros() -> None:
    assert randomisation_test(np.zeros(5)) == randomisation_test(np.zeros(0)) == 1
    assert randomisation_test(np.array([1.0, -1.0])) == 1
    for n in (10, 40, 200):
        differences = RNG(n).normal(0.2, 1, n)
        p = randomisation_test(differences)
        assert p == randomisation_test(-differences) == randomisation_test(np.append(differences, np.zeros(7)))
    loose = RNG(2).normal(0.3, 1, 40)
    assert randomisation_test(loose, seed=1) != randomisation_test(loose, seed=2)


def test_p_values_are_uniform_under_the_null() -> None:
    for n in (12, 30, 150):
        p = [randomisation_test(RNG(seed).exponential(1, n) * RNG(seed + 9).choice([-1, 1], n), samples=2000)
             for seed in range(1000)]  # fmt: skip
        for level in (0.01, 0.05, 0.2):
            assert sum(each <= level for each in p) <= stats.binom.ppf(0.9999, len(p), level)
        assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_the_t_test_as_scipy() -> None:
    rng = RNG(3)
    for n in (2, 5, 40, 1000):
        first, second = rng.beta(0.3, 0.7, n), rng.beta(0.3, 0.6, n)
        theirs = stats.ttest_rel(first, second)
        assert paired_t(first - second) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert paired_t(np.array([0.4])) == paired_t(np.zeros(9)) == (0, 1)
    assert paired_t(np.full(3, -0.1)) == (-inf, 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005])
    assert holm([0.5, 0.4, 0.9]) == [1, 1, 1]
    assert holm([0.02, 0.02]) == [0.04, 0.04]
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


@pytest.mark.parametrize(("n", "alpha"), [(5, 0.05), (50, 0.05), (50, 0.0005), (5000, 0.01)])
def test_the_smallest_effect_has_the_power_stated(n: int, alpha: float) -> None:
    differences = RNG(n).normal(0.4, 0.2, n)
    effect = smallest_effect(differences, power=0.8, alpha=alpha)
    shift = effect / differences.std(ddof=1) * np.sqrt(n)
    assert stats.nct.sf(stats.t.isf(alpha / 2, n - 1), n - 1, shift) == pytest.approx(0.8, abs=1e-6)


def test_the_smallest_effect_at_the_edge() -> None:
    assert smallest_effect(np.array([0.1])) == inf
    assert smallest_effect(np.full(9, 0.25)) == 0


@pytest.mark.parametrize("n", [40, 200, 400, 3000])
def test_one_dataset_as_scipys_bootstrap(n: int) -> None:
    """Counted out below 256 queries, drawn from the limiting law above; skewed values."""
    values = RNG(n).beta(0.2, 0.8, n)
    ours = mean_interval([values])
    level = 1 - 2 * stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.isf(0.025, n - 1))  # Hesterberg's
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", n_resamples=10_000, batch=1000, rng=RNG(1)
    ).confidence_interval
    noise = 0.05 * values.std() / np.sqrt(n)  # of quantiles of 10,000 resamples, twice
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=3 * noise)


def test_very_skewed_values_are_counted_out() -> None:
    values = np.zeros(400)
    values[0] = 1
    interval = mean_interval([values])
    assert interval.low == 0
    assert interval.high * 400 in (3, 4)  # Binomial(400, 1/400)


def test_given_datasets_by_the_normal_distribution() -> None:
    rng = RNG(5)
    datasets = [rng.normal(centre, 0.2, n) for centre, n in ((0.2, 30), (0.5, 80), (0.4, 300), (0.9, 15), (0.3, 50))]
    given = mean_interval(datasets, new_datasets=False)
    error = np.sqrt(sum(values.var() / len(values) for values in datasets)) / 5
    centre = np.mean([values.mean() for values in datasets])
    assert (given.low, given.high) == pytest.approx((centre - 1.96 * error, centre + 1.96 * error), abs=0.15 * error)


def test_the_same_seed_gives_the_same_interval() -> None:
    datasets = [RNG(place).beta(0.3, 0.7, n) for place, n in enumerate((50, 500))]
    found = [mean_interval(datasets, seed=seed, new_datasets=False) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_difference_is_paired() -> None:
    easy = RNG(1).uniform(0, 1, 100)
    interval = difference_interval([easy + 0.01], [easy])
    assert (interval.low, interval.high) == pytest.approx((0.01, 0.01))
    first, second = [easy, easy[:50] ** 2], [easy**2, easy[:50] ** 3]
    assert difference_interval(first, second) == mean_interval([a - b for a, b in zip(first, second, strict=True)])


def test_seeds_widen_an_interval() -> None:
    queries = RNG(1).uniform(0, 1, 200)
    shifts = np.array([-0.1, 0.0, 0.1])[:, None]
    alone, several = mean_interval([queries]), mean_interval([queries + shifts])
    assert several.high - several.low > 1.5 * (alone.high - alone.low)
    same = mean_interval([queries + 0 * shifts])
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high), abs=0.003)
    runs = RNG(2).normal(0, 0.1, 12)
    apart = difference_interval([queries + runs[:, None]], [queries])
    error = runs.std(ddof=1) / np.sqrt(12)
    assert (apart.high - apart.low) / 2 == pytest.approx(stats.t.ppf(0.975, 11) * error)
    both = difference_interval([queries + runs[:, None]], [queries - runs[:, None]])
    assert (both.high - both.low) / 2 == pytest.approx(stats.t.ppf(0.975, 11) * np.sqrt(2) * error)


def test_what_cannot_be_drawn_from() -> None:
    assert mean_interval([np.array([0.5])]).ends is None
    assert mean_interval([np.array([0.5])]).low == -inf
    for wrong in ([], [np.zeros(0)], [np.zeros((2, 5)), np.zeros((3, 5))]):
        with pytest.raises(ValueError, match=r"nothing to draw from|numbers of seeds"):
            mean_interval(wrong)
    with pytest.raises(ValueError, match="same queries"):
        difference_interval([np.zeros(3)], [np.zeros(4)])
    with pytest.raises(ValueError, match="same queries"):
        rank_intervals({"a": [np.zeros(3)], "b": [np.zeros(4)]})


def covers(count: int, trial: Callable[[np.random.Generator], bool]) -> float:
    rng = RNG(11)
    return sum(trial(rng) for _ in range(count)) / count


@pytest.mark.parametrize(("n", "shape"), [(20, 0.5), (60, 0.3), (400, 0.2)])
def test_one_dataset_is_covered(n: int, shape: float) -> None:
    def trial(rng: np.random.Generator) -> bool:
        interval = mean_interval([rng.beta(shape, shape, n)], samples=1000)
        return interval.low <= 0.5 <= interval.high

    assert stats.binom.ppf(0.001, 1000, 0.95) <= 1000 * covers(1000, trial) <= stats.binom.ppf(0.999, 1000, 0.95)


@pytest.mark.parametrize("new_datasets", [False, True])
def test_several_datasets_are_covered(new_datasets: bool) -> None:
    """Datasets' own means lie far apart, as nDCG@10 does; on new datasets the interval may be somewhat too careful."""
    centres = RNG(3).uniform(0.2, 0.6, 14)

    def trial(rng: np.random.Generator) -> bool:
        drawn = rng.uniform(0.2, 0.6, 14) if new_datasets else centres
        interval = mean_interval([rng.normal(c, 0.3, 120) for c in drawn], samples=1000, new_datasets=new_datasets)
        return interval.low <= (0.4 if new_datasets else centres.mean()) <= interval.high

    at_most = 0.985 if new_datasets else stats.binom.ppf(0.999, 400, 0.95) / 400
    assert stats.binom.ppf(0.001, 400, 0.95) / 400 <= covers(400, trial) <= at_most


def test_differences_over_datasets_are_covered() -> None:
    def trial(rng: np.random.Generator) -> bool:
        hard = [rng.uniform(0, 1, 100) for _ in range(10)]
        first = [queries + rng.normal(0.03, 0.05) + rng.normal(0, 0.2, 100) for queries in hard]
        interval = difference_interval(first, hard, samples=1000)
        return interval.low <= 0.03 <= interval.high

    assert stats.binom.ppf(0.001, 400, 0.95) / 400 <= covers(400, trial) <= 0.99


def test_ranks_of_equals_and_of_unequals() -> None:
    def trial(rng: np.random.Generator) -> bool:
        hard = [rng.uniform(0, 1, 100) for _ in range(2)]
        shift = dict(zip("abcdef", (0.3, 0.1, 0.1, 0.1, 0.1, -0.2), strict=True))
        models = {m: [q + shift[m] + rng.normal(0, 0.1, 100) for q in hard] for m in shift}
        ranks = rank_intervals(models, new_datasets=False)
        equals = all(ranks[model][0] <= 2 and ranks[model][1] >= 5 for model in "bcde")
        return equals and ranks["a"] == (1, 1) and ranks["f"] == (6, 6)

    assert covers(400, trial) >= stats.binom.ppf(0.001, 400, 0.95) / 400


def test_ranks_of_the_very_same_and_of_one() -> None:
    values = RNG(1).uniform(0, 1, 50)
    assert rank_intervals({"a": [values], "b": [values], "c": [values - 0.1]}) == {
        "a": (1, 2),
        "b": (1, 2),
        "c": (3, 3),
    }
    assert rank_intervals({"a": [values]}) == {"a": (1, 1)}


def test_a_group_as_one_dataset() -> None:
    rng = RNG(8)
    members = [rng.normal(centre, 0.2, n) for centre, n in ((0.2, 40), (0.7, 300), (0.5, 90))]
    one = as_one(members)
    assert one.shape == (430,)
    assert one.mean() == pytest.approx(np.mean([values.mean() for values in members]))
    assert one.var() / 430 == pytest.approx(sum(values.var() / len(values) for values in members) / 9)
    assert as_one([np.stack([values, values + 1]) for values in members]).mean(axis=1) == pytest.approx(
        [one.mean(), one.mean() + 1]
    )


@pytest.mark.parametrize("datasets", [2, 3, 5])
def test_few_datasets_are_covered(datasets: int) -> None:
    """By Student's interval, which is wide then."""

    def trial(rng: np.random.Generator) -> bool:
        means = rng.normal(0.4, 0.1, datasets)
        interval = mean_interval([np.full(50, mean) for mean in means])
        assert (interval.low, interval.high) == pytest.approx(
            stats.t.interval(0.95, datasets - 1, means.mean(), stats.sem(means))
        )
        return interval.low <= 0.4 <= interval.high

    assert covers(400, trial) >= stats.binom.ppf(0.001, 400, 0.95) / 400


def test_ranks_over_datasets_are_those_of_corrected_t_tests() -> None:
    rng = RNG(6)
    means = {model: rng.normal(shift, 0.02, 6) for model, shift in (("a", 0.6), ("b", 0.5), ("c", 0.49), ("d", 0.3))}
    better = {
        (x, y)
        for x in means
        for y in means
        if x != y and means[x].mean() > means[y].mean() and 6 * stats.ttest_rel(means[x], means[y]).pvalue <= 0.05
    }
    assert {("a", "d"), ("b", "d")} <= better
    assert ("b", "c") not in better
    ranks = rank_intervals({model: [np.full(9, value) for value in own] for model, own in means.items()})
    assert ranks == {
        model: (1 + sum(y == model for _, y in better), 4 - sum(x == model for x, _ in better)) for model in means
    }
