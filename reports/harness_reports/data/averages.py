"""Which averages a leaderboard shows, and their values: each over stated datasets, and none over fewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from harness.datasets import catalog
from harness_reports.data.cells import Cells


@dataclass(frozen=True, slots=True)
class Mean:
    """One model's average: a number only when every dataset is there."""

    value: float | None
    measured: int
    in_domain: bool
    """Whether a dataset among them is in-domain."""


@dataclass(frozen=True, slots=True)
class Average:
    """The unweighted mean of `MEASURE` over stated datasets. A group (CQADupStack) counts once, with its own mean."""

    name: str
    datasets: tuple[str, ...]
    """Names of datasets and groups."""
    means: Mapping[str, Mean]
    """Model -> its mean."""
    group: bool = False
    """Whether it is the mean of a group, which stands for its members."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every dataset in it, those of groups one by one."""
        return tuple(dict.fromkeys(label for entry in self.datasets for label in members(entry)))


def averages(
    datasets: tuple[str, ...], suite: catalog.Suite | None, models: Sequence[str], cells: Cells
) -> list[Average]:
    """Those of the suite, or of every suite and group that the datasets hold whole."""
    return [_average(name, over, models, cells) for name, over in _averaged(datasets, suite)]


def members(entry: str) -> tuple[str, ...]:
    """The datasets of a group; any other entry of an average is a dataset, whatever its name looks like."""
    return catalog.catalogue().groups.get(entry, (entry,))


def flat(entries: Iterable[str]) -> tuple[str, ...]:
    """The labels of the datasets that the entries of a suite stand for."""
    return tuple(dict.fromkeys(label for entry in entries for label in catalog.labels(entry)))


def _averaged(datasets: tuple[str, ...], suite: catalog.Suite | None) -> list[tuple[str, tuple[str, ...]]]:
    """What to average, as (name, datasets).

    The suite asked for, else every suite that is shown completely (one of a single dataset only if that is all there
    is), largest first, and all datasets shown (named "") unless they are a suite; then every complete group, with its
    own mean.
    """
    known = catalog.catalogue()
    groups = [(name, own) for name, own in known.groups.items() if {*own} <= {*datasets}]
    if suite:
        entries = [(entry,) if entry in known.groups else catalog.labels(entry) for entry in suite.datasets]
        return [(suite.name, tuple(dict.fromkeys(e for each in entries for e in each))), *groups]
    shown = {label for dataset in datasets for label in members(dataset)}
    largest_first = sorted(known.suites.items(), key=lambda item: -len(item[1]))
    whole = [(n, m) for n, m in largest_first if {*flat(m)} <= shown and (len(m) > 1 or len(datasets) == 1)]
    complete = any({*flat(own)} == shown for _, own in [*whole, *groups])
    rest = [] if complete or len(datasets) < 2 else [("", _folded(datasets, groups))]
    return [*whole, *rest, *groups]


def _folded(datasets: tuple[str, ...], groups: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The datasets, those of a group replaced by its name."""
    group_of = {member: name for name, own in groups for member in own}
    return tuple(dict.fromkeys(group_of.get(dataset, dataset) for dataset in datasets))


def _average(name: str, entries: tuple[str, ...], models: Sequence[str], cells: Cells) -> Average:
    """The mean over entries that are datasets or groups; over a group itself, of its datasets."""
    means: dict[str, Mean] = {}
    seen: set[str] = set()
    for model in models:
        scores = {entry: _entry_score(model, entry, cells) for entry in entries}
        known = [score for score in scores.values() if score is not None]
        seen |= {entry for entry, score in scores.items() if score is not None}
        value = fsum(known) / len(entries) if len(known) == len(entries) else None
        if value is None and catalog.catalogue().groups.get(name) == entries:
            value = _entry_score(model, name, cells)  # its mean, where that alone is known
            seen |= {*entries} if value is not None else set()
        labels = (name, *(label for entry in entries for label in (entry, *members(entry))))
        own = [cells[model, label] for label in labels if (model, label) in cells]
        measured = len(known) if value is None else len(entries)
        means[model] = Mean(value, measured, any(cell.in_domain for cell in own))
    title = f"{name} ({len(seen)} of {len(entries)})" if name else f"mean of {len(entries)}"
    return Average(title, entries, means, group=catalog.catalogue().groups.get(name) == entries)


def _entry_score(model: str, entry: str, cells: Cells) -> float | None:
    """A dataset's score, or the unweighted mean of a group's; None unless all of it, or its mean, is there."""
    found = [cells[model, label].score if (model, label) in cells else None for label in members(entry)]
    known = [score for score in found if score is not None]
    if len(known) == len(found):
        return fsum(known) / len(known)
    return cells[model, entry].score if (model, entry) in cells else None
