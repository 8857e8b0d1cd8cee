"""What the Markdown says is what is stored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import harness_reports
from harness.metrics.geometry import DEFINITIONS
from harness_reports.cli.report import command as report
from harness_reports.data.rows import content
from harness_reports.render.markdown import escape
from harness_reports.tables import columns
from harness_reports.tables.model import SIGNS
from tests.reports.factory import HUBNESS, PANEL, Results
from tests.reports.rendering import markdown, rendered

GEOMETRY = [(field.column.name, field.keys[1:], field.column.form) for field in columns.GEOMETRY if not field.optional]
"""The columns that are always shown; the others are those of sparse vectors."""


def test_failed_cells(results: Results) -> None:
    results.add("good", "a", 0.5)
    results.add("bad", "a", reason="ValueError: no | way\nat all")
    results.add("bad", "b", 0.25)
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"].rows == [["good", "50.00", "missing", "1 of 2"], ["bad", "failed", "25.00", "1 of 2"]]
    assert "failed: bad on a: ValueError: no | way at all" in words
    assert [row[:2] for row in tables["Geometry"].rows] == [["good", "a"], ["bad", "b"]]
    assert len(tables["Cost"].rows) == 2


def test_in_domain_cells(results: Results, trio: tuple[str, ...]) -> None:
    for dataset in trio:
        results.add("tuned", dataset, 0.9, in_domain=dataset == "fiqa")
        results.add("zero-shot", dataset, 0.5)
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"].rows[0] == ["tuned", "90.00", "90.00", "90.00*", "90.00*", "-0.7128"]
    assert tables["nDCG@10"].rows[1] == ["zero-shot", "50.00", "50.00", "50.00", "50.00", "-0.7128"]
    assert ("tuned", "fiqa") in tables["nDCG@10"].bold
    assert "* in-domain: the model was trained on judgements of that dataset" in words


def test_no_footnote_without_its_mark(results: Results) -> None:
    results.add("m", "a", 0.5)
    assert "in-domain" not in markdown(results.read())


def test_ties_share_the_bold(results: Results) -> None:
    for model, score in (("a", 0.50001), ("b", 0.50002), ("c", 0.1)):
        results.add(model, "x", score)
    assert rendered(markdown(results.read()))[0]["nDCG@10"].bold == {("a", "x"), ("b", "x")}


NAMES = [
    "a|b",
    "a*b*c",
    "<b>x</b>",
    "`tick`",
    "_x_ a_b __init__",
    "back\\slash|",
    "[l](u)",
    "~~s~~",
    "&lt;",
    "bm25:b=0.4,k1=0.9",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_come_through_markdown(results: Results, name: str) -> None:
    for dataset in (f"data {name}", "x"):
        results.add(name, dataset, 0.5)
        results.add("other", dataset, 0.25)
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"][name, f"data {name}"] == "50.00"
    assert f"data {name}" in words
    for title in ("Geometry", "Cost"):
        assert [name, f"data {name}"] in [row[:2] for row in tables[title].rows]


def test_escaping_is_no_more_than_needed() -> None:
    assert escape("minilm:dtype=bfloat16,max_seq_length=128 (best.pt) #1") == (
        "minilm:dtype=bfloat16,max_seq_length=128 (best.pt) #1"
    )


def test_every_number_is_the_stored_one(results: Results) -> None:
    exact = {"minilm": 0.123456789, "mpnet": 0.99995, "bm25": 1 / 3}
    for model, score in exact.items():
        results.add(model, "pydocs", score, geometry={} if model == "bm25" else {"documents": PANEL | {"n": 7302}})
    tables, _ = rendered(markdown(results.read()))
    for model, score in exact.items():
        assert abs(float(tables["nDCG@10"][model, "pydocs"]) / 100 - score) <= 0.5e-4 + 1e-12
    for column, (part, key), form in GEOMETRY:
        stored = {"documents": PANEL, "queries": {"isotropy": 0.12349}, "hubness": HUBNESS}[part][key]  # type: ignore[index]
        precision = 0.5 * 10.0 ** -int(form[1:-1] or 0) if form != "d" else 0
        assert abs(float(tables["Geometry"]["minilm", column]) - stored) <= precision + 1e-12, column
        assert len(tables["Geometry"]["minilm", column].partition(".")[2]) == (int(form[1:-1]) if form != "d" else 0)
    assert tables["Geometry"]["bm25", "hubness skewness"] == "4.5679"
    assert {tables["Geometry"]["bm25", column] for column, (part, _), _ in GEOMETRY if part != "hubness"} == {"-"}
    cost = tables["Cost"]
    assert cost.header == [
        "model", "dataset", "encode documents s", "encode queries s", "index s", "search s", "geometry s",
        "documents/s", "tokens/s", "peak GiB", "processor", "dtype",
    ]  # fmt: skip
    processor = "Xeon(R) @ 2.60GHz"
    assert [row for row in cost.rows if row[0] != "mpnet"] == [
        ["bm25", "pydocs", "-", "-", "2.50", "0.12", "-", "2920.8", "-", "1.50", processor, "-"],
        ["minilm", "pydocs", "14.50", "0.26", "-", "1.50", "0.75", "503.6", "85142.6", "1.50", processor, "bfloat16"],
    ]  # 7302 / 2.5, 7302 / 14.5, 1234567 / 14.5


def test_geometry_columns_are_figures_of_the_panel() -> None:
    known = {"documents": {"n", "d", *DEFINITIONS}, "queries": {*DEFINITIONS}, "hubness": {"skewness"}}
    assert all(key in known[part] for _, (part, key), _ in GEOMETRY)


def test_undefined_figures_are_dashes(results: Results) -> None:
    results.add("m", "a", 0.5, geometry={"documents": PANEL | {"isotropy": None, "isotropy_ceiling": None}})
    row = rendered(markdown(results.read()))[0]["Geometry"]
    assert (row["m", "isotropy"], row["m", "its ceiling"], row["m", "debiased"]) == ("-", "-", "-0.6895")


def test_notes(results: Results) -> None:
    told = {"dataset": {"notes": ["3 judgements name documents that are not in the corpus"], "exclude_self": True}}
    results.add("m", "a", 0.5, manifest=told)
    results.add("n", "a", 0.5, manifest=told)
    words = rendered(markdown(results.read()))[1].splitlines()
    assert words.count("a: 3 judgements name documents that are not in the corpus.") == 1
    assert "a: a query's own document is left out of its ranking." in words
    assert any(line.startswith("Isotropy: 1 - std(l)/mean(l)") for line in words)
    assert "Order of documents: score descending, then document id descending." in words


def test_different_versions_of_a_dataset_are_not_compared(results: Results) -> None:
    results.add("m", "a", 0.5)
    results.add("n", "a", 0.25, manifest={"dataset": {"fingerprint": {"corpus": "newer"}}})
    results.add("o", "a", 0.75, manifest={"dataset": {"fingerprint": {"corpus": "newer"}}})
    for model in "mno":
        results.add(model, "b", 0.125)
    told = (
        "a: the models saw different versions of it, so its column compares nothing (one version: o, n; one version: m)"
    )
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"].rows[0][1:4] == ["75.00¶", "12.50", "43.75¶"]
    assert {column for _, column in tables["nDCG@10"].bold} == {"b"}
    assert f"{told}." in words
    assert "¶ the models saw different versions of the dataset (of an average: of one in it)." in words
    assert content(results.read())["mixed"] == ["a"]
    ended = CliRunner().invoke(report, ["--results", str(results.store.root)])
    assert (ended.exit_code, ended.stderr) == (0, f"warning: {told}\n")


def test_other_measures_only(results: Results) -> None:
    results.add("m", "a", 0.5)
    results.store.write("n", "a", {**results.read().rows()[0].result, "model": "n", "measures": {"P@5": 0.2}})
    assert rendered(markdown(results.read()))[0]["nDCG@10"].rows == [
        ["m", "50.00", "-0.7128"],
        ["n", "not measured", "-0.7128"],
    ]
    assert [row["measures.P@5"] for row in content(results.read())["rows"]] == [None, 0.2]


def test_isotropy_stands_beside_the_scores_as_the_mean_over_the_datasets_shown(results: Results) -> None:
    for dataset, isotropy in (("a", -1.0), ("b", 0.5)):
        results.add("m", dataset, 0.5, geometry={"documents": PANEL | {"isotropy": isotropy}})
    results.add("bm25", "a", 0.5, dense=False)
    table = rendered(markdown(results.read()))[0]["nDCG@10"]
    assert table["m", "isotropy (mean of 2)"] == "-0.2500"
    assert table["bm25", "isotropy (mean of 2)"] == "-"


def test_approximate_indexes(results: Results) -> None:
    speeds = {"approximate": 5000.25, "exact": 250.0}
    served = {"recall@10": 0.98765, "cost": {"nDCG@10": 0.0125}, "queries_per_second": speeds}
    index = {"factory": "SQ8", "recall@100": 0.9, "bytes": 1234567, "build_seconds": 1.5, "served": served}
    results.add("m", "x", 0.5)
    assert "Approximate" not in markdown(results.read())
    assert "index.bytes" not in content(results.read())["rows"][0]
    results.add("m|SQ8", "x", 0.48, index=index | {"exact": {"nDCG@10": 0.5}, "train_sample": 7302})
    tables, words = rendered(markdown(results.read()))
    [row] = tables["Approximate indexes"].rows
    assert row == [
        *("m|SQ8", "x", "0.9877", "0.5000", "+0.0125", "5000.2", "250.0", "0.9000", "-"),
        *("1,234,567", "-", "1.50", "7,302"),
    ]
    assert "exact minus approximate" in words
    assert tables["nDCG@10"].rows[1][0] == "m|SQ8"
    flat = content(results.read())["rows"][1]
    assert (flat["index.served.recall@10"], flat["index.exact.nDCG@10"], flat["index.factory"]) == (0.98765, 0.5, "SQ8")


@pytest.mark.parametrize(("missing", "shown"), [(5, "50.00"), (6, "50.00‖")])
def test_a_run_without_many_of_the_queries_is_marked(results: Results, missing: int, shown: str) -> None:
    results.add("m", "a", 0.5, counts={"missing": missing})  # of 50
    results.add("n", "a", 0.25, counts={"missing": 1})
    results.add("o", "a", 0.25, counts={"missing": missing})
    results.add("p", "a", 0.125, counts={"missing": 0})
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"]["m", "a"] == shown
    assert f"a: {missing} of 50 judged queries have no document in the run and count as 0 (m, o)." in words
    assert "a: 1 of 50 judged queries has no document in the run and counts as 0 (n)." in words
    assert ("‖ the run has no document for more than 10% of the judged queries" in words) == ("‖" in shown)


def test_an_unusual_setting_stands_apart(results: Results) -> None:
    unusual = {"dataset": {"exclude_self": True, "unusual": ["exclude_self"]}}
    results.add("m", "a", 0.5)
    results.add("m", "b", 0.25)
    results.add("m", "a:exclude_self=true", 0.75, manifest=unusual)
    board = results.read()
    assert (board.datasets, board.partial_datasets) == (("a", "b"), ("a:exclude_self=true",))
    assert board.averages[0].means["m"].value == 0.375
    tables, words = rendered(markdown(board))
    title = "nDCG@10 on some queries only, or with another setting than the dataset's"
    assert tables[title].rows == [["m", "75.00"]]
    assert "a:exclude_self=true: a query's own document is left out of its ranking." in words
    assert "a: a query's own document" not in words


def test_for_whom_the_own_document_is_left_out(results: Results) -> None:
    results.add("m", "a", 0.5, manifest={"dataset": {"exclude_self": True, "fingerprint": {"exclude_self": True}}})
    results.add("n", "a", 0.25)
    words = rendered(markdown(results.read()))[1]
    assert "a: a query's own document is left out of its ranking, in the results of m alone." in words


def test_the_page_knows_every_mark() -> None:
    script = (Path(harness_reports.__file__).parent / "html" / "page_leaderboard.js").read_text()
    for name, sign in SIGNS.items():
        assert re.search(rf'"?{name}"?: "{re.escape(sign)}"', script), name
        assert re.search(rf'"?{name}"?: "{re.escape(sign)} ', script) or name in ("in-domain",), name
