"""What is printed, read back by something that knows nothing of how it was printed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Page(HTMLParser):
    """Tables of a fragment of HTML, and everything that could be amiss in it."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    """Id of the section -> rows of plain texts, the header first."""
    values: dict[str, list[list[str | None]]] = field(default_factory=dict)
    """The same for ``data-value``."""
    bold: set[tuple[str, str]] = field(default_factory=set)
    """(first of the row, text)"""
    tags: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    section: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "section":
            self.section = given["id"] or ""
        elif tag == "table":
            self.tables[self.section], self.values[self.section] = [], []
        elif tag == "caption":
            self.captions.append("")
        elif tag == "tr":
            self.tables[self.section].append([])
            self.values[self.section].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1].append("")
            self.values[self.section][-1].append(given.get("data-value"))
            self.scopes += [given["scope"] or ""] if tag == "th" else []
            self.titles += [given["title"] or ""] if "title" in given else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "every element is closed in its place"

    def handle_data(self, data: str) -> None:
        if "caption" in self.open:
            self.captions[-1] += data
        if "td" in self.open or "th" in self.open:
            row = self.tables[self.section][-1]
            row[-1] += data
            if "strong" in self.open:
                self.bold.add((row[0], data))


def read_html(text: str) -> Page:
    """The fragment, all of it."""
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    return page


SPELT = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
    "textbar": "|", "textquotedbl": '"', "textquotesingle": "'", "textasciigrave": "`", "textasteriskcentered": "*",
    "textdagger": "†", "textdaggerdbl": "‡", "textsection": "§", "textpm": "±", "textminus": "-", "textdegree": "°",
    "textbardbl": "‖", "textparagraph": "¶",
}  # fmt: skip


def read_latex(text: str) -> tuple[dict[str, list[list[str]]], set[tuple[str, str]]]:
    """Label of a table -> rows of plain texts, the header first; and what is in bold with the first of its row."""
    tables: dict[str, list[list[str]]] = {}
    bold: set[tuple[str, str]] = set()
    for part in re.split(r"(?=\\caption\{)", text)[1:]:
        label = re.search(r"\\label\{tab:(\w+)\}", part)
        assert label
        body = part[part.index(r"\toprule") : part.rindex(r"\bottomrule" if "tabular" in part else r"\end{longtable}")]
        lines = [line for line in body.splitlines() if line.endswith(r" \\")]
        lines = [line for place, line in enumerate(lines) if line not in lines[:place] or place > 1]
        rows = [[plain(cell) for cell in re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))] for line in lines]
        for line, row in zip(lines, rows, strict=True):
            bold |= {(row[0], plain(cell)) for cell in re.findall(r"\\textbf\{((?:[^{}]|\{\})*)\}", line)}
        tables[label[1]] = rows
    return tables, bold


def plain(latex: str) -> str:
    """What LaTeX shows for it; an error for a command that is not known here."""
    text = re.sub(r"\\(?:textbf|textsuperscript)\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", latex)
    text = text.removeprefix(r"\raggedright ")
    text = re.sub(r"\\(text[a-z]+)\{\}", lambda found: SPELT[found[1]], text.replace(r"\\", "\0"))
    assert "\0" not in text
    text = re.sub(r"\{([\[\]])\}", r"\1", text)
    return re.sub(r"\\([{}$&#_%])|\{\}", lambda found: found[1] or "", text)
