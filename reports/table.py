"""A table before it is Markdown, LaTeX or HTML: every figure with its value, what is shown, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Value = float | str | tuple[float, float] | None
Mark = Literal["in-domain"]
SIGNS: Mapping[Mark, str] = {"in-domain": "*"}
"""What stands after a figure for each mark; the notes say what it means."""
Absence = Literal["", "failed", "incomplete", "missing", "none"]
"""Why a figure has no value: its cell failed; its average lacks datasets; no result is there; no figure is there."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One place of a table."""

    text: str
    """What is shown, in plain characters: a renderer escapes it."""
    value: Value = None
    """Full precision, in the unit that is stored; words for words; None where there is none."""
    best: bool = False
    """Whether it is the best of its column (or shown alike)."""
    marks: tuple[Mark, ...] = ()
    absence: Absence = ""

    @property
    def signs(self) -> str:
        """The signs of its marks."""
        return "".join(SIGNS[mark] for mark in self.marks)


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds, and how its values are shown."""

    name: str
    form: str = ""
    """Of Python's format(); empty: words."""
    scale: float = 1.0
    """What a value is multiplied by to be shown."""

    def figure(self, value: object, marks: Sequence[Mark] = ()) -> Figure:
        """A value of this column; a dash where there is none."""
        if not self.form:
            return Figure(str(value), str(value)) if value not in (None, "") else NONE
        if not isinstance(value, int | float):
            return NONE
        return Figure(format(value * self.scale if self.scale != 1 else value, self.form), value, marks=tuple(marks))


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


def with_best(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of a column, the greatest of several marked, and all that are shown like it."""
    known = [figure.text for figure in figures if not figure.absence]
    best = max(known, key=float) if len(known) > 1 else None
    return [replace(figure, best=not figure.absence and figure.text == best) for figure in figures]
