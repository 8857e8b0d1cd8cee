"""Stored results as one leaderboard, the content of every report."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, inf
from pathlib import Path

from harness.datasets import catalog
from harness.registry.parser import canonical
from harness.results.mteb_tasks import ROUNDING
from harness.results.store import Unreadable
from harness.storage.atomic import content_key
from harness.types import UserError
from harness_reports.data.averages import Average as Average
from harness_reports.data.averages import Mean as Mean
from harness_reports.data.averages import averages, flat, members
from harness_reports.data.cells import MEASURE as MEASURE
from harness_reports.data.cells import Cell as Cell
from harness_reports.data.cells import Cells as Cells
from harness_reports.data.seeds import fold
from harness_reports.data.stored import StoredCells, read_cells

SHOWN = 5
"""How many models a sentence names."""


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
    """What was run on some of the queries only, or with another setting than the dataset's, apart: never averaged,
    never beside whole and usual ones."""
    averages: Sequence[Average]
    mixed: frozenset[str]
    """Datasets of which the cells saw different contents, so that their column compares nothing."""
    versions: Mapping[str, Sequence[Sequence[str]]]
    """Such a dataset -> the models that saw one content, for each content, the largest group first."""
    skipped: Sequence[Unreadable]
    root: Path
    """The results folder."""
    disputed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(model, dataset) of results of one cell that disagree -> what is said of them."""
    seeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A row that is a mean over seeds -> the models whose cells it is the mean of."""

    def label(self, text: str) -> str:
        """The model of that label, with options in any order and form; the text itself if there is no such model.

        A row over seeds is found by its name without the number of seeds, too.
        """
        if text in self.models:
            return text
        meant = canonical(text, typed=True)
        found = [model for model in self.models if canonical(model) == meant]
        found += [row for row in self.seeds if canonical(row.partition(" (mean of ")[0]) == meant]
        return found[0] if found else text

    def warnings(self) -> list[str]:
        """Warnings about whole columns."""
        return [
            f"{dataset}: the models saw different versions of it, so its column compares nothing "
            f"({'; '.join(f'one version: {some(group)}' for group in groups)})"
            for dataset, groups in self.versions.items()
        ]

    def rows(self) -> list[Cell]:
        """Every stored cell: by dataset within model, partial ones last; means over seeds as what they are made of."""
        means = [group for group in catalog.catalogue().groups if group not in self.datasets]
        tables = ((self.cells, [*self.datasets, *means]), (self.partial_cells, self.partial_datasets))
        models = [one for model in self.models for one in self.seeds.get(model, (model,))]
        keys = ((cells, (model, d)) for cells, datasets in tables for model in models for d in datasets)
        return [cells[key] for cells, key in keys if key in cells]


def read_leaderboard(
    root: Path, suite: str | None = None, *, seeds: bool = False, only: Collection[tuple[str, str]] | None = None
) -> Leaderboard:
    """Every result below ``root``, those on one suite's datasets, or ``only`` these (model, dataset) labels.

    UserError if there is none.

    With ``seeds``, training runs that differ in their seed alone become one model, the mean over them.
    """
    return leaderboard(read_cells(root), root, suite, seeds=seeds, only=only)


def leaderboard(
    stored: StoredCells,
    root: Path,
    suite: str | None = None,
    *,
    seeds: bool = False,
    only: Collection[tuple[str, str]] | None = None,
) -> Leaderboard:
    """The leaderboard of stored results; the rest as for `read_leaderboard`."""
    chosen_suite = catalog.suite(suite) if suite else None
    wanted = flat(chosen_suite.datasets) if chosen_suite else ()
    entries = {*wanted, *(chosen_suite.datasets if chosen_suite else ())}
    cells = {key: cell for key, cell in stored.cells.items() if only is None or key in only}
    chosen = {key: cell for key, cell in cells.items() if not suite or _belongs(cell, entries)}
    if not chosen:
        raise UserError(_nothing(root, suite, stored.skipped))
    chosen, folded = fold(chosen) if seeds else (chosen, {})
    contradicted = _drop_means(chosen)
    cells = {key: cell for key, cell in chosen.items() if not cell.apart}
    partial = {key: cell for key, cell in chosen.items() if cell.apart}
    runs = {model for models in folded.values() for model in models}
    models = sorted({model for model, _ in chosen} - runs)
    datasets = wanted or _datasets(cells)
    means = averages(datasets, chosen_suite, models, cells)

    def best_first(model: str) -> tuple[list[float], str]:
        scores = [average.means[model].value for average in means]
        for table, over in ((cells, datasets), (partial, _datasets(partial))):
            scores += [table[model, d].score if (model, d) in table else None for d in over]
        return [inf if value is None else -value for value in scores], model

    models.sort(key=best_first)
    apart, versions = _datasets(partial), _versions(chosen.values(), models)
    disputed = {key: told for key, told in stored.disputed.items() if key in chosen} | contradicted
    rest = frozenset(versions), versions, stored.skipped, root, disputed, folded
    return Leaderboard(models, datasets, cells, apart, partial, means, *rest)


def some(models: Sequence[str]) -> str:
    """The first few of them, for a sentence."""
    return ", ".join(models[:SHOWN]) + (f" and {len(models) - SHOWN} more" if len(models) > SHOWN else "")


def _belongs(cell: Cell, entries: Collection[str]) -> bool:
    return (cell.get("manifest", "dataset", "name") if cell.apart else cell.dataset) in entries


def _drop_means(cells: dict[tuple[str, str], Cell]) -> dict[tuple[str, str], str]:
    """Leaves out means of groups (as MTEB keeps them) where every dataset of the group is there, which count then.

    Returns a sentence for each that differs from the mean of these datasets, by model and group.
    """
    differing: dict[tuple[str, str], str] = {}
    for model, group in [key for key in cells if key[1] in catalog.catalogue().groups]:
        found = [cells[model, member].score for member in members(group) if (model, member) in cells]
        scores = [score for score in found if score is not None]
        if len(scores) < len(members(group)):
            continue
        stated, mean = cells.pop((model, group)).score, fsum(scores) / len(scores)
        if stated is not None and abs(stated - mean) > ROUNDING:
            differing[model, group] = (
                f"{model} on {group}: the mean of its {len(scores)} datasets, which counts, is {100 * mean:.4f}, the "
                f"imported one {100 * stated:.4f}"
            )
    return differing


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
    names = [name for suite in catalog.catalogue().suites.values() for name in flat(suite)]
    first = members(dataset)[0]
    return (names.index(first) if first in names else len(names), dataset)


def _datasets(cells: Cells) -> tuple[str, ...]:
    """Their datasets, in suite order and then alphabetically; a group of which there are means alone is one of them."""
    found = {dataset for _, dataset in cells}
    for group in catalog.catalogue().groups.keys() & found:
        if not found.isdisjoint(members(group)):
            found = found - {group} | {*members(group)}
    return tuple(sorted(found, key=_suite_order))


def _versions(cells: Iterable[Cell], models: Sequence[str]) -> dict[str, list[list[str]]]:
    """`Leaderboard.versions`; the models of a group in the order given."""
    contents: dict[str, dict[str, set[str]]] = {}
    for cell in cells:
        if cell.ok and cell.imported != "mteb":  # of which nobody knows what they saw
            key = content_key(cell.get("manifest", "dataset", "fingerprint"))
            contents.setdefault(cell.dataset, {}).setdefault(key, set()).add(cell.model)
    found = {}
    for dataset, by_key in contents.items():
        groups = [[model for model in models if model in group] for group in by_key.values()]
        if len(groups) > 1:
            found[dataset] = sorted((group for group in groups if group), key=len, reverse=True)
    return found
