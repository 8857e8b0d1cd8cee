"""Confidence intervals, rank intervals, and significant differences from a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.metrics.clusters import Codes, per_cluster
from harness.metrics.significance import ALPHA as ALPHA
from harness.metrics.significance import Interval, as_one, difference_interval, holm, mean_interval, rank_intervals
from harness.metrics.variance import over_runs
from harness.types import UserError
from harness_reports.data.averages import Average, members
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.data.paired import p_value, squared_error
from harness_reports.data.per_query import Evidence

Entry = str | Average
Values = NDArray[np.float64]


class Parts(NamedTuple):
    """Values of models on the datasets of an entry."""

    values: dict[str, list[Values]]
    """Model -> per dataset [queries] or [runs, queries]."""
    codes: list[Codes | None]
    """The cluster of every query, per dataset; None if each is its own."""

    def by_cluster(self, model: str) -> list[Values]:
        """Per dataset [clusters] or [runs, clusters]."""
        return [per_cluster(values, codes) for values, codes in zip(self.values[model], self.codes, strict=True)]

    def minus(self, model: str, other: str) -> tuple[list[Values], list[Codes | None]]:
        """The difference of two models, runs averaged, and the clusters."""
        pairs = zip(self.values[model], self.values[other], strict=True)
        return [over_runs(a) - over_runs(b) for a, b in pairs], self.codes


def _design_effect(parts: Sequence[tuple[list[Values], list[Codes | None]]]) -> float | None:
    """Of the noise of the queries in the mean over entries; None if all queries are independent."""
    if all(codes is None for _, every in parts for codes in every):
        return None
    clustered = independent = 0.0
    for values, codes in parts:
        by_cluster = [per_cluster(each, own) for each, own in zip(values, codes, strict=True)]
        clustered += squared_error(as_one(by_cluster))
        independent += squared_error(as_one(values))
    return clustered / independent if independent else None


@dataclass(slots=True)
class Difference:
    """A model's average minus the baseline's."""

    value: float
    interval: Interval
    design_effect: float | None
    """Of the noise of the queries in it; None if all of them are independent."""


@dataclass
class Uncertainty:
    """Confidence intervals, ranks and significance of a leaderboard's complete cells.

    Nothing is computed until it is asked for; what needs queries that are not stored, or that differ, is None.
    """

    board: Leaderboard
    evidence: Evidence
    baseline: str | None = None
    tests: int = field(default=0, init=False)
    """How many comparisons the marks are corrected for, once they are known."""
    separated: bool | None = field(default=None, init=False)
    """Whether the ranks tell any two models apart, once they are known."""

    def __post_init__(self) -> None:
        self.baseline = self.baseline and self.board.label(self.baseline)
        if self.baseline is not None and self.baseline not in self.board.models:
            raise UserError(catalog.unknown("model", self.baseline, self.board.models, " in these results"))

    def interval(self, model: str, average: Average) -> Interval | None:
        """Of the model's average on datasets like these."""
        values = self._values(model, average)
        return mean_interval(values) if values else None

    def design_effect(self, model: str, average: Average) -> float | None:
        """Of the noise of the queries in the model's average; None if all queries are independent, or not known."""
        parts = self._all_parts([model], average) if average.means[model].value is not None else []
        return _design_effect([(part.values[model], part.codes) for part in parts])

    def ranks(self, average: Average) -> Mapping[str, tuple[int, int]]:
        """First and last rank that each model with this average may have; {} unless several saw the same queries."""
        if self.board.mixed & {*average.labels}:
            return {}
        known = {model: values for model in self.board.models if (values := self._values(model, average))}
        same = len({tuple(v.shape[-1] for v in values) for values in known.values()}) == 1
        if not same or len(known) < 2 or not self._aligned([*known], average):
            return {}
        ranks = rank_intervals(known)
        self.separated = any(rank != (1, len(ranks)) for rank in ranks.values())
        return ranks

    def difference(self, model: str, average: Average) -> Difference | None:
        """The difference from the baseline's average.

        Over several datasets the intervals of all models hold simultaneously (Bonferroni). None for the baseline
        itself, and if the models saw different versions of a dataset.
        """
        own, other = average.means[model], average.means.get(self.baseline or "")
        if model == self.baseline or other is None or own.value is None or other.value is None:
            return None
        if self.board.mixed & {*average.labels}:
            return None
        parts = self._all_parts([model, str(self.baseline)], average)
        if not parts:
            return None
        first, second = ([as_one(part.by_cluster(each)) for part in parts] for each in (model, str(self.baseline)))
        compared = sum(mean.value is not None for mean in average.means.values()) - 1
        level = 1 - ALPHA / (compared if len(average.datasets) > 1 else 1)
        gaps = [part.minus(model, str(self.baseline)) for part in parts]
        interval = difference_interval(first, second, level=level)
        return Difference(own.value - other.value, interval, _design_effect(gaps))

    def marks(self, entries: Sequence[Entry]) -> dict[tuple[str, str], Literal["better", "worse"]]:
        """(model, entry's name) -> better or worse than the baseline, where that is significant.

        At `ALPHA` over all models and entries together (the tests of `p_value`, Holm's correction).
        """
        places: list[tuple[str, str]] = []
        gaps: list[float] = []
        p: list[float] = []
        for entry in entries if self.baseline else ():
            name, labels = (entry, (entry,)) if isinstance(entry, str) else (entry.name, entry.labels)
            for model in self.board.models if not self.board.mixed & {*labels} else ():
                if model != self.baseline and (part := self._parts([model, str(self.baseline)], _stated(entry))):
                    places.append((model, name))
                    own, other = part.values[model], part.values[str(self.baseline)]
                    gaps.append(float(np.mean([a.mean() - b.mean() for a, b in zip(own, other, strict=True)])))
                    p.append(p_value(own, other, part.codes))
        self.tests = len(p)
        found = zip(places, gaps, holm(p), strict=True)
        return {place: "better" if gap > 0 else "worse" for place, gap, adjusted in found if adjusted <= ALPHA}

    def _values(self, model: str, average: Average) -> list[Values]:
        """Per entry of the average [clusters] or [runs, clusters]; [] unless all of it is known."""
        if average.means[model].value is None:
            return []
        return [as_one(part.by_cluster(model)) for part in self._all_parts([model], average)]

    def _all_parts(self, models: Sequence[str], average: Average) -> list[Parts]:
        """Per entry of the average; [] unless all of it is known."""
        found = [self._parts(models, entry) for entry in average.datasets]
        known = [part for part in found if part]
        return known if len(known) == len(found) else []

    def _parts(self, models: Sequence[str], entry: str) -> Parts | None:
        """Each model's values on a dataset or a group, on the queries that all have; None unless every one is known."""
        parts = Parts({model: [] for model in models}, [])
        for dataset in members(entry):
            if any((run, dataset) not in self.board.cells for model in models for run in self.evidence.runs(model)):
                return None
            ids, found = self.evidence.paired(models, dataset)
            if not ids or any(model not in found for model in models):
                return None
            for model in models:
                parts.values[model].append(found[model])
            parts.codes.append(self.evidence.clusters.codes(dataset, ids))
        return parts

    def _aligned(self, models: Sequence[str], average: Average) -> bool:
        """Whether the models saw the same queries in the same order."""
        everyone = [run for model in models for run in self.evidence.runs(model)]
        for label in average.labels:
            scores = [found for run in everyone if (found := self.evidence.scores(run, label))]
            if len({id(one.ids) for one in scores}) > 1:
                return False
        return True


def _stated(entry: Entry) -> str:
    """A group's name without the count of its datasets."""
    if isinstance(entry, str):
        return entry
    return next(name for name, members in catalog.catalogue().groups.items() if members == entry.datasets)
