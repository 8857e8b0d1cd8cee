"""How the page behaves in a headless Chromium, where there is one: three sizes, light and dark, by keyboard alone."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from harness_reports.data.leaderboard import Leaderboard
from harness_reports.data.per_query import Evidence
from harness_reports.data.rows import rows
from harness_reports.html.page import page
from harness_reports.tables.model import Column, Report, Table, TableCell
from tests.browser import CHROMIUM, Browser, browser
from tests.reports.factory import Results
from tests.reports.html.example import DATASETS, EVIL, HOSTILE, MPNET, fill, values

pytest.importorskip("vl_convert", reason="the page's plots need the page extra")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
MODULES = [Path(place) for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place]
MODULES += [Path("node_modules"), Path("/usr/lib/node_modules"), Path("/usr/local/lib/node_modules")]
AXE = next((file for place in MODULES if (file := place / "axe-core" / "axe.min.js").is_file()), None)
"""The accessibility checks of axe-core, where npm has installed it."""
FACT_HEADS = ("Type", "Parameters", "Dimensions", "Max. tokens", "Licence", "Trained on")
Shown = tuple[Browser, Leaderboard, Path]
CELLS = (
    "[...document.querySelectorAll('#{0} tbody tr')]"
    ".map(tr => [...tr.children].map(td => [td.dataset.column, td.dataset.value ?? null, td.innerText.trim()]))"
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("page")
    board = fill(Results(folder / "results"))
    file = folder / "page.html"
    file.write_text(page(board, Evidence(board)), encoding="utf-8")
    with browser(folder / "profile") as tab:
        yield tab, board, file


def column(tab: Browser, key: str) -> list[str]:
    cells = tab.run(CELLS.format("leaderboard-table"))
    return [next(text for name, _, text in row if name == key) for row in cells]


def choose(tab: Browser, control: str, value: str) -> None:
    tab.run(
        f"(() => {{ const s = document.querySelector('#{control}'); s.value = {json.dumps(value)}; "
        "s.dispatchEvent(new Event('change')) })()"
    )


def focused(tab: Browser) -> str:
    """What the focus is on, in words."""
    return str(tab.run("(e => e.ariaLabel || e.id || e.innerText || e.tagName)(document.activeElement)"))


def tab_to(tab: Browser, wanted: str) -> None:
    """The tabulator until something is in the focus whose name begins so."""
    for _ in range(60):
        tab.press("Tab", 9)
        if focused(tab).startswith(wanted):
            return
    pytest.fail(f"{wanted} is not reached; the focus is on {focused(tab)}")


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_it_opens_quietly(shown: Shown, width: int) -> None:
    tab, _, file = shown
    tab.open(file, width=width)
    assert tab.requests() == [file.as_uri()]
    assert tab.run("document.documentElement.scrollWidth") <= width
    labels = tab.run("[...document.querySelectorAll('.chart[role=graphics-document]')].map(c => c.ariaLabel)")
    kinds = ["Heat map", "Scatter plot", "Line plot", "Scatter plot", "Scatter plot"]
    assert [label.split(":")[0] for label in labels] == kinds
    row = "[...document.querySelector('#leaderboard-table tbody tr').children].map(c => c.getBoundingClientRect().{})"
    assert len({*tab.run(row.format("bottom"))}) == 1, "the lines below the cells of a row meet"
    assert tab.run(row.format("width"))[1] <= max(0.45 * width, 340)
    ink = "getComputedStyle(document.querySelector('#heat-chart .role-axis-label text')).fill"
    light = tab.run(ink)
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 250)"
    tab.media(scheme="dark")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    tab.until(f"{ink} !== {json.dumps(light)}")
    tab.until("document.querySelectorAll('.chart svg, .chart canvas').length === 5")
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.media(scheme="dark", kind="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 250)", "paper is light"
    hidden = ("#filter", ".controls", "#nav", ".theme")
    assert all(tab.run(f"document.querySelector('{one}').offsetParent === null") for one in hidden)
    assert tab.run("getComputedStyle(document.querySelector('#all-table')).maxHeight") == "none"
    assert tab.trouble() == []


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed (npm install axe-core)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (820, "dark"), (390, "light")])
def test_axe_finds_nothing(shown: Shown, width: int, scheme: str) -> None:
    tab, _, file = shown
    tab.open(file, width=width, scheme=scheme)
    assert AXE
    tab.run(AXE.read_text(encoding="utf-8") + "; 0")
    check = "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => [v.id, v.nodes[0].html]))"
    tab.run("document.querySelector('#more').open = true")
    assert tab.run(check) == []
    tab.run("document.querySelector('#more').open = false; document.querySelector('td button.figure').click()")
    assert tab.run("document.querySelector('#cell').open")
    assert tab.run(check.replace("document,", "'#cell',")) == []


def test_its_numbers_are_the_stored_ones(shown: Shown) -> None:
    tab, board, file = shown
    tab.open(file)
    seen = {}
    for row in tab.run(CELLS.format("leaderboard-table")):
        assert (row[0][0], row[1][0]) == ("place", "model")
        model = row[1][2]
        assert model in board.models
        for name, value, text in row[2:]:
            seen[model, name.split(" ", 1)[1]] = (value, text)
    for (model, dataset), cell in board.cells.items():
        value, text = seen[model, dataset]
        if cell.score is None:
            assert (value, text) == (None, "failed")
        else:
            assert float(value) == cell.score
            assert text.split("*")[0] == f"{100 * cell.score:.2f}"
            assert ("in-domain" in text) == cell.in_domain
    assert seen["minilm", "gamma"] == (None, "missing")
    [average] = board.averages
    for model, mean in average.means.items():
        value, text = seen[model, average.name]
        assert (float(value) if value else None) == mean.value
        assert text.split("*")[0] == (f"{mean.measured} of 3" if mean.value is None else f"{100 * mean.value:.2f}")
    for group in ("measures", "geometry.documents", "seconds", "counts"):
        choose(tab, "all-group", group)
        for row in tab.run(CELLS.format("all-table")):
            stored = next(one for one in rows(board) if (one["model"], one["dataset"]) == (row[0][2], row[1][2]))
            for name, value, _ in row[3:]:
                assert (None if value is None else float(value)) == stored[name]
    choose(tab, "all-group", "measures")
    tab.run("[...document.querySelectorAll('#all-table td button')].at(-1).click()")
    told = tab.run("document.querySelector('#cell-content').innerText")
    assert "Recall@100\n0.666666666667" in told, "no noise of binary fractions"
    menus = tab.run("[...document.querySelectorAll('option, thead th, dt')].map(o => o.innerText.trim())")
    models = [name for name in menus if name not in (*board.models, *DATASETS)]
    assert not [name for name in models if re.search(r"[a-z]_[a-z]|^[a-z]$", name)], "names, not keys"
    assert {"Isotropy", "Effective rank", "Documents per second", "Peak memory, GiB", "Parameters"} <= {*menus}


def test_by_keyboard_alone(shown: Shown) -> None:
    tab, board, file = shown
    tab.open(file)
    assert column(tab, "model") == list(board.models)
    assert column(tab, "place") == ["1", "2", "–", "–"], "the two that lack a dataset have no rank"
    assert tab.run("document.querySelector('#leaderboard-table [aria-sort=ascending]').innerText.trim()") == "Rank"
    tab.press("Tab", 9)
    assert focused(tab) == "Skip to the leaderboard"
    tab_to(tab, "filter-models")
    for letter in "mp":
        tab.press(letter)
    assert column(tab, "model") == [MPNET]
    assert tab.run("document.querySelector('#filter-said').textContent") == "1 of 4 models, 4 of 4 datasets"
    tab_to(tab, "More filters")
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('#more').open")
    tab_to(tab, "unseen")
    tab.press(" ", 32)
    tab.press("Escape", 27)
    assert focused(tab) == "More filters (1)"
    assert not tab.run("document.querySelector('#more').open")
    tab_to(tab, "filter-reset")
    tab.press("Enter", 13)
    assert focused(tab) == "filter-models"
    assert column(tab, "model") == list(board.models)
    tab_to(tab, "leaderboard-measure")
    tab.press("ArrowDown", 40)
    assert tab.run("document.querySelector('#leaderboard-caption').innerText").startswith("Recall@100 × 100")
    tab.press("ArrowUp", 38)
    key = "dataset alpha"
    header = f"document.querySelector('#leaderboard-table thead [data-column=\"{key}\"]')"
    tab_to(tab, "alpha")
    for direction, descending in (("descending", True), ("ascending", False)):
        tab.press("Enter", 13)
        assert tab.run(f"{header}.closest('th').ariaSort") == direction
        assert tab.run("document.activeElement.dataset.column") == key
        numbers = [float(text.split("*")[0]) for text in column(tab, key)]
        assert numbers == sorted(numbers, reverse=descending)
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    gamma = "document.querySelector('#leaderboard-table thead [data-column=\"dataset gamma\"]')"
    for _ in range(2):
        tab.run(f"{gamma}.click()")
        assert sorted(column(tab, "dataset gamma")[2:]) == ["failed", "missing"]
    tab_to(tab, "failed, bm25 on gamma")
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('#cell').open")
    assert "no luck" in tab.run("document.querySelector('#cell').innerText")
    tab.press("Escape", 27)
    tab.until("!document.querySelector('#cell').open")
    assert focused(tab).startswith("failed, bm25 on gamma")
    assert tab.trouble() == []


FILTERS = {
    "": "abcd",
    "MINI": "b",
    "bm25|minilm": "abc",
    "bm25 | mini": "abc",
    '"bm25"': "a",
    '"bm25': "ac",
    '"bm25"|mpnet': "ad",
    "-bm25": "bd",
    "-bm25|minilm": "d",
    '-"bm25"': "bcd",
    "bm25 -k1": "a",
    "m 25 -": "ac",
    "| |": "abcd",
    '"minilm" -bm25': "b",
    "nothing": "",
}
"""Filter -> which of bm25, minilm, bm25:k1=1.2 and mpnet it shows."""


def test_filters_downloads_and_the_front(shown: Shown, tmp_path: Path) -> None:
    tab, board, file = shown
    tab.open(file)
    names = {"a": "bm25", "b": "minilm", "c": "bm25:k1=1.2", "d": "mpnet"}
    for text, expected in FILTERS.items():
        kept = "t => ({}).filter(n => t.every(one => one.not !== one.any.some(holds => holds(n))))"
        told = tab.run(f"({kept.format(json.dumps([*names.values()]))})(terms({json.dumps(text)}))")
        assert told == [names[letter] for letter in expected], text

    # what is known of models
    def facts(name: str, low: str) -> list[str]:
        tab.run(f"(() => {{ const e = document.getElementById('{name}'); e.value = '{low}'; "
                "e.dispatchEvent(new Event('input')) })()")  # fmt: skip
        return sorted(column(tab, "model"))

    sizes = dict(zip(column(tab, "model"), column(tab, "fact parameters"), strict=True))
    assert sizes == {MPNET: "109M", "minilm": "22.7M", HOSTILE: "7.00B", "bm25": "–"}
    assert dict(zip(column(tab, "model"), column(tab, "fact trained_on"), strict=True))["minilm"] == "3 datasets"
    assert facts("parameters-low", "30") == sorted([MPNET, HOSTILE])
    assert facts("parameters-high", "200") == [MPNET]
    assert facts("parameters-low", "") == sorted([MPNET, "minilm"])
    tab.run("document.querySelector('#filter-reset').click(); document.querySelector('#unseen').click()")
    assert sorted(column(tab, "model")) == sorted({*board.models} - {"minilm"}), "in-domain on alpha"
    tab.run("document.querySelector('#complete').click()")
    assert sorted(column(tab, "model")) == sorted([MPNET, HOSTILE])
    tab.run("document.querySelector('#filter-reset').click()")

    # files
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))

    def saved(label: str, suffix: str) -> bytes:
        tab.run(f"document.querySelector('[aria-label=\"{label}\"]').click()")
        found: list[Path] = []
        tab.until("true")
        for _ in range(200):
            found = [one for one in tmp_path.glob(f"*{suffix}") if one.stat().st_size]
            if found:
                break
            tab.run("new Promise(ready => setTimeout(ready, 50))")
        content = found[0].read_bytes()
        found[0].unlink()
        return content

    table = list(csv.DictReader(io.StringIO(saved("Download as CSV: Leaderboard", ".csv").decode(), newline="")))
    assert [row["Model"] for row in table] == list(board.models)
    for row in table:
        for dataset in DATASETS:
            cell = board.cells.get((row["Model"], dataset))
            assert row[dataset] == ("" if cell is None or cell.score is None else repr(cell.score))
    formulas = tab.run('csv([["=1+1", "\\u200b@x", \'a,"b"\', -1.5, null, "-x"]])')
    assert formulas == '\'=1+1,\'\u200b@x,"a,""b""",-1.5,,\'-x\r\n'
    drawn = ElementTree.fromstring(saved("Download as SVG: Cost against quality", ".svg"))
    assert {one.tag.rpartition("}")[2] for one in drawn.iter()} <= {
        "svg",
        "rect",
        "g",
        "path",
        "text",
        "line",
        "defs",
        "clipPath",
    }
    assert "Documents per second" in "".join(drawn.itertext())
    assert saved("Download as PNG: Heat map", ".png")[:8] == b"\x89PNG\r\n\x1a\n"

    # the clipboard, and what stands in for it where there is none
    tab.run("navigator.clipboard.writeText = async text => { window.copied = text }; 0")
    tab.run("document.querySelector('#copy-link').click()")
    assert tab.run("window.copied") == file.as_uri()
    tab.run("navigator.clipboard.writeText = async () => { throw new Error() }; "
            "document.execCommand = () => { window.copied = document.activeElement.value }; 0")  # fmt: skip
    tab.run("document.querySelector('td button.figure').click()")
    tab.run("[...document.querySelectorAll('#cell button')].find(b => b.innerText === 'Copy command').click()")
    tab.until("window.copied === 'harness benchmark ...'")
    said = "copy('x', document.querySelector('#copy-link')).then(() => document.querySelector('#said').textContent)"
    assert tab.run(said) == "Copied."

    # the Pareto front against its definition
    drawn_at = np.random.default_rng(3).integers(0, 12, (40, 2)).tolist()
    for more, side in ((False, 1), (True, -1)):
        points = json.dumps([{"x": x, "y": y} for x, y in drawn_at])
        front = [(one["x"], one["y"]) for one in tab.run(f"pareto({points}, {json.dumps(more)})")]
        best = {
            (x, y)
            for x, y in drawn_at
            if not any(side * u <= side * x and v >= y and (u, v) != (x, y) for u, v in drawn_at)
        }
        assert front == sorted(best)
        assert all(side * (b[1] - a[1]) > 0 for a, b in pairwise(front))
    assert tab.trouble() == []


VIEW = (
    "JSON.stringify([[...document.querySelectorAll('select, input')].map(c => [c.id, c.type === 'checkbox' ? c.checked "
    ": c.value]), [...document.querySelectorAll('th:not([aria-sort=none])')].map(t => [t.innerText, t.ariaSort]), "
    "document.querySelector('#leaderboard-table').innerText, document.querySelector('#cell').open, "
    "document.querySelector('#cell-title').innerText, coloured])"
)


def test_a_view_can_be_linked(shown: Shown) -> None:
    tab, board, file = shown
    tab.open(file)
    first = tab.run(VIEW)
    assert tab.run("location.search") == ""
    for control, value in {
        "leaderboard-measure": "measures.R@100",
        "heat-by": "gap",
        "isotropy-x": "geometry.documents.effective_rank",
        "isotropy-y": "measures.R@100",
        "isotropy-dataset": "beta",
        "cost-x": "seconds.search",
        "cost-dataset": "beta",
        "spectra-dataset": "beta",
        "queries-dataset": "beta",
        "queries-a": HOSTILE,
        "queries-b": "bm25",
        "all-group": "seconds",
    }.items():
        choose(tab, control, value)
    tab.run("document.querySelector('#filter-models').value = '-minilm'; "
            "document.querySelector('#filter-models').dispatchEvent(new Event('input'))")  # fmt: skip
    tab.run("document.querySelector('#leaderboard-table [data-column=\"dataset beta\"]').click()")
    tab.run("document.querySelector('#leaderboard-table .colour').click(); document.querySelector('#parameters-high')"
            ".value = 9000; document.querySelector('#parameters-high').dispatchEvent(new Event('input')); "
            "document.querySelector('#leaderboard-facts').click()")  # fmt: skip
    tab.run("document.querySelector('td button.figure').click()")
    tab.until("location.search.includes('result=')")
    changed, address = tab.run(VIEW), tab.run("location.search")
    assert changed != first
    tab.open(file, query=address)
    assert tab.run(VIEW) == changed
    assert tab.run("link()").endswith(address)
    names = (
        *("models", "show", "sort", "heat", "gx", "gy", "gdata", "cx", "cdata", "sdata", "qdata", "qx", "qy", "table"),
        *("type", "licence", "parameters", "result", "on", "about", "colour", "facts", "__proto__", "constructor"),
    )
    evil = "&".join(f"{name}={EVIL.replace(' ', '+')}" for name in names)
    tab.open(file, query=f"?{evil}")
    assert tab.run("window.struck ?? null") is None
    assert column(tab, "model") == [HOSTILE], "its name and its licence are what the address says"
    tab.run("document.querySelector('#filter-reset').click()")
    assert sorted(column(tab, "model")) == sorted(board.models)
    assert tab.trouble() == []


def test_no_script_of_a_name_runs(shown: Shown) -> None:
    tab, _, file = shown
    tab.open(file)
    for control in ("queries-a", "queries-b"):
        choose(tab, control, HOSTILE)
        tab.until(f"document.querySelector('#queries-caption').innerText.includes({json.dumps(HOSTILE)})")
    tab.run("document.querySelectorAll('#leaderboard-table td button')[0].click()")
    tab.run("document.querySelector('#cell').close()")
    tab.run("[...document.querySelectorAll('#leaderboard-table td button')].at(-1).click()")
    assert tab.run("document.querySelector('#cell').open")
    assert tab.run("window.struck ?? null") is None
    assert tab.run("document.images.length") == 0
    assert HOSTILE in tab.run("document.querySelector('#leaderboard-table').innerText")
    assert tab.trouble() == []


def test_two_models_query_by_query(shown: Shown) -> None:
    tab, _, file = shown
    tab.open(file)
    first, second, dataset = (
        tab.run(f"document.querySelector('#queries-{name}').value") for name in ("a", "b", "dataset")
    )
    a, b = values(first, dataset), values(second, dataset)
    better, worse = int((np.rint(b * 1e4) > np.rint(a * 1e4)).sum()), int((np.rint(b * 1e4) < np.rint(a * 1e4)).sum())
    told = tab.run("document.querySelector('#queries-caption').innerText")
    assert f"better than {first} on {better} queries, worse on {worse} and equal on {60 - better - worse} of 60" in told
    moved = tab.run(CELLS.format("moved-table"))
    assert moved[0][0][2].split()[0] == f"q{np.abs(b - a).argmax()}"
    for row in moved:
        place = int(row[0][2].split()[0][1:])
        assert [float(value) for _, value, _ in row[1:3]] == [
            pytest.approx(round(100 * one[place], 2), abs=1e-9) for one in (a, b)
        ]
    # the dot at the origin stands for all queries on which both have nothing
    both = int(((np.rint(a * 1e4) == 0) & (np.rint(b * 1e4) == 0)).sum())
    assert both > 1
    tab.run("document.querySelector('#queries-chart').scrollIntoView({block: 'center', behavior: 'instant'})")
    place = tab.run(
        "(() => { const v = charts.get('queries').view.view, c = document.querySelector('#queries-chart canvas'), "
        "r = c.getBoundingClientRect(), [x, y] = v.origin(); "
        "return [r.x + x + v.scale('x')(0), r.y + y + v.scale('y')(0)] })()"
    )
    tab.point(*place)
    tab.point(place[0] + 1, place[1])
    tab.until("!document.querySelector('#tip').hidden")
    tip = tab.run("document.querySelector('#tip').innerText")
    assert tip.startswith(f"{both} queries")
    assert "text of q" in tip


def test_what_the_report_states_stands_beside_the_scores(shown: Shown, tmp_path: Path) -> None:
    tab, board, _ = shown
    columns = [Column(name) for name in ("model", "mean of 3", "95% interval", "alpha")]
    cells = [
        [
            TableCell(model, model),
            TableCell("1 of 3", absence="incomplete"),
            TableCell("20.00 to 40.00", (0.2, 0.4)),
            TableCell("30.00", 0.3, marks=("better",)),
        ]
        for model in board.models
    ]
    report = Report([Table("scores", "Scores", [], columns, cells)], [f"A note {EVIL}"])
    file = tmp_path / "stated.html"
    file.write_text(page(board, None, report=report))
    tab.open(file)
    heads = tab.run("[...document.querySelectorAll('#leaderboard-table thead th')].map(th => th.innerText.trim())")
    assert heads == ["Rank", "Model", "mean of 3", "95% interval", *DATASETS, *FACT_HEADS]
    assert set(column(tab, "stated 95% interval")) == {"20.00 to 40.00"}
    assert all("†" in text for text in column(tab, "dataset alpha"))
    assert f"A note {EVIL}" in tab.run("document.querySelector('#notes-list').innerText")
    assert tab.run("document.querySelector('#queries').hidden")
    assert "30.00" in tab.run("document.querySelector('noscript').textContent"), "for readers without JavaScript"
    assert tab.trouble() == []
