"""Stored results as one leaderboard: what a report shows, however it is printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf, isfinite
from pathlib import Path
from typing import Any

from harness import catalog
from harness.atomic import content_key
from harness.spec import UserError
from harness.store import Result, ResultStore, Unreadable, read_result

MEASURE = "nDCG@10"
"""The measure that a leaderboard shows, averages and orders by."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one dataset, as stored."""

    result: Result

    def get(self, *keys: str) -> Any:
        """What lies under the keys, one inside the other; None where one of them is missing."""
        found: Any = self.result
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def model(self) -> str:
        """Label of the model."""
        return str(self.result["model"])

    @property
    def dataset(self) -> str:
        """Label of the dataset, with the split and limit that set it apart."""
        return str(self.result["dataset"])

    @property
    def ok(self) -> bool:
        """Whether it was finished; else its ``reason`` says why not."""
        return bool(self.result["status"] == "ok")

    @property
    def partial(self) -> bool:
        """Whether it is over some of the queries only; such a cell is in no average."""
        return bool(self.get("partial"))

    @property
    def in_domain(self) -> bool:
        """Whether the model was trained on the dataset's judgements."""
        return bool(self.get("in_domain"))

    @property
    def imported(self) -> str:
        """Where it was imported from: ``run`` (a TREC run), ``mteb`` (no per-query scores); empty: measured here."""
        return str(self.get("imported") or "")

    @property
    def score(self) -> float | None:
        """Its `MEASURE`, from 0 to 1; None when it failed or did not measure that."""
        return self.get("measures", MEASURE) if self.ok else None


Cells = Mapping[tuple[str, str], Cell]
"""(model, dataset) -> cell."""


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
        return _flat(self.datasets)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models, best first, by datasets, in suite order and then alphabetically."""

    models: Sequence[str]
    datasets: Sequence[str]
    """Those measured whole (or, with a suite, its members)."""
    cells: Cells
    """Absent where there is no result."""
    partial_datasets: Sequence[str]
    partial_cells: Cells
    """What was run on some of the queries only, apart: never averaged, never beside whole ones."""
    averages: Sequence[Average]
    mixed: frozenset[str]
    """Datasets of which the cells saw different contents, so that their column compares nothing."""
    skipped: Sequence[Unreadable]
    root: Path
    """The results folder."""

    def rows(self) -> list[Cell]:
        """Every cell: by dataset within model, partial ones last."""
        tables = ((self.cells, self.datasets), (self.partial_cells, self.partial_datasets))
        keys = ((cells, (model, d)) for cells, datasets in tables for model in self.models for d in datasets)
        return [cells[key] for cells, key in keys if key in cells]


def read_leaderboard(root: Path, suite: str | None = None) -> Leaderboard:
    """Every result below ``root``, or those on one suite's datasets; UserError when there is none."""
    chosen_suite = catalog.suite(suite) if suite else None
    members = _flat(chosen_suite.datasets) if chosen_suite else ()
    found, skipped = _read(root)
    chosen = {key: cell for key, cell in found.items() if not suite or _belongs(cell, members)}
    if not chosen:
        raise UserError(_nothing(root, suite, skipped))
    cells = {key: cell for key, cell in chosen.items() if not cell.partial}
    partial = {key: cell for key, cell in chosen.items() if cell.partial}
    models = sorted({model for model, _ in chosen})
    datasets = members or _datasets(cells)
    averages = [_average(name, over, models, cells) for name, over in _averaged(datasets, chosen_suite)]

    def best_first(model: str) -> tuple[list[float], str]:
        scores = [average.means[model].value for average in averages]
        for table, over in ((cells, datasets), (partial, _datasets(partial))):
            scores += [table[model, d].score if (model, d) in table else None for d in over]
        return [inf if value is None else -value for value in scores], model

    models.sort(key=best_first)
    mixed = _mixed(chosen.values())
    return Leaderboard(models, datasets, cells, _datasets(partial), partial, averages, mixed, skipped, root)


def _read(root: Path) -> tuple[dict[tuple[str, str], Cell], list[Unreadable]]:
    store = ResultStore(root)
    cells: dict[tuple[str, str], Cell] = {}
    skipped: list[Unreadable] = []
    for found in store.scan():
        if isinstance(found, Unreadable):
            skipped.append(found)
            continue
        key = (str(found["model"]), str(found["dataset"]))
        path = store.folder(*key) / "result.json"
        if fault := _fault(found):
            skipped.append(Unreadable(path, fault))
        elif key in cells:
            own = read_result(path.parent)
            cells[key] = cells[key] if isinstance(own, Unreadable) or _fault(own) else Cell(own)
            reason = f"a copy in another folder below {root} is a second result of the same cell; move it elsewhere"
            skipped.append(Unreadable(path, reason))
        else:
            cells[key] = Cell(found)
    return cells, skipped


def _fault(result: Result) -> str:
    """What makes a result unusable here, in words; empty when nothing does."""
    sections = ("measures", "seconds", "counts", "geometry", "manifest")
    if odd := [name for name in sections if not isinstance(result[name], dict)]:
        return f"its {' and '.join(odd)} should be a JSON object"
    for name in sections[:3]:
        for key, value in result[name].items():
            if not isinstance(value, int | float) or not isfinite(value):
                return f"its {name} hold {value!r} for {key}, which is not a finite number"
    return ""


def _belongs(cell: Cell, members: Sequence[str]) -> bool:
    return (cell.get("manifest", "dataset", "name") if cell.partial else cell.dataset) in members


def _nothing(root: Path, suite: str | None, skipped: Sequence[Unreadable]) -> str:
    command = f"harness benchmark -m bm25 --suite {suite or 'demo'} --results {shlex.quote(str(root))}"
    if not root.is_dir():
        return f"There is no results folder {root}; name another with --results, or make one: {command}"
    if skipped:
        first = f"{skipped[0].path}: {skipped[0].reason}"
        return (
            f"None of the results in {root} can be used here ({len(skipped)} unreadable; {first}); make some: {command}"
        )
    what = f" on the datasets of the suite {suite}" if suite else ""
    return f"There are no results{what} in {root}; make some: {command}"


def _flat(entries: Iterable[str]) -> tuple[str, ...]:
    """The labels of the datasets that the entries of a suite stand for."""
    return tuple(dict.fromkeys(label for entry in entries for label in catalog.labels(entry)))


def _suite_order(dataset: str) -> tuple[int, str]:
    names = [name for members in catalog.catalogue().suites.values() for name in _flat(members)]
    return (names.index(dataset) if dataset in names else len(names), dataset)


def _datasets(cells: Cells) -> tuple[str, ...]:
    """Their datasets, in suite order and then alphabetically."""
    return tuple(sorted({dataset for _, dataset in cells}, key=_suite_order))


def _averaged(datasets: tuple[str, ...], suite: catalog.Suite | None) -> list[tuple[str, tuple[str, ...]]]:
    """What to average: the suite asked for, else every suite shown whole (one of a single dataset only where that is
    all there is), largest first, and all the datasets shown (named "") unless they are a suite; then every group shown
    whole, with its own mean."""
    known = catalog.catalogue()
    shown = {*datasets}
    groups = [(name, members) for name, members in known.groups.items() if {*members} <= shown]
    if suite:
        entries = [(entry,) if entry in known.groups else catalog.labels(entry) for entry in suite.datasets]
        return [(suite.name, tuple(dict.fromkeys(e for each in entries for e in each))), *groups]
    largest_first = sorted(known.suites.items(), key=lambda item: -len(item[1]))
    whole = [(n, m) for n, m in largest_first if {*_flat(m)} <= shown and (len(m) > 1 or len(datasets) == 1)]
    complete = any({*_flat(members)} == shown for _, members in [*whole, *groups])
    rest = [] if complete or len(datasets) < 2 else [("", _folded(datasets, groups))]
    return [*whole, *rest, *groups]


def _folded(datasets: tuple[str, ...], groups: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The datasets, those of a group replaced by its name."""
    group_of = {member: name for name, members in groups for member in members}
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
        own = [cells[model, label] for label in _flat(entries) if (model, label) in cells]
        means[model] = Mean(value, len(known), any(cell.in_domain for cell in own))
    title = f"{name} ({len(seen)} of {len(entries)})" if name else f"mean of {len(entries)}"
    return Average(title, entries, means, group=catalog.catalogue().groups.get(name) == entries)


def _entry_score(model: str, entry: str, cells: Cells) -> float | None:
    """A dataset's score, or the unweighted mean of a group's; None unless all of it is there."""
    found = [cells[model, label].score if (model, label) in cells else None for label in catalog.labels(entry)]
    known = [score for score in found if score is not None]
    return fsum(known) / len(known) if len(known) == len(found) else None


def _mixed(cells: Iterable[Cell]) -> frozenset[str]:
    contents: dict[str, set[str]] = {}
    for cell in cells:
        if cell.ok and cell.imported != "mteb":  # of which nobody knows what they saw
            contents.setdefault(cell.dataset, set()).add(content_key(cell.get("manifest", "dataset", "fingerprint")))
    return frozenset(dataset for dataset, keys in contents.items() if len(keys) > 1)
