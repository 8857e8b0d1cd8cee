"""What `harness.evaluate` returns, shown in every way; and the package itself: names, imports, examples."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

import harness as api
from harness.api import reports
from tests.conftest import ROOT, Done

pytest.importorskip("bm25s", reason="needs the bm25 extra")
MODELS = ["bm25", "bm25:k1=2", "bm25:b=0"]


@pytest.fixture
def found(home: Path, toy: Path) -> api.Results:
    api.evaluate("bm25:b=1", toy, progress=False)  # another result in the same folder
    return api.evaluate(MODELS, toy, progress=False)


def test_frames(found: api.Results) -> None:
    frame, queries, board = found.frame(), found.per_query(), found.leaderboard()
    assert frame["model"].tolist() == ["bm25", "bm25:k1=2.0", "bm25:b=0.0"]
    assert len(queries) == 3 * 4
    means = queries.groupby(["model", "dataset"])["nDCG@10"].mean()
    for _, row in frame.iterrows():
        assert means[row["model"], row["dataset"]] == pytest.approx(row["nDCG@10"], abs=1e-12)
        assert board.loc[row["model"], "toy"] == pytest.approx(100 * row["nDCG@10"])
    assert sorted(board.index) == sorted(frame["model"])
    assert board["toy"].is_monotonic_decreasing
    assert set(queries["query"]) == {
        json.loads(line)["text"] for line in Path("toy/queries.jsonl").read_text().splitlines()
    }


def test_reports_are_those_of_the_command(found: api.Results, toy: Path, harness: Callable[..., Done]) -> None:
    alone = api.evaluate(MODELS, toy, results="alone", progress=False)
    for form in ("markdown", "latex", "csv"):
        printed = harness("report", "--results", "alone", "--format", form).out
        assert alone.report(form).splitlines() == printed.splitlines()
    assert "bm25:b=1" not in found.report("markdown").partition("## Geometry")[0]
    with pytest.raises(api.UserError, match="did you mean markdown"):
        found.report("markdwn")
    with pytest.raises(api.UserError, match="There is no model 'none'"):
        found.report(baseline="none")


def test_comparisons(found: api.Results) -> None:
    comparison = found.compare("bm25", "bm25:k1=2")
    [row] = comparison.frame().to_dict("records")
    scores = found.frame().set_index("model")["nDCG@10"]
    assert row["difference"] == pytest.approx(scores["bm25:k1=2.0"] - scores["bm25"])
    assert comparison.markdown() == api.compare("results", "bm25", "bm25:k1=2").markdown() == repr(comparison)
    with pytest.raises(api.UserError, match="did you mean bm25"):
        found.compare("bm25", "bm52")


def test_a_notebook_shows_the_leaderboard(found: api.Results) -> None:
    shown = found._repr_html_()
    assert "<table" in shown
    assert "bm25:k1=2.0" in shown
    assert "bm25:b=1" not in shown
    assert re.search(r"\| bm25 +\| toy", repr(found))
    assert found.compare("bm25", "bm25:k1=2")._repr_markdown_().startswith("# nDCG@10")  # type: ignore[attr-defined]


def test_a_plot_has_a_bar_for_each_model_and_dataset(found: api.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    axes = found.plot("nDCG@10")
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx(found.frame()["nDCG@10"].tolist())
    with pytest.raises(api.UserError, match="was not measured; it was nDCG@10"):
        found.plot("P@7")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(api.UserError, match=r'pip install "retrieval-harness\[plot\]"'):
        found.plot()


def test_without_the_package_of_reports_the_rest_works(found: api.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "GROUP", "harness.nothing")
    reports.reporting.cache_clear()
    try:
        assert isinstance(found.frame(), pandas.DataFrame)
        with pytest.raises(api.UserError, match="No package that makes reports"):
            found.leaderboard()
    finally:
        reports.reporting.cache_clear()


def test_the_package_shows_its_names_and_imports_nothing_for_it() -> None:
    program = (
        "import sys, harness\nnames = dir(harness)\n"
        "assert {'evaluate', 'measure', 'compare', 'load_dataset', 'isotropy', 'training_evaluator'} <= {*names}\n"
        "loaded = {'numpy', 'pandas', 'torch', 'click', 'rich'} & {*sys.modules}\nassert not loaded, loaded\n"
        "assert all(getattr(harness, name) is not None for name in names)\n"
        "assert not {'torch', 'transformers', 'pandas'} & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["evaluate", "metrics", "reports"])
def test_the_examples_of_docstrings_work(name: str, home: Path) -> None:
    module = importlib.import_module(f"harness.api.{name}")
    tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried.attempted > 2
    assert tried.failed == 0


def test_every_function_is_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for name in ("evaluate", "measure", "compare", "load_dataset", "load_results", "isotropy", "training_evaluator"):
        assert f"harness.{name}(" in page
