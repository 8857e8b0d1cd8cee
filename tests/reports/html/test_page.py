"""What the page carries; how it behaves in a browser is in test_page_in_browser.py."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.metrics.measures import Scores
from harness.results.store import write_per_query
from harness.types import Query, UserError
from harness_reports.cli.report import command as report
from harness_reports.data.per_query import Evidence
from harness_reports.data.rows import content
from harness_reports.html import page as page_module
from harness_reports.html import page_data
from harness_reports.html.page import page
from tests.reports.factory import Results
from tests.reports.html.example import DATASETS, EVIL, FACTS, HOSTILE, MPNET, QUERIES, fill, values

pytest.importorskip("vl_convert", reason="the page's plots need the page extra")


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


def test_it_carries_what_is_known_of_the_models(results: Results) -> None:
    board = fill(results)
    members = [
        {"kind": "lexical", "key": "a"},
        {"kind": "dense", "key": "b", **FACTS["minilm"], "options": {"max_seq_length": 128}},
        {"kind": "dense", "key": "b", **FACTS["minilm"]},
        {"kind": "sparse", "key": "c", **FACTS[MPNET]},
    ]
    results.add(
        "rrf(bm25,minilm,mpnet)", "alpha", 0.5, geometry={}, manifest={"model": {"kind": "fusion", "members": members}}
    )
    results.add(
        "odd", "alpha", 0.5, manifest={"model": {"facts": {"parameters": "many", "dim": True, "licence": ["x"]}}}
    )
    told = carried(page(results.read(), None))["facts"]
    assert set(told) == {*board.models, "rrf(bm25,minilm,mpnet)", "odd"}
    assert told["bm25"] == {"kind": "lexical"}
    stated = FACTS["minilm"]["facts"]
    assert {name: told["minilm"][name] for name in stated} == stated
    assert told["minilm"]["trained_on"] == ["alpha", "msmarco", "nq"]
    assert told[MPNET]["dim"] == 384, "of the vectors that were measured"
    assert told[HOSTILE]["licence"] == EVIL
    fused = told["rrf(bm25,minilm,mpnet)"]
    assert (fused["parameters"], fused["max_tokens"], fused["licence"]) == (132_199_680, 128, "apache-2.0")
    assert "parameters" not in told["odd"]


def test_it_carries_every_query_as_it_shows_it(results: Results) -> None:
    board = fill(results)
    text = page(board, Evidence(board))
    for dataset in DATASETS:
        found = block(text, f"queries {dataset}")
        assert (found["total"], found["ids"]) == (QUERIES, [f"q{place}" for place in range(QUERIES)])
        for model, whole in found["scores"].items():
            assert np.abs(np.array(whole) / 10_000 - values(model, dataset)).max() <= 0.5e-4 + 1e-12
    assert set(block(text, "queries gamma")["scores"]) == {MPNET, HOSTILE}
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
    titled = CliRunner().invoke(report, [*words, "--title", f"Ours {EVIL}"]).stdout
    assert f"<h1>Ours {html.escape(EVIL)}</h1>" in titled
    assert carried(titled)["title"] == f"Ours {EVIL}"
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page_module._library.cache_clear()
    ended = CliRunner().invoke(report, words)
    assert isinstance(ended.exception, UserError)
    assert 'pip install "retrieval-harness[page]" (no page was written)' in str(ended.exception)
