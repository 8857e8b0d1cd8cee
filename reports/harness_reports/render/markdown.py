"""A report as GitHub's Markdown."""

from __future__ import annotations

import re
from functools import cache

from harness_reports.tables.model import Report, Table, TableCell


def markdown(report: Report) -> str:
    """The report as Markdown."""
    sections = [part for table in report.tables for part in _section(table)]
    notes = "\n".join(f"- {escape(note)}" for note in report.notes)
    return "\n\n".join([*sections, "## Notes", notes]) + "\n"


@cache
def escape(text: str) -> str:
    """Escapes text for Markdown, on one line; underscores inside a word have no meaning there and stay."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return re.sub(r"([\\`*<>|\[\]~&$]|^(?:#+|[+-](?=\s))|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)


def _section(table: Table) -> list[str]:
    from tabulate import tabulate

    sides = ["right" if column.form else "left" for column in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    headers = [escape(column.name) for column in table.columns]
    grid = tabulate(rows, headers, tablefmt="pipe", colalign=sides, disable_numparse=True)
    return [f"## {escape(table.title)}", escape(" ".join(table.caption)), grid]


def _cell(cell: TableCell) -> str:
    text = escape(cell.text)
    return (f"**{text}**" if cell.best else text) + escape(cell.signs)
