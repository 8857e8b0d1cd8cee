"""Stored results as one leaderboard: what a report shows, however it is printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf, isfinite
from pathlib import Path
from typing import Any

from harness.atomic import content_key
from harness.catalog import SUITES
from harness.catalog import suite as members_of
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
    """The unweighted mean of `MEASURE` over stated datasets."""

    name: str
    datasets: tuple[str, ...]
    means: Mapping[str, Mean]
    """Model -> its mean."""


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

    def rows(self) -> list[Cell]:
        """Every cell: by dataset within model, partial ones last."""
        tables = ((self.cells, self.datasets), (self.partial_cells, self.partial_datasets))
        keys = ((cells, (model, d)) for cells, datasets in tables for model in self.models for d in datasets)
        return [cells[key] for cells, key in keys if key in cells]


def read_leaderboard(root: Path, suite: str | None = None) -> Leaderboard:
    """Every result below ``root``, or those on one suite's datasets; UserError when there is none."""
    members = members_of(suite) if suite else ()
    found, skipped = _read(root)
    chosen = {key: cell for key, cell in found.items() if not suite or _belongs(cell, members)}
    if not chosen:
        raise UserError(_nothing(root, suite, skipped))
    cells = {key: cell for key, cell in chosen.items() if not cell.partial}
    partial = {key: cell for key, cell in chosen.items() if cell.partial}
    models = sorted({model for model, _ in chosen})
    datasets = members or _datasets(cells)
    averages = [_average(name, over, models, cells) for name, over in _averaged(datasets, suite)]

    def best_first(model: str) -> tuple[list[float], str]:
        scores = [average.means[model].value for average in averages]
        for table, over in ((cells, datasets), (partial, _datasets(partial))):
            scores += [table[model, d].score if (model, d) in table else None for d in over]
        return [inf if value is None else -value for value in scores], model

    models.sort(key=best_first)
    mixed = _mixed(chosen.values())
    return Leaderboard(models, datasets, cells, _datasets(partial), partial, averages, mixed, skipped)


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


def _suite_order(dataset: str) -> tuple[int, str]:
    names = [name for members in SUITES.values() for name in members]
    return (names.index(dataset) if dataset in names else len(names), dataset)


def _datasets(cells: Cells) -> tuple[str, ...]:
    """Their datasets, in suite order and then alphabetically."""
    return tuple(sorted({dataset for _, dataset in cells}, key=_suite_order))


def _averaged(datasets: tuple[str, ...], suite: str | None) -> list[tuple[str, tuple[str, ...]]]:
    """What to average: the suite asked for, else every suite shown whole (one of a single dataset only where that is
    all there is), largest first, and all the datasets shown (named "") unless they are a suite."""
    if suite:
        return [(suite, datasets)]
    largest_first = sorted(SUITES.items(), key=lambda item: -len(item[1]))
    named = [(n, m) for n, m in largest_first if {*m} <= {*datasets} and (len(m) > 1 or len(datasets) == 1)]
    known = any(len(members) == len(datasets) for _, members in named)
    return named if known or len(datasets) < 2 else [*named, ("", datasets)]


def _average(suite: str, datasets: tuple[str, ...], models: Sequence[str], cells: Cells) -> Average:
    means: dict[str, Mean] = {}
    seen: set[str] = set()
    for model in models:
        own = [cells[model, dataset] for dataset in datasets if (model, dataset) in cells]
        scores = {cell.dataset: cell.score for cell in own if cell.score is not None}
        seen |= scores.keys()
        value = fsum(scores.values()) / len(datasets) if len(scores) == len(datasets) else None
        means[model] = Mean(value, len(scores), any(cell.in_domain for cell in own))
    name = f"{suite} ({len(seen)} of {len(datasets)})" if suite else f"mean of {len(datasets)}"
    return Average(name, datasets, means)


def _mixed(cells: Iterable[Cell]) -> frozenset[str]:
    contents: dict[str, set[str]] = {}
    for cell in cells:
        if cell.ok:
            contents.setdefault(cell.dataset, set()).add(content_key(cell.get("manifest", "dataset", "fingerprint")))
    return frozenset(dataset for dataset, keys in contents.items() if len(keys) > 1)
