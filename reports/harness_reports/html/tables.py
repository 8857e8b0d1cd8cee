"""A report's tables as a fragment of HTML that a page embeds: plain tables, captions and scopes; no script, no style.

Classes describe a cell (``best``, ``in-domain``, ``better``, ``worse``, ``disputed``, ``failed``, ``missing``),
``data-value`` holds the value in full precision (of an interval: both ends), ``title`` the sources. The scrolling
region is accessible by keyboard and screen reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as _escape

from harness_reports.tables.model import Column, Mark, Report, Table, TableCell

SAID: dict[Mark, str] = {
    "in-domain": "in-domain",
    "better": "better than the baseline",
    "worse": "worse than the baseline",
    "disputed": "disputed",
    "imported": "imported",
    "unanswered": "of a run without many of the queries",
    "versions": "of different versions of the dataset",
}
"""What a sign means, for screen readers."""

Links = Mapping[tuple[str, str], str]
"""Name of a column and text of a cell -> address of a link; headings of columns are looked up under ``dataset``."""


def html_tables(report: Report, links: Links | None = None) -> str:
    """Sections with ids ``table-scores``, ``table-geometry`` ..., and the notes under ``report-notes``."""
    links = links or {}
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in report.notes)
    listed = f'<section id="report-notes">\n<h2>Notes</h2>\n<ul>\n{notes}</ul>\n</section>' if notes else ""
    return "\n".join([*(_section(table, links) for table in report.tables), listed]) + "\n"


def escape(text: str) -> str:
    """Escapes text for HTML and its attributes; control characters, which HTML forbids, become U+FFFD."""
    return _escape("".join(c if c.isprintable() or c in " \n\t" else "\ufffd" for c in text), quote=True)


def _section(table: Table, links: Links) -> str:
    ident = f"table-{escape(table.key)}"
    head = "".join(_header(column, links) for column in table.columns)
    body = "".join(f"<tr>{_cells(table.columns, row, links)}</tr>\n" for row in table.rows)
    return (
        f'<section id="{ident}">\n<h2 id="{ident}-title">{escape(table.title)}</h2>\n'
        f'<div class="scroll" role="region" aria-labelledby="{ident}-title" tabindex="0">\n<table>\n'
        f"<caption>{escape(' '.join(table.caption))}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n</section>"
    )


def _header(column: Column, links: Links) -> str:
    text = _linked(column.name, links.get(("dataset", column.name)))
    return f'<th scope="col"{"" if not column.form else _class(["number"])}>{text}</th>'


def _linked(text: str, address: str | None) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>' if address else escape(text)


def _cells(columns: Sequence[Column], row: Sequence[TableCell], links: Links) -> str:
    first, *rest = zip(columns, row, strict=True)
    others = "".join(_cell("td", column, cell, links) for column, cell in rest)
    return _cell("th", *first, links, extra=' scope="row"') + others


def _cell(tag: str, column: Column, cell: TableCell, links: Links, extra: str = "") -> str:
    classes = [*(["number"] if column.form else []), *(["best"] if cell.best else []), *cell.marks]
    classes += [cell.absence.replace(" ", "-")] if cell.absence else []
    text = _linked(cell.text, links.get((column.name, cell.text)))
    text = f"<strong>{text}</strong>" if cell.best else text
    signs = "".join(
        f'<sup aria-label="{SAID[mark]}" role="img">{escape(sign)}</sup>'
        for mark, sign in zip(cell.marks, cell.signs, strict=True)
    )
    return f"<{tag}{extra}{_class(classes)}{_value(column, cell)}{_title(cell)}>{text}{signs}</{tag}>"


def _class(classes: Sequence[str]) -> str:
    return f' class="{" ".join(classes)}"' if classes else ""


def _value(column: Column, cell: TableCell) -> str:
    if not column.form or cell.value is None:
        return ""
    ends = cell.value if isinstance(cell.value, tuple) else (cell.value,)
    return f' data-value="{escape(" ".join(map(repr, ends)))}"'


def _title(cell: TableCell) -> str:
    return f' title="{escape(cell.origin)}"' if cell.sources else ""
