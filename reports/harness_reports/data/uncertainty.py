"""Confidence intervals, rank intervals, and significant differences from a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.metrics.significance import (
    Interval,
    as_one,
    difference_interval,
    holm,
    mean_interval,
    randomisation_test,
    rank_intervals,
)
from harness.types import UserError
from harness_reports.data.averages import Average, members
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.data.per_query import Evidence

ALPHA = 0.05
Entry = str | Average
Values = NDArray[np.float64]


@dataclass(slots=True)
class Difference:
    """A model's average minus the baseline's."""

    value: float
    interval: Interval


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

    def __post_init__(self) -> None:
        self.baseline = self.baseline and self.board.label(self.baseline)
        if self.baseline is not None and self.baseline not in self.board.models:
            raise UserError(catalog.unknown("model", self.baseline, self.board.models, " in these results"))

    def interval(self, model: str, average: Average) -> Interval | None:
        """Of the model's average on datasets like these."""
        values = self._values(model, average)
        return mean_interval(values) if values else None

    def ranks(self, average: Average) -> Mapping[str, tuple[int, int]]:
        """First and last rank that each model with this average may have; {} unless several saw the same queries."""
        if self.board.mixed & {*average.labels}:
            return {}
        known = {model: values for model in self.board.models if (values := self._values(model, average))}
        same = len({tuple(v.shape[-1] for v in values) for values in known.values()}) == 1
        return rank_intervals(known) if same and len(known) > 1 and self._aligned([*known], average) else {}

    def difference(self, model: str, average: Average) -> Difference | None:
        """The difference from the baseline's average.

        None for the baseline itself, and if the models saw different versions of a dataset.
        """
        own, other = average.means[model], average.means.get(self.baseline or "")
        if model == self.baseline or other is None or own.value is None or other.value is None:
            return None
        if self.board.mixed & {*average.labels}:
            return None
        pairs = [self._parts([model, str(self.baseline)], entry) for entry in average.datasets]
        if not all(pairs):
            return None
        first, second = ([as_one(pair[each]) for pair in pairs] for each in (model, str(self.baseline)))
        return Difference(own.value - other.value, difference_interval(first, second))

    def marks(self, entries: Sequence[Entry]) -> dict[tuple[str, str], Literal["better", "worse"]]:
        """(model, entry's name) -> better or worse than the baseline, where that is significant.

        At `ALPHA` over all models and entries together (paired randomisation tests, Holm's correction).
        """
        places: list[tuple[str, str]] = []
        gaps: list[Values] = []
        for entry in entries if self.baseline else ():
            name, labels = (entry, (entry,)) if isinstance(entry, str) else (entry.name, entry.labels)
            for model in self.board.models if not self.board.mixed & {*labels} else ():
                if model != self.baseline and (parts := self._parts([model, str(self.baseline)], _stated(entry))):
                    places.append((model, name))
                    gaps.append(_weighted(parts[model]) - _weighted(parts[str(self.baseline)]))
        self.tests = len(gaps)
        adjusted = holm([randomisation_test(gap) for gap in gaps])
        found = zip(places, gaps, adjusted, strict=True)
        return {place: "better" if gap.mean() > 0 else "worse" for place, gap, p in found if p <= ALPHA}

    def _values(self, model: str, average: Average) -> list[Values]:
        """Per entry of the average [queries] or [seeds, queries]; [] unless all of it is known."""
        if average.means[model].value is None:
            return []
        found = [self._parts([model], entry) for entry in average.datasets]
        return [as_one(parts[model]) for parts in found] if all(found) else []

    def _parts(self, models: Sequence[str], entry: str) -> dict[str, list[Values]]:
        """Each model's values on a dataset or a group, on the queries that all have; {} unless every one is known."""
        found = [self._dataset(models, label) for label in members(entry)]
        return {model: [part[model] for part in found] for model in models} if all(found) else {}

    def _dataset(self, models: Sequence[str], dataset: str) -> dict[str, Values]:
        runs = {model: self.board.seeds.get(model, (model,)) for model in models}
        everyone = [run for own in runs.values() for run in own]
        if any((run, dataset) not in self.board.cells for run in everyone):
            return {}
        ids, found = self.evidence.paired(everyone, dataset)
        if not ids or any(run not in found for run in everyone):
            return {}
        return {
            model: np.stack([found[run] for run in own]) if model in self.board.seeds else found[own[0]]
            for model, own in runs.items()
        }

    def _aligned(self, models: Sequence[str], average: Average) -> bool:
        """Whether the models saw the same queries in the same order."""
        everyone = [run for model in models for run in self.board.seeds.get(model, (model,))]
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


def _weighted(parts: Sequence[Values]) -> Values:
    """Values [queries] of all parts (means over seeds), weighted so that their mean is the mean of the parts' means."""
    n = sum(part.shape[-1] for part in parts)
    flat = [part.mean(axis=0) if part.ndim > 1 else part for part in parts]
    return np.concatenate([part * (n / (len(parts) * len(part))) for part in flat])
