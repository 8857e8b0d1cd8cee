"""Per-query scores behind a leaderboard."""

from __future__ import annotations

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from harness_reports.data.per_query import Evidence
from tests.reports.factory import Results

ABC = {"a": 0.25, "b": 0.5, "c": 1.0}


def test_scores_and_texts_are_those_stored(results: Results) -> None:
    results.add("one", "x", queries=ABC)
    results.add("two", "x:limit=2", queries={"a": 1.0, "b": 0.0})
    results.add("three", "x", 0.5)
    results.add("four", "x")
    evidence = Evidence(results.read())
    found = evidence.scores("one", "x")
    assert found is not None
    assert found.ids == ["a", "b", "c"]
    assert found.values.tolist() == [0.25, 0.5, 1.0]
    assert found.values.dtype == np.float64
    recall = evidence.scores("one", "x", "R@100")
    assert recall is not None
    assert recall.values == pytest.approx(2 / 3)
    partial = evidence.scores("two", "x:limit=2")
    assert partial is not None
    assert partial.values.tolist() == [1.0, 0.0]
    for model, dataset, measure in (("one", "y", "nDCG@10"), ("three", "x", "nDCG@10"), ("four", "x", "nDCG@10"),
                                    ("none", "x", "nDCG@10"), ("one", "x", "RR@10")):  # fmt: skip
        assert evidence.scores(model, dataset, measure) is None
    assert evidence.texts("x") == {query: f"text of {query}" for query in "abc"}
    assert evidence.texts("y") == {}
    assert not evidence.skipped


def test_models_are_aligned_on_the_queries_they_share(results: Results) -> None:
    results.add("one", "x", queries=ABC)
    results.add("two", "x", queries={"c": 0.1, "d": 0.2, "a": 0.3})
    results.add("same", "x", queries={"a": 0.0, "b": 0.1, "c": 0.2})
    evidence = Evidence(results.read())
    ids, values = evidence.paired(["one", "two", "none"], "x")
    assert ids == ["a", "c"]
    assert {model: each.tolist() for model, each in values.items()} == {"one": [0.25, 1.0], "two": [0.3, 0.1]}
    assert evidence.paired(["one", "same"], "x")[0] == ["a", "b", "c"]
    one, same = evidence.scores("one", "x"), evidence.scores("same", "x")
    assert one is not None
    assert same is not None
    assert one.ids is same.ids
    assert evidence.texts("x") == {query: f"text of {query}" for query in "abcd"}
    assert evidence.paired(["none"], "x") == ([], {})


def test_files_are_read_once(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    results.add("one", "x", queries=ABC)
    evidence = Evidence(results.read())
    first = evidence.scores("one", "x")
    monkeypatch.setattr(pyarrow.parquet, "read_table", lambda *_, **__: pytest.fail("read again"))
    assert evidence.scores("one", "x") is first


def test_damaged_files_are_named(results: Results) -> None:
    for model in ("torn", "other", "gone", "twice", "good", "column", "nan"):
        results.add(model, "x", queries=ABC)
    board = results.read()
    folder = results.store.root

    def rewrite(model: str, **columns: list[object]) -> None:
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / model / "x" / "per_query.parquet")

    whole = (folder / "torn" / "x" / "per_query.parquet").read_bytes()
    (folder / "torn" / "x" / "per_query.parquet").write_bytes(whole[: len(whole) // 2])
    rewrite("other", query_id=["a"], **{"nDCG@10": [0.1]})
    rewrite("twice", query_id=["a", "a"], **{"nDCG@10": [0.5, 0.5]})
    rewrite("column", query_id=["a", "b"], elsewhere=[0.5, 0.5])
    rewrite("nan", query_id=["a", "b"], **{"nDCG@10": [0.5, float("nan")]})
    (folder / "gone" / "x" / "per_query.parquet").unlink()
    assert json.loads((folder / "gone" / "x" / "result.json").read_text())["manifest"]["files"]
    for model in ("other", "twice", "column", "nan"):  # as an earlier version wrote them: without checksums
        del board.cells[model, "x"].result["manifest"]["files"]
    evidence = Evidence(board)
    ids, values = evidence.paired(board.models, "x")
    assert (ids, [*values]) == (["a", "b", "c"], ["good"])
    reasons = {path.parent.parent.name: one.reason for path, one in evidence.skipped.items()}
    assert reasons["torn"] == "its checksum is not that of the result: it is damaged, or was edited"
    assert reasons["other"] == "its nDCG@10 has a mean of 0.100000, but the result says 0.583333"
    assert "one twice" in reasons["twice"]
    assert "cannot be read" in reasons["column"]
    assert "finite" in reasons["nan"]
    assert "gone" not in reasons
    assert [path.parent.parent.name for path in evidence.missing] == ["gone"]
    assert evidence.lacking.startswith(f"1 result lacks per_query.parquet ({folder / 'gone' / 'x'}); intervals")
