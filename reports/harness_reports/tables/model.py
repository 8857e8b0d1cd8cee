"""A table before it is Markdown, LaTeX or HTML: every figure with its value, what is shown, and what it is."""

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
"""What stands after a figure for each mark; the notes say what it means."""
Absence = Literal["", "failed", "partial", "missing", "needs licence", "incomplete", "none"]
"""Why a figure has no value: its cell failed, was run on some queries only, is not there, or is of a dataset that needs
a licence; an average or a mean over seeds lacks parts; there is no such figure."""


@dataclass(frozen=True, slots=True)
class Source:
    """The stored result that a figure comes from."""

    command: str
    """What was typed."""
    key: str
    """Of the cell, as its manifest has it."""
    finished: str
    """ISO 8601, UTC."""
    folder: str
    """Below the results folder."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One place of a table."""

    text: str
    """What is shown, in plain characters: a renderer escapes it."""
    value: Value = None
    """Full precision, in the unit that is stored; both ends of an interval; words for words; None: there is none."""
    best: bool = False
    """Whether it is the best of its column (or shown alike)."""
    marks: tuple[Mark, ...] = ()
    absence: Absence = ""
    sources: tuple[Source, ...] = ()
    """None where it was made from figures beside it."""

    @property
    def signs(self) -> str:
        """The signs of its marks."""
        return "".join(SIGNS[mark] for mark in self.marks)

    @property
    def told(self) -> str:
        """Where it comes from, in words."""
        return "; ".join(
            f"{each.folder or 'result'}, {each.finished or 'no date'}, key {each.key[:12] or 'unknown'}: {each.command}"
            for each in self.sources
        )


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds, and how its values are shown."""

    name: str
    form: str = ""
    """Of Python's format(); empty: words."""
    scale: float = 1.0
    """What a value is multiplied by to be shown."""
    long: bool = False
    """Whether its words may take several lines."""

    def figure(self, value: object, marks: Sequence[Mark] = (), sources: tuple[Source, ...] = ()) -> Figure:
        """A value of this column, or an interval of such; a dash where there is none."""
        if not self.form:
            return Figure(str(value), str(value), sources=sources) if value not in (None, "") else NONE
        if isinstance(value, tuple):
            ends = map(self._shown, dict.fromkeys(value))
            return Figure(" to ".join(ends), value, marks=tuple(marks), sources=sources)
        if not isinstance(value, int | float):
            return NONE
        return Figure(self._shown(value), value, marks=tuple(marks), sources=sources)

    def _shown(self, value: float) -> str:
        return format(value * self.scale if self.scale != 1 else value, self.form)


NONE = Figure("-", absence="none")


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows under a title."""

    key: str
    """Its name to a program."""
    title: str
    caption: Sequence[str]
    """Sentences."""
    columns: Sequence[Column]
    rows: Sequence[Sequence[Figure]]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to print."""

    tables: Sequence[Table]
    notes: Sequence[str]

    def content(self) -> dict[str, Any]:
        """Tables and notes, JSON-able. A figure's ``sources`` are places in the list ``sources``."""
        sources = {each: 0 for table in self.tables for row in table.rows for f in row for each in f.sources}
        places = {source: place for place, source in enumerate(sources)}
        tables = [
            {
                "table": table.key,
                "title": table.title,
                "caption": " ".join(table.caption),
                "columns": [{"name": c.name, "format": c.form, "scale": c.scale} for c in table.columns],
                "rows": [[_content(figure, places) for figure in row] for row in table.rows],
            }
            for table in self.tables
        ]
        listed = [
            {"command": each.command, "key": each.key, "finished": each.finished, "folder": each.folder}
            for each in sources
        ]
        return {"tables": tables, "notes": list(self.notes), "sources": listed}


def _content(figure: Figure, places: Mapping[Source, int]) -> dict[str, Any]:
    content: dict[str, Any] = {"text": figure.text, "value": figure.value}
    content |= {"best": True} if figure.best else {}
    content |= {"marks": list(figure.marks)} if figure.marks else {}
    content |= {"absence": figure.absence} if figure.absence else {}
    return content | ({"sources": [places[each] for each in figure.sources]} if figure.sources else {})


def with_best(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of a column, the greatest of several marked, and all that are shown like it."""
    known = [figure.text for figure in figures if not figure.absence]
    best = max(known, key=float) if len(known) > 1 else None
    return [replace(figure, best=not figure.absence and figure.text == best) for figure in figures]
