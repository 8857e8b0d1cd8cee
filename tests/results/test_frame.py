"""Stored results as a DataFrame, in one call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas
import pytest

import harness as api
from harness.types import UserError
from harness_reports.data.rows import rows
from tests.reports.factory import PANEL, Results


def test_one_row_per_cell_with_the_stored_numbers(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add("bm25", "x", 1 / 3)
    results.add("mine", "x", 0.1 + 0.2, in_domain=True)
    results.add("mine", "y:limit=5", reason="no memory")
    frame = api.load_results(tmp_path)
    assert isinstance(frame, pandas.DataFrame)
    cells = frame.set_index(["model", "dataset"])
    assert cells.loc[("mine", "x"), "measures.nDCG@10"] == 0.1 + 0.2
    assert cells.loc[("mine", "x"), "geometry.documents.isotropy"] == PANEL["isotropy"]
    assert cells.loc[("bm25", "x"), "seconds.index"] == 2.5
    assert cells.loc[("mine", "y:limit=5"), "reason"] == "no memory"
    assert pandas.isna(cells.loc[("bm25", "x"), "geometry.documents.isotropy"])
    assert cells["in_domain"].tolist() == [False, True, False]
    table = frame.pivot(index="model", columns="dataset", values="measures.nDCG@10")
    assert table.loc["bm25", "x"] == 1 / 3


def test_a_report_has_the_same_rows(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for model, score in (("bm25", 0.5), ("mine", 0.25)):
        results.add(model, "x", score)
    frame = api.load_results(str(tmp_path))
    told = {row["model"]: row for row in rows(results.read())}
    for row in frame.to_dict("records"):
        own = {key: None if pandas.isna(value) else value for key, value in row.items()}
        assert own == told[row["model"]]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add("bm25", "x", 0.5)
    (tmp_path / "torn" / "x").mkdir(parents=True)
    (tmp_path / "torn" / "x" / "result.json").write_text('{"schema": 1')
    frame = api.load_results(tmp_path)
    assert len(frame) == 1
    [(path, reason)] = frame.attrs["skipped"]
    assert path == str(tmp_path / "torn" / "x" / "result.json")
    assert "not readable JSON" in reason
    with pytest.raises(UserError, match=r"There are no results in .*none .*name the folder that --results was given"):
        api.load_results(tmp_path / "none")


def test_the_front_page_stays_light() -> None:
    program = "import sys, harness; print('pandas' in sys.modules, 'harness.adapters' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert {*api.LAZY} <= {*api.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018
