"""Markdown as another program renders it."""

from __future__ import annotations

from dataclasses import dataclass

from markdown_it import MarkdownIt

import harness_reports.render.markdown
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.tables.sections import report


def markdown(board: Leaderboard) -> str:
    """A leaderboard's report."""
    return harness_reports.render.markdown.markdown(report(board))


@dataclass
class Table:
    """A Markdown table as another program renders it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    bold: set[tuple[str, str]]
    """(row name, column) of the cells in bold."""

    def __getitem__(self, place: tuple[str, str]) -> str:
        name, column = place
        (row,) = [row for row in self.rows if row[0] == name]
        return row[self.header.index(column)]


def rendered(text: str) -> tuple[dict[str, Table], str]:
    """Tables by heading, and the rest of the text."""
    tables: dict[str, Table] = {}
    title = ""
    words: list[str] = []
    row: list[str] = []
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if token.type != "inline":
            if token.type == "tr_close":
                tables[title].rows.append(row)
                row = []
            continue
        plain = "".join(child.content for child in token.children or () if not child.type.endswith(("open", "close")))
        assert previous is not None
        if previous.type == "heading_open":
            title = plain
        elif previous.type in ("th_open", "td_open"):
            table = tables.setdefault(title, Table(title, [], [], set()))
            row.append(plain)
            if any(child.type == "strong_open" for child in token.children or ()):
                table.bold.add((row[0], table.rows[0][len(row) - 1]))
        else:
            words.append(plain)
    for table in tables.values():
        table.header = table.rows.pop(0)
    return tables, "\n".join(words)
