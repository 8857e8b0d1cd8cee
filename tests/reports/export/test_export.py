"""Stored results in the formats of others, read back by those who made the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli
from harness.datasets.catalog import catalogue
from harness.results.mteb_tasks import TRANSLATED, members
from harness.types import UserError
from harness_reports.cli.export import command as export
from harness_reports.data.leaderboard import read_leaderboard
from tests.reports.factory import Results

MEASURES = {"nDCG@10": 0.612345, "R@100": 0.75, "AP@1000": 0.25, "RR@10": 0.5, "nDCG@20": 0.65, "SetP": 0.1}


@pytest.fixture
def filled(results: Results) -> Results:
    results.add("bm25:k1=0.9", "scifact", 0.612345, measures=MEASURES)
    results.add("bm25:k1=0.9", "scifact:split=train", 0.5, split="train")
    results.add("bm25:k1=0.9", "my/own", 0.25)
    results.add("bm25:k1=0.9", "nano-scifact", 0.125)
    hub = {"name": "st", "passed": {"name": "org/encoder@" + "a" * 40}, "trained_on": ["msmarco", "elsewhere"]}
    results.add("st:org/encoder", "msmarco", 0.375, split="dev", in_domain=True, manifest={"model": hub})
    results.add("failed", "scifact", reason="no memory")
    results.add("some", "scifact:limit=5", 0.5)
    return results


def run(results: Results, form: str, output: Path, *more: str) -> Result:
    words = ["--results", str(results.store.root), "--format", form, "-o", str(output), *more]
    return CliRunner().invoke(export, words)


def contents(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in folder.rglob("*.json")}


def test_mtebs_layout(filled: Results, tmp_path: Path) -> None:
    done = run(filled, "mteb", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "left out: failed on scifact, some on scifact:limit=5" in done.stderr
    models = {path.name for path in (tmp_path / "out" / "results").iterdir()}
    assert models == {"retrieval-harness__bm25+k1=0.9", "org__encoder"}
    [revision] = (tmp_path / "out" / "results" / "retrieval-harness__bm25+k1=0.9").iterdir()
    found = contents(revision)
    assert {*found} == {"SciFact.json", "my__own.json", "NanoSciFactRetrieval.json", "model_meta.json"}
    assert {*found["SciFact.json"]["scores"]} == {"test", "train"}
    [scores] = found["SciFact.json"]["scores"]["test"]
    assert scores == {
        "ndcg_at_10": 0.612345, "recall_at_100": 0.75, "map_at_1000": 0.25, "mrr_at_10": 0.5, "ndcg_at_20": 0.65,
        "main_score": 0.612345, "hf_subset": "default", "languages": ["eng-Latn"],
    }  # fmt: skip
    assert {*found["NanoSciFactRetrieval.json"]["scores"]} == {"train"}  # what MTEB calls the split that we call test
    assert found["model_meta.json"]["harness"]["label"] == "bm25:k1=0.9"
    assert len([line for line in done.stdout.splitlines() if line.endswith(".json")]) == 4


def test_mteb_loads_it(filled: Results, tmp_path: Path) -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
    assert run(filled, "mteb", tmp_path / "out").exit_code == 0
    loaded = mteb.ResultCache(tmp_path / "out").load_results(include_remote=False)
    found = {(m.model_name, t.task_name): t for m in loaded.model_results for t in m.task_results}
    assert {*found} == {
        *(("retrieval-harness/bm25+k1=0.9", task) for task in ("SciFact", "my/own", "NanoSciFactRetrieval")),
        ("org/encoder", "MSMARCO"),
    }
    scifact = found["retrieval-harness/bm25+k1=0.9", "SciFact"]
    assert scifact.get_score(splits=["test"]) == 0.612345
    assert scifact.get_score(splits=["train"]) == 0.5
    assert found["org/encoder", "MSMARCO"].get_score() == 0.375
    tasks = ["SciFact", "MSMARCO", "NanoSciFactRetrieval"]
    kept = mteb.ResultCache(tmp_path / "out").load_results(
        tasks=mteb.get_tasks(tasks=tasks), validate_and_filter=True, include_remote=False
    )
    rows = kept.to_dataframe(format="long").to_dict("records")
    scores = {(row["model_name"], row["task_name"]): row["score"] for row in rows}
    assert scores["retrieval-harness/bm25+k1=0.9", "SciFact"] == pytest.approx(0.612345, abs=1e-5)
    assert {task for _, task in scores} == set(tasks)


def test_mtebs_names_of_datasets_are_mtebs() -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
    from harness.results.mteb_tasks import tasks, usual_split

    for name, task in tasks().items():
        metadata = mteb.get_task(task.name).metadata
        if not task.dataset:
            members = [part.metadata.name for part in metadata.tasks]
            assert members == [tasks()[member].name for member in catalogue().groups[name]]
            continue
        assert (metadata.dataset["path"], metadata.type) == (task.dataset, "Retrieval")
        assert metadata.eval_splits == [usual_split(name)[1]], name


def test_mtebs_translations_of_a_group_are_mtebs() -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
    for name in TRANSLATED:
        assert {*members(name)} == {part.metadata.name for part in mteb.get_task(name).metadata.tasks}


def test_a_whole_group_has_mtebs_mean_beside_it(results: Results, tmp_path: Path) -> None:
    """MTEB's benchmarks take the aggregate alone."""
    forums = catalogue().groups["cqadupstack"]
    for place, forum in enumerate(forums):
        results.add("bm25", forum, 0.3 + place / 100, seconds={"search": 2.0})
        results.add("dense", forum, 0.5) if place else None
    done = run(results, "mteb", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = {path.parent.parent.name: path for path in (tmp_path / "out").rglob("CQADupstackRetrieval.json")}
    assert [*found] == ["retrieval-harness__bm25"]  # the other model lacks a forum
    content = json.loads(found["retrieval-harness__bm25"].read_text())
    assert content["scores"] == {
        "test": [
            {
                "ndcg_at_10": pytest.approx(0.355),
                "main_score": pytest.approx(0.355),
                "hf_subset": "default",
                "languages": ["eng-Latn"],
            }
        ]
    }
    forum = json.loads((found["retrieval-harness__bm25"].parent / "CQADupstackTexRetrieval.json").read_text())
    assert content["evaluation_time"] == 12 * forum["evaluation_time"]
    assert str(found["retrieval-harness__bm25"]) in done.stdout
    assert run(results, "eval-results", tmp_path / "hub").exit_code == 0
    assert not list((tmp_path / "hub").rglob("CQADupstackRetrieval*"))  # the hub has no such dataset
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
    loaded = mteb.ResultCache(tmp_path / "out").load_results(
        tasks=mteb.get_tasks(tasks=["CQADupstackRetrieval"]), validate_and_filter=True, include_remote=False
    )
    scores = {row["model_name"]: row["score"] for row in loaded.to_dataframe(format="long").to_dict("records")}
    assert scores == {"retrieval-harness/bm25": pytest.approx(0.355)}


def test_what_was_exported_is_imported_again(filled: Results, tmp_path: Path, harness: Any) -> None:
    assert run(filled, "mteb", tmp_path / "out").exit_code == 0
    done = harness("import", "--mteb", tmp_path / "out", "--results", tmp_path / "again", "--json")
    assert done.code == 0, done.err
    cells = read_leaderboard(tmp_path / "again").cells
    for dataset in ("scifact", "scifact:split=train", "nano-scifact"):
        ours = filled.read().cells["bm25:k1=0.9", dataset]
        theirs = cells["retrieval-harness/bm25+k1=0.9", dataset]
        assert theirs.score == ours.score
        assert theirs.get("split") == ours.get("split")
    again = tmp_path / "out2"
    words = ["--results", str(tmp_path / "again"), "--format", "mteb", "-o", str(again)]
    assert CliRunner().invoke(export, words).exit_code == 0
    first, second = (contents(tmp_path / name)["SciFact.json"] for name in ("out", "out2"))
    assert second["scores"].keys() == first["scores"].keys()
    assert {p.name for p in (again / "results").iterdir()} == {p.name for p in (tmp_path / "out" / "results").iterdir()}


def test_the_hubs_files(filled: Results, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="the hub's client brings yaml")
    from huggingface_hub import parse_eval_result_entries

    done = run(filled, "eval-results", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "left out: my/own: no benchmark on the hub" in done.stderr
    files = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.yaml")}
    bm25, hub = "bm25+k1=0.9/.eval_results", read_leaderboard(filled.store.root)
    [encoder] = [name for name in files if name.endswith("MSMARCO.yaml")]
    assert {*files} == {f"{bm25}/SciFact.yaml", f"{bm25}/NanoSciFactRetrieval.yaml", encoder}
    test, train = parse_eval_result_entries(yaml.safe_load(files[f"{bm25}/SciFact.yaml"].read_text()))
    if test.task_id.endswith("train"):
        test, train = train, test
    assert (test.dataset_id, test.task_id, test.value) == ("mteb/scifact", "SciFact_default_test", 61.2345)
    assert (train.task_id, train.value) == ("SciFact_default_train", 50.0)
    assert test.dataset_revision is None
    assert "bm25:k1=0.9" in test.notes
    [entry] = parse_eval_result_entries(yaml.safe_load(files[encoder].read_text()))
    assert (entry.task_id, entry.value) == ("MSMARCO_default_dev", 37.5)
    assert entry.notes.endswith("trained on this dataset")
    assert hub.cells["st:org/encoder", "msmarco"].in_domain


def test_names_of_models_cannot_break_the_files(results: Results, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="the hub's client brings yaml")
    for name in ('a": [b\n- c: "', "../../up", "<script>é東"):
        results.add(name, "scifact", 0.5)
    for form in ("mteb", "eval-results"):
        assert run(results, form, tmp_path / form).exit_code == 0
    found = [yaml.safe_load(path.read_text())[0]["notes"] for path in (tmp_path / "eval-results").rglob("*.yaml")]
    assert len(found) == 3
    assert sum('a": [b\n- c: "' in notes or "<script>é東" in notes or "../../up" in notes for notes in found) == 3
    assert len(list((tmp_path / "mteb" / "results").iterdir())) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"results", "mteb", "eval-results"}


def test_rows_are_chosen_and_mistakes_told(filled: Results, tmp_path: Path) -> None:
    done = run(filled, "mteb", tmp_path / "out", "--model", "st:org/encoder")
    assert len(done.stdout.splitlines()) == 1
    wrong = run(filled, "mteb", tmp_path / "out", "--model", "bm52:k1=0.9")
    assert isinstance(wrong.exception, UserError)
    assert "did you mean bm25:k1=0.9?" in str(wrong.exception)
    nothing = run(filled, "eval-results", tmp_path / "out", "--model", "failed")
    assert isinstance(nothing.exception, UserError)
    (filled.store.root / "torn" / "a").mkdir(parents=True)
    (filled.store.root / "torn" / "a" / "result.json").write_text("{")
    torn = run(filled, "mteb", tmp_path / "out")
    assert torn.exit_code == 1
    assert "torn" in torn.stderr
    assert "export" in cli.list_commands(__import__("click").Context(cli))


def test_rows_that_are_searched_otherwise_do_not_take_the_models_name(results: Results, tmp_path: Path) -> None:
    hub = {"name": "st", "passed": {"name": "org/encoder"}, "trained_on": []}
    results.add("st:org/encoder", "scifact", 0.5, manifest={"model": hub})
    results.add("st|Flat:org/encoder", "scifact", 0.25, index={"factory": "Flat"}, manifest={"model": hub})
    results.add("st|depth=9:org/encoder", "scifact", 0.125, manifest={"model": hub, "k": 9})
    results.add("m", "scifact:exclude_self=true", 0.75, manifest={"dataset": {"unusual": ["exclude_self"]}})
    done = run(results, "mteb", tmp_path / "out")
    assert "left out: m on scifact:exclude_self=true" in done.stderr
    [plain] = (tmp_path / "out" / "results" / "org__encoder").iterdir()
    [scores] = contents(plain)["SciFact.json"]["scores"]["test"]
    assert scores["main_score"] == 0.5
    assert len(list((tmp_path / "out" / "results").iterdir())) == 3
