"""The origin of values: the command, the key and the day of every result."""

from __future__ import annotations

from collections.abc import Iterable

from harness.results.store import as_text
from harness_reports.data.cells import Cell
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.tables.columns import PROVENANCE
from harness_reports.tables.model import CellSource, Table


def sources(cell: Cell) -> tuple[CellSource, ...]:
    """The stored result behind a cell, or those that it is the mean of."""
    if cell.members:
        return tuple(source for member in cell.members for source in sources(member))
    folder = as_text("/".join(cell.folder.parts[-2:])) if cell.folder else ""
    key, finished = cell.get("manifest", "key"), cell.get("manifest", "run", "finished")
    return (CellSource(str(cell.get("command") or ""), str(key or ""), str(finished or ""), folder),)


def provenance(board: Leaderboard) -> Table:
    """The commands that made the results, with the days and the versions."""
    made: dict[tuple[str, str, str], list[str]] = {}
    for cell in board.rows():
        run = ("manifest", "run")
        git = cell.get(*run, "git") or {}
        commit = str(git.get("commit") or "")[:10] + ("+" if git.get("dirty") else "")
        version = str(cell.get(*run, "versions", "retrieval-harness") or "")
        finished = str(cell.get(*run, "finished") or "")
        made.setdefault((str(cell.get("command") or ""), version, commit), []).append(finished[:10])
    rows = []
    for (command, version, commit), days in made.items():
        values = (command, len(days), _span(days), version, commit)
        rows.append([column.cell(value) for column, value in zip(PROVENANCE, values, strict=True)])
    caption = (
        "What was typed, how many of the results it made, and on which days (UTC). A + after the commit: the working "
        "tree differed from it. The key of every cell is in the JSON form."
    )
    return Table("provenance", "Provenance", [caption], PROVENANCE, rows)


def _span(days: Iterable[str]) -> str:
    known = sorted(filter(None, days))
    return " to ".join(dict.fromkeys([known[0], known[-1]])) if known else ""
