"""What is averaged, ordered, set apart and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.datasets.catalog import catalogue
from harness.types import UserError
from harness_reports.cli.report import command as report
from harness_reports.data.rows import content, csv_text
from tests.reports.factory import PANEL, Results
from tests.reports.rendering import markdown, rendered


def test_averages_by_hand(results: Results, trio: tuple[str, ...]) -> None:
    for model, scores in {"low": (0.5, 0.25, 0.125), "high": (0.75, 0.5, 0.0625), "part": (0.9, 0.9, None)}.items():
        for dataset, score in zip(trio, scores, strict=True):
            if score is not None:
                results.add(model, dataset, score)
    board = results.read()
    (average,) = board.averages
    assert (average.name, average.datasets) == ("trio (3 of 3)", trio)
    assert average.means["low"].value == 0.875 / 3
    assert average.means["high"].value == 1.3125 / 3
    table = rendered(markdown(board))[0]["nDCG@10"]
    assert table.header == ["model", "scifact", "arguana", "fiqa", "trio (3 of 3)", "isotropy (mean of 3)"]
    assert table.rows == [
        ["high", "75.00", "50.00", "6.25", "43.75", "-0.7128"],
        ["low", "50.00", "25.00", "12.50", "29.17", "-0.7128"],
        ["part", "90.00", "90.00", "missing", "2 of 3", "-"],
    ]
    assert table.bold == {("part", "scifact"), ("part", "arguana"), ("low", "fiqa"), ("high", "trio (3 of 3)")}


def test_a_mean_of_no_suite_lists_its_datasets(results: Results, trio: tuple[str, ...]) -> None:
    for dataset, score in (("zeta", 0.25), ("fiqa", 0.5), ("Alpha", 0.75)):
        results.add("m", dataset, score)
    tables, words = rendered(markdown(results.read()))
    assert tables["nDCG@10"].rows == [["m", "50.00", "75.00", "25.00", "50.00", "-0.7128"]]
    assert tables["nDCG@10"].header == ["model", "fiqa", "Alpha", "zeta", "mean of 3", "isotropy (mean of 3)"]
    assert "mean of 3: the unweighted mean of fiqa, Alpha, zeta." in words
    assert not tables["nDCG@10"].bold  # there is nothing to be better than


def test_a_suite_never_shares_its_column_with_more_datasets(
    results: Results, trio: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(catalogue().suites, "trio")
    for name, members in {"duo": ("fiqa", "other"), "trio": trio, "quartet": (*trio, "absent")}.items():
        monkeypatch.setitem(catalogue().suites, name, members)
    for dataset in (*trio, "other"):
        results.add("m", dataset, 1.0 if dataset == "other" else 0.5)
    averages = [(average.name, average.means["m"].value) for average in results.read().averages]
    assert averages == [("trio (3 of 3)", 0.5), ("duo (2 of 2)", 0.75), ("mean of 4", 0.625)]
    assert results.read("trio").datasets == trio
    assert [average.name for average in results.read("trio").averages] == ["trio (3 of 3)"]


FORUMS = (0.5, 0.25, 0.75, 0.125, 0.375, 0.625, 0.5, 0.25, 0.75, 0.875, 0.375, 0.625)  # together 6
OTHERS = {
    "trec-covid": 0.75, "bioasq": 0.5, "nfcorpus": 0.25, "nq": 0.375, "hotpotqa": 0.625, "fiqa": 0.25,
    "signal1m": 0.375, "trec-news": 0.375, "robust04": 0.5, "arguana": 0.5, "webis-touche2020": 0.25, "quora": 0.875,
    "dbpedia-entity": 0.375, "scidocs": 0.125, "fever": 0.75, "climate-fever": 0.25, "scifact": 0.625,
}  # fmt: skip
"""Together 7.75; without the four under licence (0.5, 0.375, 0.375 and 0.5) 6."""


def test_the_beir_average_by_hand(results: Results) -> None:
    forums = dict(zip(catalogue().groups["cqadupstack"], FORUMS, strict=True))
    for dataset, score in (OTHERS | forums).items():
        results.add("whole", dataset, score)
        if dataset not in ("bioasq", "cqadupstack/tex"):
            results.add("part", dataset, score)
    results.add("whole", "msmarco", 0.25)
    averages = {average.name: average for average in results.read().averages}
    assert {name: average.means["whole"].value for name, average in averages.items()} == {
        "beir18 (18 of 18)": 8.25 / 18,  # CQADupStack is 6 / 12 = 0.5, one dataset of the 18
        "mteb15 (15 of 15)": 6.75 / 15,
        "beir14 (14 of 14)": 6.5 / 14,
        "mean of 19": 8.5 / 19,
        "cqadupstack (12 of 12)": 0.5,
    }
    part = {name: (average.means["part"].value, average.means["part"].measured) for name, average in averages.items()}
    assert part == {
        "beir18 (18 of 18)": (None, 16),
        "mteb15 (15 of 15)": (None, 13),
        "beir14 (14 of 14)": (None, 13),
        "mean of 19": (None, 16),
        "cqadupstack (12 of 12)": (None, 11),
    }
    table = rendered(markdown(results.read("beir18")))[0]["nDCG@10"]
    assert table["whole", "beir18 (18 of 18)"] == "45.83"
    assert table["part", "beir18 (18 of 18)"] == "16 of 18"
    assert table["part", "cqadupstack (12 of 12)"] == "11 of 12"


def test_a_groups_mean_stands_in_place_of_its_members(results: Results) -> None:
    forums = dict(zip(catalogue().groups["cqadupstack"], FORUMS, strict=True))
    beside = {"webis-touche2020": 0.25, "quora": 0.875}
    for number, (dataset, score) in enumerate((forums | beside).items()):
        isotropy = {"documents": PANEL | {"isotropy": -number / 8}}
        results.add("whole", dataset, score, geometry=isotropy, in_domain=dataset == "cqadupstack/gis")
        if dataset != "cqadupstack/tex":
            results.add("part", dataset, score / 2)
    board = results.read()
    table = rendered(markdown(board))[0]["nDCG@10"]
    isotropy = sum([5.5, 12, 13]) / 3 / 8  # the mean of 0 to 11, and the two beside them
    assert table.header == [
        *("model", "webis-touche2020", "cqadupstack (12 of 12)", "quora", "mean of 3", "isotropy (mean of 3)")
    ]
    assert table.rows == [
        ["whole", "25.00", "50.00*", "87.50", "54.17*", f"{-isotropy:.4f}"],
        ["part", "12.50", "11 of 12", "43.75", "2 of 3", "-"],
    ]
    assert ("whole", "quora") in table.bold
    kept = content(board)
    assert {row["dataset"] for row in kept["rows"]} == {*forums, *beside}
    assert len(csv_text(board).splitlines()) == 1 + 14 + 13
    assert {row[1] for row in rendered(markdown(board))[0]["Geometry"].rows} == {*forums, *beside}


def test_a_group_alone_shows_its_members_and_its_mean(results: Results, tmp_path: Path) -> None:
    forums = dict(zip(catalogue().groups["cqadupstack"], FORUMS, strict=True))
    for dataset, score in forums.items():
        results.add("m", dataset, score)
    table = rendered(markdown(results.read()))[0]["nDCG@10"]
    assert table.header == ["model", *forums, "cqadupstack (12 of 12)", "isotropy (mean of 12)"]
    assert table["m", "cqadupstack/tex"] == "75.00"
    assert table["m", "cqadupstack (12 of 12)"] == "50.00"
    results.add("m", "scifact", 0.25)
    (tmp_path / "forums.toml").write_text('datasets = ["cqadupstack"]\n')
    table = rendered(markdown(results.read(str(tmp_path / "forums.toml"))))[0]["nDCG@10"]
    assert [name for name in table.header if "/" in name] == [*forums]
    assert table["m", "cqadupstack (12 of 12)"] == "50.00"


def test_versions_of_a_member_keep_its_groups_mean_from_being_the_best(results: Results) -> None:
    for dataset in (*catalogue().groups["cqadupstack"], "quora"):
        results.add("m", dataset, 0.5)
        changed = {"dataset": {"fingerprint": {"corpus": "newer"}}} if dataset == "cqadupstack/tex" else {}
        results.add("n", dataset, 0.25, manifest=changed)
    table = rendered(markdown(results.read()))[0]["nDCG@10"]
    assert table.bold == {("m", "quora")}


def test_some_forums_are_datasets_like_any_other(results: Results) -> None:
    for dataset in ("cqadupstack/tex", "cqadupstack/gis", "own"):
        results.add("m", dataset, 0.5)
    (average,) = results.read().averages
    assert (average.name, set(average.datasets)) == ("mean of 3", {"cqadupstack/tex", "cqadupstack/gis", "own"})


def test_a_suite_shows_what_it_lacks(results: Results, trio: tuple[str, ...]) -> None:
    results.add("m", "fiqa", 0.5)
    results.add("m", "scifact", 0.5)
    results.add("m", "scifact:split=train", 0.9)
    table = rendered(markdown(results.read("trio")))[0]["nDCG@10"]
    assert table.header == ["model", "scifact", "arguana", "fiqa", "trio (2 of 3)"]
    assert table.rows == [["m", "50.00", "missing", "50.00", "2 of 3"]]
    assert "scifact:split=train" in results.read().datasets


def test_the_demo_suite(results: Results) -> None:
    results.add("bm25", "pydocs", 0.5)
    assert rendered(markdown(results.read()))[0]["nDCG@10"].header == ["model", "pydocs", "demo (1 of 1)"]


def test_partial_cells_stand_apart(results: Results, trio: tuple[str, ...]) -> None:
    for dataset in trio:
        results.add("whole", dataset, 0.5)
    for dataset in trio[:2]:
        results.add("mixed", dataset, 0.5)
    results.add("mixed", "fiqa:limit=5", 0.9)
    results.add("mixed", "fiqa", 0.8, partial=True)  # whatever its label says
    board = results.read()
    assert board.averages[0].means["mixed"].value is None
    tables, _ = rendered(markdown(board))
    assert tables["nDCG@10"]["mixed", "fiqa"] == "partial"
    assert tables["nDCG@10"]["mixed", "trio (3 of 3)"] == "2 of 3"
    apart = tables["nDCG@10 on some queries only"]
    assert (apart.header, apart.rows) == (["model", "fiqa", "fiqa:limit=5"], [["mixed", "80.00", "90.00"]])
    assert results.read("trio").partial_datasets == ("fiqa", "fiqa:limit=5")


def test_only_partial_cells(results: Results) -> None:
    results.add("m", "pydocs:limit=5", 0.5)
    tables, _ = rendered(markdown(results.read("demo")))
    assert "nDCG@10" not in tables
    assert tables["nDCG@10 on some queries only"].rows == [["m", "50.00"]]


def test_models_without_an_average_come_last_by_their_first_dataset(results: Results, trio: tuple[str, ...]) -> None:
    for dataset in trio:
        results.add("complete", dataset, 0.1)
    results.add("b", "scifact", 0.7)
    results.add("a", "scifact", 0.6)
    results.add("zero", "scifact", 0.0)
    results.add("z", "arguana", 0.9)
    results.add("y", "arguana")
    assert list(results.read().models) == ["complete", "b", "a", "zero", "z", "y"]


@pytest.mark.parametrize("copy", ["a-copy", "z-copy"])
def test_results_that_disagree_are_both_shown(results: Results, trio: tuple[str, ...], copy: str) -> None:
    for dataset in trio:
        results.add("m", dataset, 0.75)
    (results.store.root / "m").rename(results.store.root / copy)
    for dataset, score in zip(trio, (0.5, 0.75, 0.25), strict=True):
        results.add("m", dataset, score)
    board = results.read()
    assert board.cells["m", "scifact"].score == 0.5
    assert board.cells[f"m (in {copy})", "scifact"].score == 0.75
    assert board.averages[0].means["m"].value == 0.5  # nothing of the other folder's is in it
    assert board.averages[0].means[f"m (in {copy})"].value is None
    assert [one.reason for one in board.skipped] == ["a copy of m/arguana, which says the same; move it elsewhere"]
    assert board.skipped[0].path == results.store.root / copy / "arguana" / "result.json"
    tables, words = rendered(markdown(board))
    assert tables["nDCG@10"]["m", "scifact"] == "50.00§"
    assert tables["nDCG@10"][f"m (in {copy})", "scifact"] == "75.00§"
    assert f"m on scifact: two results disagree (nDCG@10 50.0000 in m/scifact and nDCG@10 75.0000 in {copy}/" in words
    assert {row["model"] for row in content(board)["rows"]} == {"m", f"m (in {copy})"}
    ended = CliRunner().invoke(report, ["--results", str(results.store.root)])
    assert ended.exit_code == 1
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["skipped", "disagree", "disagree"]


def test_a_copy_with_fewer_metrics_does_not_disagree(results: Results) -> None:
    results.add("m", "a", 0.75)
    (results.store.root / "m").rename(results.store.root / "copy")
    results.add("m", "a", 0.75, measures={"P@5": 0.5})
    board = results.read()
    assert not board.disputed
    assert board.cells["m", "a"].get("measures", "P@5") == 0.5
    assert [one.reason for one in board.skipped] == ["a copy of m/a, which says the same; move it elsewhere"]


def test_a_second_folder_of_the_same_model_has_a_row_of_its_own(results: Results) -> None:
    results.add("m", "a", 0.75)
    (results.store.root / "m" / "a").rename(results.store.root / "m" / "a-old")
    results.add("m", "a", 0.5)
    assert {key: cell.score for key, cell in results.read().cells.items()} == {
        ("m", "a"): 0.5,
        ("m (in m/a-old)", "a"): 0.75,
    }


def test_nothing_to_report(results: Results, trio: tuple[str, ...]) -> None:
    root = results.store.root
    with pytest.raises(UserError, match=r"no results folder .* harness benchmark -m bm25 --suite demo"):
        results.read()
    root.mkdir()
    with pytest.raises(UserError, match=r"no results in .* harness benchmark -m bm25 --suite demo"):
        results.read()
    results.add("m", "elsewhere", 0.5)
    with pytest.raises(UserError, match=r"on the datasets of the suite trio .* harness benchmark -m bm25 --suite trio"):
        results.read("trio")
    with pytest.raises(UserError, match="did you mean trio"):
        results.read("tiro")
    (root / "m" / "elsewhere" / "result.json").write_text("torn")
    with pytest.raises(UserError, match=r"1 unreadable; .*not readable JSON"):
        results.read()
