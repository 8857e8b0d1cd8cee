"""Stored results as one leaderboard: what a report shows, however it is printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from harness import catalog
from harness.atomic import content_key
from harness.spec import UserError
from harness.store import Unreadable
from reports.averages import Average as Average
from reports.averages import Mean as Mean
from reports.averages import averages, flat
from reports.cell import MEASURE as MEASURE
from reports.cell import Cell as Cell
from reports.cell import Cells as Cells
from reports.seeds import fold
from reports.stored import read_cells


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
    disputed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(model, dataset) of results of one cell that disagree -> what is said of them."""
    seeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A row that is a mean over seeds -> the models whose cells it is the mean of."""

    def rows(self) -> list[Cell]:
        """Every stored cell: by dataset within model, partial ones last; means over seeds as what they are made of."""
        tables = ((self.cells, self.datasets), (self.partial_cells, self.partial_datasets))
        models = [one for model in self.models for one in self.seeds.get(model, (model,))]
        keys = ((cells, (model, d)) for cells, datasets in tables for model in models for d in datasets)
        return [cells[key] for cells, key in keys if key in cells]


def read_leaderboard(root: Path, suite: str | None = None, *, seeds: bool = False) -> Leaderboard:
    """Every result below ``root``, or those on one suite's datasets; UserError when there is none.

    With ``seeds``, training runs that differ in their seed alone become one model, the mean over them.
    """
    chosen_suite = catalog.suite(suite) if suite else None
    members = flat(chosen_suite.datasets) if chosen_suite else ()
    stored = read_cells(root)
    chosen = {key: cell for key, cell in stored.cells.items() if not suite or _belongs(cell, members)}
    if not chosen:
        raise UserError(_nothing(root, suite, stored.skipped))
    chosen, folded = fold(chosen) if seeds else (chosen, {})
    cells = {key: cell for key, cell in chosen.items() if not cell.partial}
    partial = {key: cell for key, cell in chosen.items() if cell.partial}
    runs = {model for models in folded.values() for model in models}
    models = sorted({model for model, _ in chosen} - runs)
    datasets = members or _datasets(cells)
    means = averages(datasets, chosen_suite, models, cells)

    def best_first(model: str) -> tuple[list[float], str]:
        scores = [average.means[model].value for average in means]
        for table, over in ((cells, datasets), (partial, _datasets(partial))):
            scores += [table[model, d].score if (model, d) in table else None for d in over]
        return [inf if value is None else -value for value in scores], model

    models.sort(key=best_first)
    apart, mixed = _datasets(partial), _mixed(chosen.values())
    disputed = {key: told for key, told in stored.disputed.items() if key in chosen}
    return Leaderboard(models, datasets, cells, apart, partial, means, mixed, stored.skipped, root, disputed, folded)


def _belongs(cell: Cell, members: Sequence[str]) -> bool:
    return (cell.get("manifest", "dataset", "name") if cell.partial else cell.dataset) in members


def _nothing(root: Path, suite: str | None, skipped: Sequence[Unreadable]) -> str:
    command = f"harness benchmark -m bm25 --suite {suite or 'demo'} --results {shlex.quote(str(root))}"
    if not root.is_dir():
        return f"There is no results folder {root}; name another with --results, or make one: {command}"
    if skipped:
        first = f"{skipped[0].place}: {skipped[0].reason}"
        return (
            f"None of the results in {root} can be used here ({len(skipped)} unreadable; {first}); make some: {command}"
        )
    what = f" on the datasets of the suite {suite}" if suite else ""
    return f"There are no results{what} in {root}; make some: {command}"


def _suite_order(dataset: str) -> tuple[int, str]:
    names = [name for members in catalog.catalogue().suites.values() for name in flat(members)]
    return (names.index(dataset) if dataset in names else len(names), dataset)


def _datasets(cells: Cells) -> tuple[str, ...]:
    """Their datasets, in suite order and then alphabetically."""
    return tuple(sorted({dataset for _, dataset in cells}, key=_suite_order))


def _mixed(cells: Iterable[Cell]) -> frozenset[str]:
    contents: dict[str, set[str]] = {}
    for cell in cells:
        if cell.ok and cell.imported != "mteb":  # of which nobody knows what they saw
            contents.setdefault(cell.dataset, set()).add(content_key(cell.get("manifest", "dataset", "fingerprint")))
    return frozenset(dataset for dataset, keys in contents.items() if len(keys) > 1)
