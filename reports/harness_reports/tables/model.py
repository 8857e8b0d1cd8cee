"""The tables of a report, from which Markdown, LaTeX, HTML and JSON are rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Value = float | str | tuple[float, float] | None
Mark = Literal["in-domain", "better", "worse", "disputed", "imported", "unanswered", "versions"]
SIGNS: Mapping[Mark, str] = {
    **{"in-domain": "*", "better": "†", "worse": "‡", "disputed": "§", "imported": "°"},
    **{"unanswered": "‖", "versions": "¶"},
}
"""The sign that follows a value for each mark; the notes of the report explain it."""
Absence = Literal["", "failed", "partial", "missing", "needs licence", "incomplete", "none"]
"""Why a cell of a table has no value: the result failed, is of some queries only, is missing, or is of a dataset that
needs a licence; an average or a mean over seeds is incomplete; there is no such value."""


@dataclass(frozen=True, slots=True)
class CellSource:
    """The stored result that a value comes from."""

    command: str
    """The command that made it."""
    key: str
    """The key in its manifest."""
    finished: str
    """ISO 8601, UTC."""
    folder: str
    """Relative to the results folder."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell of a table."""

    text: str
    """The text that is shown, unescaped."""
    value: Value = None
    """The value in full precision, in the stored unit; both ends of an interval; a text; None if there is no value."""
    best: bool = False
    """Whether it is the best of its column, or is shown like the best."""
    marks: tuple[Mark, ...] = ()
    absence: Absence = ""
    sources: tuple[CellSource, ...] = ()
    """Empty if it was computed from other cells of the table."""

    @property
    def signs(self) -> str:
        """The signs of its marks, joined."""
        return "".join(SIGNS[mark] for mark in self.marks)

    @property
    def origin(self) -> str:
        """Its sources as text: folder, date, key and command of each."""
        return "; ".join(
            f"{each.folder or 'result'}, {each.finished or 'no date'}, key {each.key[:12] or 'unknown'}: {each.command}"
            for each in self.sources
        )


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading and how its values are formatted."""

    name: str
    form: str = ""
    """Format specification for format(); empty for text."""
    scale: float = 1.0
    """Factor that values are multiplied by before they are formatted."""
    long: bool = False
    """Whether its text may be wrapped over several lines."""

    def cell(self, value: object, marks: Sequence[Mark] = (), sources: tuple[CellSource, ...] = ()) -> TableCell:
        """The table cell of a value or an interval; a dash if there is no value."""
        if not self.form:
            return TableCell(str(value), str(value), sources=sources) if value not in (None, "") else NONE
        if isinstance(value, tuple):
            ends = map(self._shown, dict.fromkeys(value))
            return TableCell(" to ".join(ends), value, marks=tuple(marks), sources=sources)
        if not isinstance(value, int | float):
            return NONE
        return TableCell(self._shown(value), value, marks=tuple(marks), sources=sources)

    def _shown(self, value: float) -> str:
        return format(value * self.scale if self.scale != 1 else value, self.form)


NONE = TableCell("-", absence="none")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title and a caption."""

    key: str
    """Its identifier, for programs."""
    title: str
    caption: Sequence[str]
    """Sentences."""
    columns: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]


@dataclass(frozen=True, slots=True)
class Report:
    """All tables and notes of a report."""

    tables: Sequence[Table]
    notes: Sequence[str]

    def content(self) -> dict[str, Any]:
        """Tables and notes as JSON; a cell's ``sources`` are indices into the list ``sources``."""
        sources = {each: 0 for table in self.tables for row in table.rows for f in row for each in f.sources}
        places = {source: place for place, source in enumerate(sources)}
        tables = [
            {
                "table": table.key,
                "title": table.title,
                "caption": " ".join(table.caption),
                "columns": [{"name": c.name, "format": c.form, "scale": c.scale} for c in table.columns],
                "rows": [[_content(cell, places) for cell in row] for row in table.rows],
            }
            for table in self.tables
        ]
        listed = [
            {"command": each.command, "key": each.key, "finished": each.finished, "folder": each.folder}
            for each in sources
        ]
        return {"tables": tables, "notes": list(self.notes), "sources": listed}


def _content(cell: TableCell, places: Mapping[CellSource, int]) -> dict[str, Any]:
    content: dict[str, Any] = {"text": cell.text, "value": cell.value}
    content |= {"best": True} if cell.best else {}
    content |= {"marks": list(cell.marks)} if cell.marks else {}
    content |= {"absence": cell.absence} if cell.absence else {}
    return content | ({"sources": [places[each] for each in cell.sources]} if cell.sources else {})


def with_best(cells: Sequence[TableCell]) -> list[TableCell]:
    """The cells of a column with the largest value, and all that are shown like it, marked as the best."""
    known = [cell.text for cell in cells if not cell.absence]
    best = max(known, key=float) if len(known) > 1 else None
    return [replace(cell, best=not cell.absence and cell.text == best) for cell in cells]
