"""The pages of a site as HTML: no script, nothing fetched, every name and text escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

from harness import __version__
from harness.datasets.catalog import catalogue
from harness_reports.compare.compare import Comparison
from harness_reports.compare.render import markdown
from harness_reports.data.leaderboard import Cell
from harness_reports.html.page import policy
from harness_reports.html.tables import Links, escape, html_tables
from harness_reports.site.names import PageNames, Pair, address, said
from harness_reports.tables.model import Column, Report, Table, TableCell

COLUMNS = (
    Column("comparison"),
    Column("datasets", "d"),
    Column("difference", "+.2f", 100),
    Column("95% interval", "+.2f", 100),
)
Facts = Iterable[tuple[str, object]]


def framed(title: str, content: str, *, board: str, data: str, date: str, up: str = "../") -> str:
    """A page. ``board``: the site's title; ``data``: the address of the page's JSON; ``date``: of the newest result."""
    style = _asset("site.css")
    newest = f" Newest result: {escape(date)}." if date else ""
    parts = {
        "policy": escape(policy([], style)),
        "title": escape(title if title == board else f"{title} · {board}"),
        "board": escape(board),
        "style": style,
        "up": up,
        "data": escape(data),
        "content": content,
        "foot": f"Made by retrieval-harness {escape(__version__)} from stored results alone.{newest}",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("site.html"))


def index(title: str, scores: Report, comparisons: Table | None, places: PageNames, count: str) -> str:
    """The first page: scores, comparisons, and where the rest is."""
    links = places.links("")
    tables = Report([*scores.tables, *([comparisons] if comparisons else [])], scores.notes)
    return "\n".join(
        [
            f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(count)} '
            '<a href="explore.html">Explore them</a>: sort, filter, plots, single queries.</p>',
            html_tables(tables, links),
            _listed("models", "Models", places.models),
            _listed("datasets", "Datasets", places.datasets),
        ]
    )


def model(label: str, cells: Sequence[Cell], report: Report, comparisons: Table | None, links: Links) -> str:
    """The page of one model."""
    return _page(label, _model_facts(cells), report, comparisons, links)


def dataset(label: str, cells: Sequence[Cell], report: Report, comparisons: Table | None, links: Links) -> str:
    """The page of one dataset."""
    return _page(label, _dataset_facts(cells), report, comparisons, links)


def comparison(found: Comparison, places: PageNames) -> str:
    """The page of one comparison: what ``harness compare`` prints."""
    from markdown_it import MarkdownIt

    links = [
        f'<a href="{escape(address("../", "models", places.models[name]))}">{escape(name)}</a>' for name in found.models
    ]
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown(found))
    text = text.replace(' style="text-align:left"', "").replace(' style="text-align:right"', ' class="number"')
    region = '<div class="prose" role="region" aria-label="Comparison" tabindex="0">'
    return f'<p class="lead">Models: {", ".join(links)}</p>\n{region}\n{text}</div>'


def compared(found: Mapping[Pair, Comparison], *, model: str = "", dataset: str = "") -> Table | None:
    """The comparisons as a table, those of one model or on one dataset; None if there are none."""
    rows = [
        row
        for pair, each in found.items()
        if not model or model in pair
        if (row := _on_dataset(pair, each, dataset) if dataset else _overall(pair, each))
    ]
    caption = (
        "Difference of nDCG@10 x 100 on the queries that both models have; in bold what is shown to be real. A page "
        "corrects for its own rows alone: for many pairs at once see the ranks."
    )
    return Table("comparisons", "Comparisons", [caption], COLUMNS, rows) if rows else None


def _overall(pair: Pair, found: Comparison) -> list[TableCell] | None:
    for each in found.overall:
        real = each.real if each.elsewhere else any(contrast.real for contrast in found.contrasts)
        return _row(pair, len(each.datasets), each.difference, (each.elsewhere or each.here).ends, real)
    return None


def _on_dataset(pair: Pair, found: Comparison, dataset: str) -> list[TableCell] | None:
    for each in found.contrasts:
        if each.dataset == dataset:
            return _row(pair, 1, each.difference, each.interval.ends, each.real)
    return None


def _row(pair: Pair, datasets: int, difference: float, ends: object, real: bool) -> list[TableCell]:
    named, count, gap, interval = COLUMNS
    return [named.cell(said(pair)), count.cell(datasets), replace(gap.cell(difference), best=real), interval.cell(ends)]


def _page(label: str, facts: Facts, report: Report, comparisons: Table | None, links: Links) -> str:
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_text(value))}</dd>\n" for name, value in facts if value)
    first, rest = report.tables[:1], report.tables[1:]
    tables = Report([*first, *([comparisons] if comparisons else []), *rest], report.notes)
    return f"<h1>{escape(label)}</h1>\n" + (f"<dl>\n{told}</dl>\n" if told else "") + html_tables(tables, links)


def _model_facts(cells: Sequence[Cell]) -> Facts:
    """What the newest result states of the model."""
    record: dict[str, Any] = next((found for cell in reversed(cells) if (found := cell.get("manifest", "model"))), {})
    for name in ("summary", "kind", "similarity", "storage"):
        yield name, record.get(name)
    for group in ("facts", "options"):
        known = record.get(group)
        yield from (known if isinstance(known, dict) else {}).items()
    yield "trained on", record.get("trained_on")


def _dataset_facts(cells: Sequence[Cell]) -> Facts:
    """What the catalogue and the results state of the dataset."""
    name = next((str(found) for cell in cells if (found := cell.get("manifest", "dataset", "name"))), "")
    if spec := catalogue().datasets.get(name):
        yield from (("summary", spec.summary), ("licence", spec.licence), ("citation", spec.citation))
    done = next((cell for cell in cells if cell.ok), None)
    for count in ("documents", "queries", "judged") if done else ():
        yield count, done.get("counts", count) if done else None
    yield "split", cells[0].get("split")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _listed(ident: str, title: str, names: Mapping[str, str]) -> str:
    entries = "".join(
        f'<li><a href="{escape(address("", ident, name))}">{escape(label)}</a></li>\n' for label, name in names.items()
    )
    return f'<section id="{ident}">\n<h2>{title}</h2>\n<ul class="columns">\n{entries}</ul>\n</section>'


def _asset(name: str) -> str:
    return files("harness_reports.site").joinpath(name).read_text(encoding="utf-8")


def content(title: str, date: str, places: PageNames) -> dict[str, Any]:
    """The index of the JSON files, with addresses relative to the site's root."""
    kinds: dict[str, list[dict[str, Any]]] = {
        kind: [_entry(kind, name, label=label) for label, name in named.items()]
        for kind, named in (("models", places.models), ("datasets", places.datasets))
    }
    kinds["comparisons"] = [
        _entry("comparisons", name, model=pair[0], against=pair[1]) for pair, name in places.comparisons.items()
    ]
    return {"title": title, "newest": date or None, "leaderboard": "api/leaderboard.json", "feed": "feed.xml", **kinds}


def _entry(kind: str, name: str, **said: str) -> dict[str, str]:
    return {**said, "page": address("", kind, name), "data": address("api/", kind, name, ".json")}
