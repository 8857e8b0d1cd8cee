"""Makes the files of a site from a results folder; the same results give the same bytes, without a clock or a path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.results.store import Unreadable, as_text
from harness.storage.atomic import dump_json
from harness.types import Progress, UserError
from harness_reports.compare.compare import Comparison, compare
from harness_reports.compare.render import content as comparison_content
from harness_reports.data.leaderboard import Cell, Leaderboard, leaderboard
from harness_reports.data.per_query import Evidence
from harness_reports.data.rows import content
from harness_reports.data.stored import StoredCells, read_cells
from harness_reports.html.page import page
from harness_reports.site import pages
from harness_reports.site.feed import feed, newest
from harness_reports.site.names import PageNames, Pair, address
from harness_reports.tables.model import Report
from harness_reports.tables.sections import report as sections

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Built:
    """A site, and what is to be said about it."""

    files: Files
    """By path relative to the site's root."""
    left_out: int
    """Pairs of models beyond the limit, without a page."""
    skipped: Sequence[Unreadable]
    """Files that could not be read."""


def build(root: Path, title: str, suite: str | None, limit: int, progress: Progress) -> Built:
    """Makes the site.

    Args:
        root: The results folder.
        title: The site's title.
        suite: Only this suite's datasets.
        limit: Pairs of models that get a page, those of the best models first.
        progress: Told of each page.
    """
    stored = read_cells(root)
    board = leaderboard(stored, root, suite)
    evidence = Evidence(board)
    pairs = sorted(combinations(range(len(board.models)), 2), key=lambda places: (places[1], places[0]))
    named: list[Pair] = [(board.models[better], board.models[worse]) for better, worse in pairs]
    labels = [*board.datasets, *board.partial_datasets, *(cell.dataset for cell in board.rows())]
    datasets = [label for label in dict.fromkeys(labels) if any(cell.dataset == label for cell in board.rows())]
    found: dict[Pair, Comparison] = {}
    for done, pair in enumerate(named[:limit]):
        progress("comparing models (pairs)", done, min(limit, len(named)))
        if each := _compared(evidence, pair):
            found[pair] = each
    site = _Site(title, suite or "", stored, board, evidence, PageNames.of(board.models, datasets, found), found)
    files: Files = {}
    for name, text in site.files():
        written = sum(file.endswith(".html") for file in files)
        progress("writing the site (pages)", written, 2 + len(board.models) + len(datasets) + len(found))
        files[name] = text.encode() if isinstance(text, str) else text
    return Built(files, max(0, len(named) - limit), [*stored.skipped, *evidence.skipped.values()])


def _compared(evidence: Evidence, pair: Pair) -> Comparison | None:
    """The comparison of a better model with a worse one; None if they have no queries in common."""
    try:
        return compare(evidence, [pair[1], pair[0]])
    except UserError:
        return None


@dataclass(frozen=True, slots=True)
class _Site:
    title: str
    suite: str
    stored: StoredCells
    board: Leaderboard
    evidence: Evidence
    places: PageNames
    found: dict[Pair, Comparison]

    def files(self) -> Iterator[tuple[str, str | bytes]]:
        cells, date = self.board.rows(), newest(self.board.rows())
        whole = self._plain(sections(self.board, self.evidence))
        shown = replace(self.board, skipped=[self._placed(each) for each in self.board.skipped])
        scores = Report([table for table in whole.tables if table.key in ("scores", "partial")], whole.notes)
        count = f"{len(cells)} results of {len(self.board.models)} models on {len(self.places.datasets)} datasets."
        front = pages.index(self.title, scores, pages.compared(self.found), self.places, count)
        yield "index.html", self._framed(self.title, front, "api/index.json", date, up="")
        yield "api/index.json", dump_json(pages.content(self.title, date, self.places))
        yield "explore.html", page(shown, self.evidence, report=whole, suite=self.suite, title=self.title)
        yield "api/leaderboard.json", dump_json({**content(shown), **whole.content()})
        for label, name in self.places.models.items():
            yield from self._part("models", label, name, [cell for cell in cells if cell.model == label])
        for label, name in self.places.datasets.items():
            yield from self._part("datasets", label, name, [cell for cell in cells if cell.dataset == label])
        for pair, name in self.places.comparisons.items():
            text = pages.comparison(self.found[pair], self.places)
            yield from self._both("comparisons", name, " and ".join(pair), text, self._compared(pair), date)
        yield "feed.xml", feed(self.title, cells, self.places)
        yield "README.md", _readme(self.title)
        yield ".nojekyll", b""

    def _part(self, kind: str, label: str, name: str, cells: list[Cell]) -> Iterator[tuple[str, str | bytes]]:
        """The page and the data of one model or one dataset, from its own results alone."""
        board = leaderboard(self.stored, self.board.root, only={(cell.model, cell.dataset) for cell in cells})
        board = replace(board, skipped=())
        report = self._plain(sections(board, Evidence(board)))
        links = self.places.links()
        if kind == "models":
            text = pages.model(label, cells, report, pages.compared(self.found, model=label), links)
        else:
            text = pages.dataset(label, cells, report, pages.compared(self.found, dataset=label), links)
        yield from self._both(kind, name, label, text, {**content(board), **report.content()}, newest(cells))

    def _both(
        self, kind: str, name: str, title: str, text: str, data: dict[str, Any], date: str
    ) -> Iterator[tuple[str, str | bytes]]:
        yield f"{kind}/{name}.html", self._framed(title, text, address("../api/", kind, name, ".json"), date)
        yield f"api/{kind}/{name}.json", dump_json(data)

    def _framed(self, title: str, text: str, data: str, date: str, up: str = "../") -> str:
        return pages.framed(title, text, board=self.title, data=data, date=date, up=up)

    def _compared(self, pair: Pair) -> dict[str, Any]:
        return comparison_content(self.found[pair])

    def _plain(self, report: Report) -> Report:
        """The report without this machine's path of the results folder."""
        prefix = f"{as_text(self.board.root)}/"
        return Report(report.tables, [note.replace(prefix, "") for note in report.notes])

    def _placed(self, one: Unreadable) -> Unreadable:
        inside = one.path.is_relative_to(self.board.root)
        return Unreadable(one.path.relative_to(self.board.root), one.reason) if inside else one


def _readme(title: str) -> str:
    """What a static Space of the Hugging Face hub reads, and a reader of the folder."""
    return (
        f"---\ntitle: {json.dumps(title)}\nsdk: static\napp_file: index.html\npinned: false\n---\n\n"
        "A site that `harness site` made from stored results of retrieval-harness. Open `index.html`.\n"
    )
