"""Paired comparison of two models on per-query values: the tests of a table, and the difference over all datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.metrics.significance import (
    Interval,
    as_one,
    holm,
    mean_interval,
    paired_t,
    randomisation_test,
    smallest_effect,
)

Values = NDArray[np.float64]
ALPHA = 0.05
"""Chance of any false finding in the whole table; intervals have a level of 1 - ALPHA, each for itself."""
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
    interval: Interval
    effect_size: float | None
    """Cohen's d_z: the mean difference over the standard deviation of the differences; None where that is 0."""
    wins: int
    ties: int
    losses: int
    t: float
    p_t: float
    p_randomisation: float
    smallest_effect: float
    """What a paired t-test finds with a chance of `POWER`, at the level that Holm asks of the first of the family."""
    holm_t: float = 1.0
    holm_randomisation: float = 1.0

    @property
    def real(self) -> bool:
        """Whether the randomisation test finds a difference at `ALPHA`, all of the family considered."""
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
    """For datasets like these; None for a single dataset, which allows no inference about others."""


def family(
    scores: Mapping[str, Mapping[str, Values]],
    models: Sequence[str],
    left_out: Mapping[str, int] | None = None,
    *,
    samples: int = 10_000,
) -> list[Contrast]:
    """Every pair of models on every dataset both have, Holm's correction over all of them.

    ``scores``: dataset -> model -> values [queries], in one order for all models of a dataset. A later model is held
    against an earlier one. ``samples``: resamples of an interval, ten times as many signs of a test.
    """
    pairs = [
        (dataset, model, against)
        for against, model in combinations(models, 2)
        for dataset, values in scores.items()
        if model in values and against in values and len(values[model])
    ]
    level = ALPHA / max(1, len(pairs))
    found = []
    for dataset, model, against in pairs:
        first, second = scores[dataset][model], scores[dataset][against]
        apart = first - second
        deviation = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
        t, p_t = paired_t(apart)
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
                interval=mean_interval([apart], level=1 - ALPHA, samples=samples),
                effect_size=float(apart.mean()) / deviation if deviation > TIE else None,
                wins=int((apart > TIE).sum()),
                ties=int((np.abs(apart) <= TIE).sum()),
                losses=int((apart < -TIE).sum()),
                t=t,
                p_t=p_t,
                p_randomisation=randomisation_test(apart, samples=10 * samples),
                smallest_effect=smallest_effect(apart, power=POWER, alpha=level),
            )
        )
    adjusted = zip(holm([c.p_t for c in found]), holm([c.p_randomisation for c in found]), strict=True)
    return [replace(c, holm_t=a, holm_randomisation=b) for c, (a, b) in zip(found, adjusted, strict=True)]


def overall(scores: Mapping[str, Mapping[str, Values]], models: Sequence[str]) -> list[Overall]:
    """Every pair of models over the datasets both have, with arguments as for `family`."""
    found = []
    for against, model in combinations(models, 2):
        apart = {d: values[model] - values[against] for d, values in scores.items() if {model, against} <= {*values}}
        for group, members in catalog.catalogue().groups.items():
            if {*members} < {*apart}:
                place = {group: as_one([apart[member] for member in members])}
                apart = {d: v for d, v in apart.items() if d not in members} | place
        if apart:
            arrays = [*apart.values()]
            here = mean_interval(arrays, level=1 - ALPHA, new_datasets=False)
            elsewhere = mean_interval(arrays, level=1 - ALPHA) if len(arrays) > 1 else None
            difference = float(np.mean([array.mean() for array in arrays]))
            found.append(Overall(model, against, (*apart,), difference, here, elsewhere))
    return found
