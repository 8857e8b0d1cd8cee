"""A report as GitHub's Markdown."""

from __future__ import annotations

import re

from harness_reports.tables.model import Figure, Report, Table


def markdown(report: Report) -> str:
    """The whole report."""
    sections = [part for table in report.tables for part in _section(table)]
    notes = "\n".join(f"- {escape(note)}" for note in report.notes)
    return "\n\n".join([*sections, "## Notes", notes]) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line; underscores inside a word mean nothing and stay bare."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return re.sub(r"([\\`*<>|\[\]~&$]|^(?:#+|[+-](?=\s))|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)


def _section(table: Table) -> list[str]:
    from tabulate import tabulate

    sides = ["right" if column.form else "left" for column in table.columns]
    rows = [[_cell(figure) for figure in row] for row in table.rows]
    headers = [escape(column.name) for column in table.columns]
    grid = tabulate(rows, headers, tablefmt="pipe", colalign=sides, disable_numparse=True)
    return [f"## {escape(table.title)}", escape(" ".join(table.caption)), grid]


def _cell(figure: Figure) -> str:
    text = escape(figure.text)
    return (f"**{text}**" if figure.best else text) + escape(figure.signs)
