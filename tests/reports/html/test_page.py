"""The page: what it carries, and, in a headless Chromium where there is one, how it behaves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.metrics.measures import Scores
from harness.results.store import write_per_query
from harness.types import Query, UserError
from harness_reports.cli.report import command as report
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.data.per_query import Evidence
from harness_reports.data.rows import content, rows
from harness_reports.html import page_data
from harness_reports.html.page import page
from harness_reports.tables.model import Column, Report, Table, TableCell
from tests.browser import CHROMIUM, Browser, browser
from tests.reports.factory import Results

pytest.importorskip("vl_convert", reason="the page's plots need the page extra")

EVIL = "<img src=x onerror=window.struck=1></script><script>window.struck=1</script>{{data}}"
HOSTILE = f"evil{EVIL}"
DATASETS = ("alpha", "beta", "gamma")
MODELS = {"bm25": 0.2, "minilm": 0.35, "mpnet:dtype=float32": 0.4, HOSTILE: 0.3}
QUERIES = 60


def values(model: str, dataset: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores with ties at 0 and 1, as real ones have."""
    seed = int.from_bytes(hashlib.sha256(f"{model}/{dataset}".encode()).digest()[:4])
    drawn: np.ndarray[Any, np.dtype[np.float64]] = np.random.default_rng(seed).normal(MODELS[model], 0.4, QUERIES)
    return drawn.clip(0, 1)


def fill(results: Results) -> Leaderboard:
    """Four models on three datasets, one cell missing, one failed, one in-domain; a run on some queries only."""
    for model in MODELS:
        for dataset in DATASETS:
            if (model, dataset) == ("minilm", "gamma"):
                continue
            if (model, dataset) == ("bm25", "gamma"):
                results.add(model, dataset, None, reason=f"no luck {EVIL}")
                continue
            found = values(model, dataset)
            results.add(model, dataset, float(found.mean()), in_domain=(model, dataset) == ("minilm", "alpha"))
            write(results, model, dataset, found)
    results.add("minilm", "alpha:limit=5", 0.125)
    return results.read()


def write(results: Results, model: str, dataset: str, found: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    ids = [f"q{place}" for place in range(len(found))]
    queries = [Query(query, f"text of {query} {EVIL if query == 'q3' else 'x' * 300}") for query in ids]
    file = results.store.folder(model, dataset) / "per_query.parquet"
    qrels = {query: {query: 1} for query in ids}
    write_per_query(file, queries, qrels, Scores(ids, ("nDCG@10",), found[:, None], 0, 0, 0))


def carried(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    told: dict[str, Any] = json.loads(found[1])
    return told


def block(text: str, name: str) -> Any:
    place = carried(text)["blocks"].index(name)
    found = re.search(rf'id="block-{place}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_the_page_carries_the_report(results: Results) -> None:
    board = fill(results)
    told = carried(page(board, Evidence(board)))
    expected = json.loads(json.dumps(content(board)))
    assert told["averages"] == expected["averages"]
    assert [dict(zip(told["rows"]["columns"], row, strict=True)) for row in told["rows"]["values"]] == expected["rows"]
    assert (told["models"], told["datasets"]) == (list(board.models), list(DATASETS))


def test_it_carries_every_query_as_it_shows_it(results: Results) -> None:
    board = fill(results)
    text = page(board, Evidence(board))
    for dataset in DATASETS:
        found = block(text, f"queries {dataset}")
        assert (found["total"], found["ids"]) == (QUERIES, [f"q{place}" for place in range(QUERIES)])
        for model, whole in found["scores"].items():
            assert np.abs(np.array(whole) / 10_000 - values(model, dataset)).max() <= 0.5e-4 + 1e-12
    assert set(block(text, "queries gamma")["scores"]) == {"mpnet:dtype=float32", HOSTILE}
    assert block(text, "queries alpha")["texts"]["3"] == f"text of q3 {EVIL}"
    assert len(block(text, "queries alpha")["texts"]["4"]) == page_data.TEXT_LENGTH


def test_too_many_queries_are_thinned_evenly_and_said(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    board = fill(results)
    monkeypatch.setattr(page_data, "LIMITS", (60, 30, 7))
    monkeypatch.setattr(page_data, "SCORE_BYTES", 1)
    text = page(board, Evidence(board))
    found = block(text, "queries alpha")
    assert carried(text)["limits"]["queries"] == 7
    assert (found["total"], len(found["ids"]), found["ids"][0], found["ids"][-1]) == (60, 7, "q0", "q59")


def test_models_with_other_queries_lack_some(results: Results) -> None:
    for model, place in (("a", 0), ("b", 1)):
        results.add(model, "alpha", 0.5)
        ids = [f"q{place}", "both"]
        scores = Scores(ids, ("nDCG@10",), np.array([[0.25], [0.75]]), 0, 0, 0)
        file = results.store.folder(model, "alpha") / "per_query.parquet"
        write_per_query(file, [Query(query, query) for query in ids], {query: {"d": 1} for query in ids}, scores)
    board = results.read()
    found = block(page(board, Evidence(board)), "queries alpha")
    assert found["ids"] == ["q0", "both", "q1"]
    assert found["scores"] == {"a": [2500, 7500, -1], "b": [-1, 7500, 2500]}


def test_spectra_are_thinned_but_not_changed(results: Results) -> None:
    stored = [float(f"{1000 / (place + 1):.6g}") for place in range(768)]
    panel = {"n": 9, "d": 768, "isotropy": 0.1, "eigenvalues": stored}
    results.add("dense", "alpha", 0.5, geometry={"documents": panel})
    [found] = block(page(results.read(), None), "spectra")
    assert (found["ranks"][0], found["ranks"][-1], found["d"]) == (1, 768, 768)
    assert len(found["ranks"]) <= page_data.EIGENVALUES
    assert found["values"] == [stored[rank - 1] for rank in found["ranks"]]
    assert found["mean"] == pytest.approx(np.mean(stored), rel=1e-12)


def test_curves_come_from_the_runs(results: Results, tmp_path: Path) -> None:
    results.add("dense", "alpha", 0.5)
    points = [{"step": step, "loss": 1 / (step + 1)} | ({"nDCG@10": 0.5} if step == 333 else {}) for step in range(999)]
    for run, record in (("seed1", {"curves": points}), ("seed2", {}), ("seed3", {"curves": [{"step": None}]})):
        (tmp_path / "runs" / "plain" / run).mkdir(parents=True)
        (tmp_path / "runs" / "plain" / run / "run.json").write_text(json.dumps(record))
    [found] = block(page(results.read(), None, runs=tmp_path / "runs"), "curves")
    assert found["run"] == "plain/seed1"
    assert len(found["points"]) <= page_data.CURVES + 1
    assert {"step": 333, "loss": 1 / 334, "nDCG@10": 0.5} in found["points"]
    with pytest.raises(UserError, match="no run with training curves"):
        page(results.read(), None, runs=tmp_path / "nowhere")


def test_nothing_is_fetched_and_only_its_own_scripts_may_run(results: Results) -> None:
    text = page(fill(results), None)
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(?:link|img|iframe|object|embed)\b|\ssrc=|@import|url\(", markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert re.findall(r"'sha256-([^']*)'", policy[1].split(";")[1]) == hashes
    assert EVIL not in text


def test_the_command_writes_it(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(results)
    words = ["--results", str(results.store.root), "--format", "html"]
    file = tmp_path / "page.html"
    assert CliRunner().invoke(report, [*words, "-o", str(file)]).output == ""
    assert CliRunner().invoke(report, words).stdout == file.read_text()
    assert file.read_text().startswith("<!doctype html>")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    ended = CliRunner().invoke(report, words)
    assert isinstance(ended.exception, UserError)
    assert 'pip install "retrieval-harness[page]" (no page was written)' in str(ended.exception)


# ---- in a browser ---------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
CELLS = (
    "[...document.querySelectorAll('#{0} tbody tr')]"
    ".map(tr => [...tr.children].map(td => [td.dataset.column, td.dataset.value ?? null, td.innerText.trim()]))"
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Leaderboard, Path]]:
    folder = tmp_path_factory.mktemp("page")
    board = fill(Results(folder / "results"))
    file = folder / "page.html"
    file.write_text(page(board, Evidence(board)), encoding="utf-8")
    with browser(folder / "profile") as tab:
        yield tab, board, file


def column(tab: Browser, key: str) -> list[str]:
    cells = tab.run(CELLS.format("leaderboard-table"))
    return [next(text for name, _, text in row if name == key) for row in cells]


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_opens_quietly(shown: tuple[Browser, Leaderboard, Path], width: int, scheme: str) -> None:
    tab, _, file = shown
    tab.open(file, width=width, scheme=scheme)
    assert tab.trouble() == []
    assert tab.requests() == [file.as_uri()]
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelectorAll('.chart svg, .chart canvas').length") == 5
    labels = tab.run("[...document.querySelectorAll('.chart[role=graphics-document]')].map(c => c.ariaLabel)")
    kinds = ["Heat map", "Scatter plot", "Line plot", "Scatter plot", "Scatter plot"]
    assert [label.split(":")[0] for label in labels] == kinds
    dark = tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")


@needs_browser
def test_its_numbers_are_the_stored_ones(shown: tuple[Browser, Leaderboard, Path]) -> None:
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
        tab.run(
            f"(() => {{ const s = document.querySelector('#all-group'); s.value = '{group}'; "
            "s.dispatchEvent(new Event('change')) })()"
        )
        for row in tab.run(CELLS.format("all-table")):
            stored = next(one for one in rows(board) if (one["model"], one["dataset"]) == (row[0][2], row[1][2]))
            for name, value, _ in row[3:]:
                assert (None if value is None else float(value)) == stored[name]


@needs_browser
def test_sorting_and_filtering_by_keyboard(shown: tuple[Browser, Leaderboard, Path]) -> None:
    tab, board, file = shown
    tab.open(file)
    key = "dataset alpha"
    header = f"document.querySelector('#leaderboard-table thead [data-column=\"{key}\"]')"
    assert column(tab, "model") == list(board.models)
    tab.run(f"{header}.focus()")
    for direction, descending in (("descending", True), ("ascending", False)):
        tab.press("Enter", 13)
        assert tab.run(f"{header}.closest('th').ariaSort") == direction
        assert tab.run("document.activeElement.dataset.column") == key
        numbers = [float(text.split("*")[0]) for text in column(tab, key)]
        assert numbers == sorted(numbers, reverse=descending)
    gamma = "document.querySelector('#leaderboard-table thead [data-column=\"dataset gamma\"]')"
    for _ in range(2):
        tab.run(f"{gamma}.click()")
        assert sorted(column(tab, "dataset gamma")[2:]) == ["failed", "missing"]
    tab.run("document.querySelector('#filter-models').focus()")
    for letter in "mp":
        tab.press(letter)
    assert column(tab, "model") == ["mpnet:dtype=float32"]
    assert tab.run("document.querySelector('#filter-said').textContent") == "1 of 4 models, 4 of 4 datasets"
    tab.run("document.querySelector('#filter-datasets').focus()")
    tab.press("b")
    assert tab.run("document.querySelectorAll('#leaderboard-table thead th.set').length") == 1
    tab.press("ö")
    tab.run("document.querySelector('#filter-models').focus()")
    tab.press("ö")
    assert "Nothing matches the filters." in tab.run("document.querySelector('#leaderboard-table').innerText")
    assert tab.trouble() == []


@needs_browser
def test_no_script_of_a_name_runs(shown: tuple[Browser, Leaderboard, Path]) -> None:
    tab, _, file = shown
    tab.open(file)
    for control in ("queries-a", "queries-b"):
        tab.run(
            f"(() => {{ const s = document.querySelector('#{control}'); s.value = {json.dumps(HOSTILE)}; "
            "s.dispatchEvent(new Event('change')) })()"
        )
        tab.until(f"document.querySelector('#queries-caption').innerText.includes({json.dumps(HOSTILE)})")
    tab.run("document.querySelectorAll('#leaderboard-table td button')[0].click()")
    tab.run("document.querySelector('#cell').close()")
    tab.run("[...document.querySelectorAll('#leaderboard-table td button')].at(-1).click()")
    assert tab.run("document.querySelector('#cell').open")
    assert tab.run("window.struck ?? null") is None
    assert tab.run("document.images.length") == 0
    assert HOSTILE in tab.run("document.querySelector('#leaderboard-table').innerText")
    assert tab.trouble() == []


@needs_browser
def test_two_models_query_by_query(shown: tuple[Browser, Leaderboard, Path]) -> None:
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


@needs_browser
def test_what_the_report_states_stands_beside_the_scores(
    shown: tuple[Browser, Leaderboard, Path], tmp_path: Path
) -> None:
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
    assert heads == ["Rank", "Model", "mean of 3", "95% interval", *DATASETS, "Type", "Dimensions"]
    assert set(column(tab, "stated 95% interval")) == {"20.00 to 40.00"}
    assert all("†" in text for text in column(tab, "dataset alpha"))
    assert f"A note {EVIL}" in tab.run("document.querySelector('#notes-list').innerText")
    assert tab.run("document.querySelector('#queries').hidden")
    assert "30.00" in tab.run("document.querySelector('noscript').textContent"), "for readers without JavaScript"
    assert tab.trouble() == []
