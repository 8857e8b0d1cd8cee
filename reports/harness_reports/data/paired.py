"""Paired comparison of two models on per-query values: the tests of a table, and the difference over all datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.metrics.clusters import Codes, cluster_sums, design_effect, per_cluster
from harness.metrics.significance import (
    ALPHA,
    Interval,
    as_one,
    difference_interval,
    holm,
    paired_t,
    randomisation_test,
    smallest_effect,
)
from harness.metrics.variance import has_runs, over_runs, spread

Values = NDArray[np.float64]
POWER = 0.8
TIE = 1e-9
"""Values no further apart than this are a tie."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One model against another on the queries of a dataset that both have; differences are model minus against."""

    model: str
    against: str
    dataset: str
    queries: int
    left_out: int
    """Queries that only one of the models compared has."""
    mean: float
    mean_against: float
    difference: float
    effect_size: float | None
    """Cohen's d_z: the mean difference over the standard deviation of the differences; None where that is 0."""
    wins: int
    ties: int
    losses: int
    p_randomisation: float
    """With several runs of a model the same as ``p_t``."""
    design_effect: float
    """Variance of the difference over that of as many independent queries; 1 if they are independent."""
    runs: tuple[int, int]
    """Training runs of the model and of the one it is compared with."""
    interval: Interval
    t: float
    p_t: float
    smallest_effect: float
    """What a paired t-test finds with a chance of `POWER`, at the level that Holm asks of the first of the family."""
    holm_t: float = 1.0
    holm_randomisation: float = 1.0

    @property
    def real(self) -> bool:
        """Whether the test of `p_value` finds a difference at `ALPHA`, all of the family considered."""
        return self.holm_randomisation < ALPHA


class Overall(NamedTuple):
    """One model against another over all datasets that both have, each counting once (a whole group as one)."""

    model: str
    against: str
    datasets: tuple[str, ...]
    """Names of datasets and groups."""
    difference: float
    here: Interval
    """For these very datasets."""
    elsewhere: Interval | None
    """For datasets like these, of all pairs simultaneously; None for a single dataset, which allows no inference about
    others."""

    @property
    def real(self) -> bool:
        """Whether a difference is shown for datasets like these, all pairs considered."""
        return self.elsewhere is not None and not self.elsewhere.low <= 0 <= self.elsewhere.high


def family(
    scores: Mapping[str, Mapping[str, Values]],
    models: Sequence[str],
    left_out: Mapping[str, int] | None = None,
    codes: Mapping[str, Codes | None] | None = None,
    *,
    samples: int = 10_000,
) -> list[Contrast]:
    """Every pair of models on every dataset both have, Holm's correction over all of them.

    Args:
        scores: Dataset -> model -> values [queries] or [runs, queries], in one order for all models of a dataset. A
            later model is compared with an earlier one.
        models: In the order of the comparison.
        left_out: Dataset -> queries that not every model has.
        codes: Dataset -> the cluster of every query; None if each is its own.
        samples: Resamples of an interval; a test draws ten times as many signs.
    """
    pairs = [
        (dataset, model, against)
        for against, model in combinations(models, 2)
        for dataset, values in scores.items()
        if model in values and against in values and values[model].size
    ]
    level = ALPHA / max(1, len(pairs))
    found = []
    for dataset, model, against in pairs:
        first, second, own = scores[dataset][model], scores[dataset][against], (codes or {}).get(dataset)
        apart = over_runs(first) - over_runs(second)
        deviation = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
        p = p_value([first], [second], [own], samples=10 * samples)
        found.append(
            Contrast(
                model,
                against,
                dataset,
                queries=len(apart),
                left_out=(left_out or {}).get(dataset, 0),
                mean=float(first.mean()),
                mean_against=float(second.mean()),
                difference=float(apart.mean()),
                effect_size=float(apart.mean()) / deviation if deviation > TIE else None,
                wins=int((apart > TIE).sum()),
                ties=int((np.abs(apart) <= TIE).sum()),
                losses=int((apart < -TIE).sum()),
                p_randomisation=p,
                design_effect=design_effect(apart, own),
                runs=(_runs(first), _runs(second)),
                **_parametric(per_cluster(first, own), per_cluster(second, own), level, samples),
            )
        )
    adjusted = zip(holm([c.p_t for c in found]), holm([c.p_randomisation for c in found]), strict=True)
    return [replace(c, holm_t=a, holm_randomisation=b) for c, (a, b) in zip(found, adjusted, strict=True)]


def _runs(values: Values) -> int:
    return len(values) if values.ndim > 1 else 1


def _parametric(first: Values, second: Values, level: float, samples: int) -> dict[str, Any]:
    """Interval, t-test and smallest effect of a contrast, from values [clusters] or [runs, clusters]."""
    interval = difference_interval([first], [second], level=1 - ALPHA, samples=samples)
    if has_runs([first, second]):
        whole = spread([[first], [-second]], new_datasets=False)
        t, p_t = whole.mean / whole.error if whole.error else 0.0, whole.p()
        least = whole.smallest_effect(power=POWER, alpha=level)
    else:
        apart = over_runs(first) - over_runs(second)
        t, p_t = paired_t(apart)
        least = smallest_effect(apart, power=POWER, alpha=level)
    return {"interval": interval, "t": t, "p_t": p_t, "smallest_effect": least}


def p_value(
    first: Sequence[Values], second: Sequence[Values], codes: Sequence[Codes | None], *, samples: int = 100_000
) -> float:
    """Two-sided p of no difference between two models on a dataset, or on the datasets of a group.

    The randomisation test, which flips whole clusters; with several runs of a model the test of
    `harness.metrics.variance.Spread`, since signs of queries do not show how much runs differ.

    Args:
        first: Per dataset the values [queries] or [runs, queries] of one model.
        second: Those of the other, of the same queries.
        codes: Per dataset the cluster of every query.
        samples: Signs drawn, where they are.
    """
    if has_runs([*first, *second]):
        sides = ([per_cluster(v, own) for v, own in zip(side, codes, strict=True)] for side in (first, second))
        one, other = map(as_one, sides)
        return spread([[one], [-other]], new_datasets=False).p()
    n = sum(part.shape[-1] for part in first)
    sums = []
    for a, b, own in zip(first, second, codes, strict=True):
        weight = n / (len(first) * a.shape[-1])
        sums.append(cluster_sums(over_runs(a) * weight - over_runs(b) * weight, own))
    return randomisation_test(np.concatenate(sums), samples=samples)


def squared_error(values: Values) -> float:
    """The variance of the mean of values [queries] or [clusters], runs averaged."""
    own = over_runs(values)
    return float(own.var(ddof=1)) / len(own) if len(own) > 1 else 0.0


class Place(NamedTuple):
    """A dataset, or a group as one, of an overall comparison."""

    first: list[Values]
    """Per dataset of the model [queries] or [runs, queries]."""
    second: list[Values]
    codes: list[Codes | None]

    def by_cluster(self) -> tuple[Values, Values]:
        """Both models as one dataset, [clusters] or [runs, clusters]."""
        sides = (
            as_one([per_cluster(values, own) for values, own in zip(side, self.codes, strict=True)])
            for side in (self.first, self.second)
        )
        one, other = sides
        return one, other


def places(
    scores: Mapping[str, Mapping[str, Values]],
    model: str,
    against: str,
    codes: Mapping[str, Codes | None] | None = None,
) -> dict[str, Place]:
    """The datasets that both models have, those of a whole group as one, with arguments as for `family`."""
    found = {
        dataset: Place([values[model]], [values[against]], [(codes or {}).get(dataset)])
        for dataset, values in scores.items()
        if {model, against} <= {*values}
    }
    for group, members in catalog.catalogue().groups.items():
        if {*members} < {*found}:
            parts = [found.pop(member) for member in members]
            found[group] = Place(
                [each for part in parts for each in part.first],
                [each for part in parts for each in part.second],
                [each for part in parts for each in part.codes],
            )
    return found


def overall(
    scores: Mapping[str, Mapping[str, Values]],
    models: Sequence[str],
    codes: Mapping[str, Codes | None] | None = None,
) -> list[Overall]:
    """Every pair of models over the datasets both have, with arguments as for `family`."""
    pairs = [(*pair[::-1], places(scores, *pair[::-1], codes)) for pair in combinations(models, 2)]
    level = 1 - ALPHA / max(1, sum(len(found) > 1 for _, _, found in pairs))
    whole = []
    for model, against, found in pairs:
        if found:
            first, second = zip(*(place.by_cluster() for place in found.values()), strict=True)
            apart = [over_runs(a) - over_runs(b) for a, b in zip(first, second, strict=True)]
            difference = float(np.mean([each.mean() for each in apart]))
            here = difference_interval(first, second, level=1 - ALPHA, new_datasets=False)
            elsewhere = difference_interval(first, second, level=level) if len(found) > 1 else None
            whole.append(Overall(model, against, (*found,), difference, here, elsewhere))
    return whole
