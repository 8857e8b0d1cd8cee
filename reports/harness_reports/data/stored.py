"""Reads the results below a folder: usable ones, unreadable ones, and conflicts between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.results.mteb_tasks import dataset_of
from harness.results.overlap import read_overlaps
from harness.results.schema import Result
from harness.results.store import ResultStore, Unreadable, as_text, read_result
from harness_reports.data.cells import MEASURE, Cell


class StoredCells(NamedTuple):
    """All results below a results folder."""

    cells: dict[tuple[str, str], Cell]
    """(model, dataset) -> cell. A result that contradicts another of the same cell has a row of its own, named after
    its folder."""
    skipped: list[Unreadable]
    disputed: dict[tuple[str, str], str]
    """Both keys of results of one cell that disagree -> the message about them."""


def read_cells(root: Path) -> StoredCells:
    """Reads every result.

    Of several results of one cell, the one in the store's own folder counts; equal copies are skipped.
    """
    store = ResultStore(root)
    stored = StoredCells({}, [], {})
    found: dict[tuple[str, str], list[Cell]] = {}
    for folder, result in _usable(store, stored.skipped):
        if result.get("imported") == "mteb" and result["dataset"] in dataset_of():  # of before a group had a task
            result["dataset"] = dataset_of()[result["dataset"]]
        found.setdefault((str(result["model"]), str(result["dataset"])), []).append(Cell(result, folder))
    for key, (first, *others) in found.items():
        own = next((cell for cell in others if cell.folder == store.folder(*key)), first)
        stored.cells[key] = own
        for other in (cell for cell in (first, *others) if cell is not own):
            _add_rival(stored, key, other, store)
    stored.skipped.extend(read_overlaps(root)[1])
    return stored


def _usable(store: ResultStore, skipped: list[Unreadable]) -> Iterator[tuple[Path, Result]]:
    for folder in store.folders():
        result = read_result(folder)
        if isinstance(result, Unreadable):
            skipped.append(result)
        else:
            yield folder, result


def _add_rival(stored: StoredCells, key: tuple[str, str], cell: Cell, store: ResultStore) -> None:
    assert cell.folder is not None
    own, root, (model, dataset) = stored.cells[key], store.root, key
    if _agree(own, cell):
        reason = f"a copy of {_place(own, root)}, which says the same; move it elsewhere"
        stored.skipped.append(Unreadable(cell.folder / "result.json", reason))
        return
    row = f"{model} (in {as_text(cell.folder.parent.name)})"
    if (row, dataset) in stored.cells or cell.folder.parent == store.folder(*key).parent:
        row = f"{model} (in {_place(cell, root)})"
    stored.cells[row, dataset] = Cell(cell.result, cell.folder, row)
    both = " and ".join(f"{_shown(each)} in {_place(each, root)}" for each in (own, cell))
    told = f"{model} on {dataset}: two results disagree ({both}); both are shown, the second as {row}"
    stored.disputed[key] = "; ".join(filter(None, [stored.disputed.get(key), told]))
    stored.disputed[row, dataset] = told


def _agree(own: Cell, cell: Cell) -> bool:
    """Whether both have the same values of the metrics that both hold."""
    first, second = own.get("measures"), cell.get("measures")
    both = first.keys() & second.keys()
    same = all(first[name] == second[name] for name in both) and (both or not second)
    return bool(own.get("status") == cell.get("status") and same)


def _shown(cell: Cell) -> str:
    score = cell.score
    return f"{MEASURE} {100 * score:.4f}" if score is not None else str(cell.get("status"))


def _place(cell: Cell, root: Path) -> str:
    return as_text(cell.folder.relative_to(root)) if cell.folder else cell.model
