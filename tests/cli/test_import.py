"""Other people's results as rows: TREC runs measured here, MTEB's folders as they are."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pandas
import pytest

import harness as api
from harness.datasets.catalog import catalogue
from harness.results.mteb_tasks import TRANSLATED, members, tasks
from harness.results.store import ResultStore
from harness.storage.atomic import sha256_file
from harness.storage.records import unsealed
from harness_reports.data.leaderboard import read_leaderboard

RUN = """q1 Q0 moon 1 9.5 them
q1 Q0 heart 2 8.5 them
q2 Q0 python 1 3 them
q2 Q0 rust 2 2 them
q2 Q0 nowhere 3 1 them
q3 Q0 cheese 1 1e-3 them
q9 Q0 heart 1 1 them
"""
QRELS = {"q1": {"heart": 1}, "q2": {"rust": 2, "python": 1}, "q3": {"bread": 1}, "q4": {"mars": 1, "moon": 0}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.run"
    path.write_text(RUN)
    return path


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_a_run_is_measured_as_trec_eval_does(harness: Any, run: Path, toy: Path) -> None:
    import pytrec_eval

    done = harness("import", "--run", run, "--model", "their/system: v2", "-d", toy, "--json")
    assert done.code == 0, done.err
    [row] = json.loads(done.out)
    result = stored(Path(row["folder"]))
    theirs: dict[str, dict[str, float]] = {}
    for line in RUN.splitlines():
        query, _, document, _, score, _ = line.split()
        theirs.setdefault(query, {})[document] = float(score)
    found = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut.10", "recall.100", "map_cut.1000"}).evaluate(theirs)
    means = {name: sum(found[q][name] for q in found) / len(QRELS) for name in ("ndcg_cut_10", "recall_100")}
    assert result["measures"]["nDCG@10"] == pytest.approx(means["ndcg_cut_10"], abs=1e-12)
    assert result["measures"]["R@100"] == pytest.approx(means["recall_100"], abs=1e-12)
    assert row["nDCG@10"] == result["measures"]["nDCG@10"]
    per_query = pandas.read_parquet(Path(row["folder"]) / "per_query.parquet").set_index("query_id")
    for query in QRELS:
        value = found.get(query, {}).get("ndcg_cut_10", 0.0)
        assert per_query.loc[query, "nDCG@10"] == pytest.approx(value, abs=1e-12)
    assert per_query.loc["q1", "query"] == "how does blood move"
    assert (result["imported"], result["counts"]["missing"], result["manifest"]["k"]) == ("run", 1, 3)
    assert result["manifest"]["source"] == {"file": "theirs.run", "sha256": sha256_file(run)}
    assert result["manifest"]["dataset"]["notes"] == ["1 documents of the run are not in the corpus"]
    lines = gzip.decompress((Path(row["folder"]) / "run.trec.gz").read_bytes()).decode().splitlines()
    assert [line.split()[:4] for line in lines[:2]] == [["q1", "Q0", "moon", "1"], ["q1", "Q0", "heart", "2"]]
    assert not [line for line in lines if line.startswith("q9")]


def test_a_run_from_standard_input(harness: Any, run: Path, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads(harness("import", "--run", run, "-m", "file", "-d", toy, "--json").out)[0]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"# by x\n{RUN}".encode())))
    [row] = json.loads(harness("import", "--run", "-", "-m", "piped", "-d", toy, "--json").out)
    assert row["nDCG@10"] == known["nDCG@10"]
    result = stored(Path(row["folder"]))
    assert result["manifest"]["source"]["file"] == "standard input"


def test_digits_that_float32_drops_are_noted(harness: Any, run: Path, toy: Path) -> None:
    run.write_text("q1 Q0 heart 1 1.00000002 t\nq1 Q0 moon 2 1.00000001 t\n#q2 Q0 rust 1 1 t\n")
    [row] = json.loads(harness("import", "--run", run, "-m", "close", "-d", toy, "--json").out)
    told = stored(Path(row["folder"]))["manifest"]["dataset"]["notes"]
    assert [note.partition(":")[0] for note in told] == ["theirs.run", "theirs.run"]
    assert "begin with #" in told[0]
    assert "digits that float32 drops" in told[1]
    assert row["nDCG@10"] == 0.25


def test_our_own_run_comes_back_with_our_own_score(harness: Any, toy: Path) -> None:
    ours = json.loads(harness("benchmark", "-m", "bm25", "-d", toy, "--json").out)[0]
    run = "results/bm25/toy/run.trec.gz"
    again = harness("import", "--run", run, "--model", "copy", "-d", toy, "--trained-on", "toy", "--json")
    assert again.code == 0, again.err
    cells = read_leaderboard(Path("results")).cells
    assert cells["copy", "toy"].result["measures"] == ours["measures"]
    assert (cells["copy", "toy"].imported, cells["bm25", "toy"].imported) == ("run", "")
    assert (cells["copy", "toy"].in_domain, cells["bm25", "toy"].in_domain) == (True, False)
    frame = api.load_results("results").set_index("model")
    assert frame.loc["copy", "imported"] == "run"
    assert pandas.isna(frame.loc["bm25", "imported"])
    assert harness("report").code == 0


def test_a_querys_own_document_is_left_out(harness: Any, toy: Path, tmp_path: Path) -> None:
    queries = toy / "queries.jsonl"
    queries.write_text(queries.read_text().replace('"q1"', '"moon"'))
    qrels = toy / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("q1\t", "moon\t"))
    run = tmp_path / "self.run"
    run.write_text(RUN.replace("q1 ", "moon "))
    for flag, value in (("--exclude-self", 1.0), ("--include-self", 0.5)):
        done = harness("import", "--run", run, "-m", f"x{flag}", "-d", toy, flag, "--json")
        folder = Path(json.loads(done.out)[0]["folder"])
        per_query = pandas.read_parquet(folder / "per_query.parquet").set_index("query_id")
        assert per_query.loc["moon", "RR@10"] == value


def test_mistakes_are_told_in_a_sentence(harness: Any, run: Path, toy: Path, tmp_path: Path) -> None:
    def told(*words: object) -> str:
        done = harness("import", *words)
        assert done.code == 2, done.err
        assert "Traceback" not in done.err
        return done.err.splitlines()[-1]

    assert "Name one thing to import" in told()
    assert "Name one thing to import" in told("--run", run, "--mteb", tmp_path)
    assert "Say what the row is called" in told("--run", run, "-d", toy)
    assert "There is no file" in told("--run", "none.run", "-m", "x", "-d", toy)
    other = tmp_path / "other.run"
    other.write_text("z1 Q0 heart 1 1 them\n")
    assert "has no query that toy judges (such as q1, q2, q3, q4)" in told("--run", other, "-m", "x", "-d", toy)
    assert not (Path("results") / "x").exists() or not list((Path("results") / "x").iterdir())
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0
    before = stored(Path("results/bm25/toy"))
    assert "as measured here, which is kept" in told("--run", run, "-m", "bm25", "-d", toy)
    assert stored(Path("results/bm25/toy")) == before
    assert harness("import", "--run", run, "-m", "theirs", "-d", toy).code == 0
    assert harness("import", "--run", run, "-m", "theirs", "-d", toy).code == 0  # an imported one may be replaced
    assert "There is no folder" in told("--mteb", tmp_path / "none")
    assert "holds no results of MTEB's" in told("--mteb", toy)
    assert "name their datasets themselves" in told("--mteb", toy, "-d", toy)


def write_task(folder: Path, task: str, *, model: str, revision: str, **splits: list[dict[str, Any]]) -> None:
    place = folder / model.replace("/", "__") / revision
    place.mkdir(parents=True, exist_ok=True)
    content = {"dataset_revision": "d56462", "task_name": task, "mteb_version": "2.26.24", "scores": splits}
    (place / f"{task}.json").write_text(json.dumps({**content, "evaluation_time": 12.5, "kg_co2_emissions": None}))
    meta = {"name": model, "revision": revision, "training_datasets": ["MSMARCO", "STS12"]}
    meta |= {"n_parameters": 22_713_216, "embed_dim": 384, "max_tokens": float("inf"), "license": "apache-2.0"}
    (place / "model_meta.json").write_text(json.dumps(meta))


def scores(ndcg: Any, subset: str = "default") -> dict[str, Any]:
    found = {"ndcg_at_10": ndcg, "map_at_1000": 0.25, "recall_at_100": 0.75, "mrr_at_10": 0.5, "nauc_mrr_at_10_max": 1}
    return {**found, "precision_at_1": 0.125, "main_score": ndcg, "hf_subset": subset, "languages": ["eng-Latn"]}


def test_mtebs_results_are_rows(harness: Any, tmp_path: Path) -> None:
    folder, model = tmp_path / "cache" / "results", "org/encoder"
    write_task(folder, "SciFact", model=model, revision="r1", test=[scores(0.6)], train=[scores(0.7)])
    write_task(folder, "MSMARCO", model=model, revision="r1", dev=[scores(0.4)], test=[scores(0.3)])
    write_task(folder, "NanoSciFactRetrieval", model=model, revision="r1", train=[scores(0.8)])
    write_task(folder, "OtherRetrieval", model=model, revision="r1", test=[scores(0.2), scores(0.1, "de")])
    write_task(folder, "STS12", model=model, revision="r1", test=[{"main_score": 0.9, "hf_subset": "default"}])
    done = harness("import", "--mteb", tmp_path / "cache", "--json")
    assert done.code == 0, done.err
    assert "left out: 1 scores without nDCG@10" in done.err
    found = {row["dataset"]: row["nDCG@10"] for row in json.loads(done.out)}
    assert found == {
        "scifact": 0.6,
        "scifact:split=train": 0.7,
        "msmarco": 0.4,
        "msmarco:split=test": 0.3,
        "nano-scifact": 0.8,
        "OtherRetrieval": 0.2,
        "OtherRetrieval/de": 0.1,
    }
    cell = read_leaderboard(Path("results")).cells[model, "scifact"]
    assert cell.imported == "mteb"
    assert cell.get("manifest", "model", "facts") == {"parameters": 22_713_216, "dim": 384, "licence": "apache-2.0"}
    assert not cell.in_domain
    assert read_leaderboard(Path("results")).cells[model, "msmarco"].in_domain
    assert cell.get("manifest", "model", "trained_on") == ["msmarco"]
    assert cell.result["measures"] == {"nDCG@10": 0.6, "AP@1000": 0.25, "R@100": 0.75, "RR@10": 0.5, "P@1": 0.125}
    assert cell.get("manifest", "source", "dataset_revision") == "d56462"
    assert cell.get("seconds") == {"evaluation": 12.5}
    folder = Path(next(row["folder"] for row in json.loads(done.out) if row["dataset"] == "scifact"))
    assert [file.name for file in folder.iterdir()] == ["result.json"]  # no per-query scores, and none made up
    report = harness("report")
    assert report.code == 0, report.err
    assert "60.00" in report.out


def test_revisions_and_faults_of_mtebs_results(harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mteb"
    for revision, value in (("11111111aaaa", 0.5), ("22222222bbbb", 0.25)):
        write_task(folder, "SciFact", model="org/encoder", revision=revision, test=[scores(value)])
    done = harness("import", "--mteb", folder, "--json")
    assert {row["model"]: row["nDCG@10"] for row in json.loads(done.out)} == {
        "org/encoder@11111111": 0.5,
        "org/encoder@22222222": 0.25,
    }
    refused = harness("import", "--mteb", folder, "--model", "mine")
    assert refused.code == 2
    assert "holds 2 models" in refused.err.splitlines()[-1]
    alone = folder / "org__encoder" / "11111111aaaa"
    assert json.loads(harness("import", "--mteb", alone, "--model", "mine", "--json").out)[0]["model"] == "mine"
    twin = folder / "again" / "11111111aaaa"
    twin.mkdir(parents=True)
    for file in alone.glob("*.json"):
        (twin / file.name).write_bytes(file.read_bytes())
    done = harness("import", "--mteb", folder)
    assert done.code == 1
    assert "SciFact.json: it is a second result of org/encoder@11111111 on scifact" in done.err
    (alone / "Torn.json").write_text('{"task_name"')
    (alone / "Old.json").write_text('{"mteb_dataset_name": "SciFact", "test": {"ndcg_at_10": 0.5}}')
    write_task(folder, "FiQA2018", model="org/encoder", revision="11111111aaaa", test=[scores(50.0)])
    done = harness("import", "--mteb", alone, "--json")
    assert done.code == 1
    assert [row["dataset"] for row in json.loads(done.out)] == ["scifact"]
    told = [line for line in done.err.splitlines() if line.startswith("skipped")]
    assert len(told) == 3
    for name, reason in (
        ("Torn.json", "not readable JSON"),
        ("Old.json", "it is not a result of MTEB 1.11 or later"),
        ("FiQA2018.json", "its nDCG@10 is 50.0, no share from 0 to 1"),
    ):
        assert [line for line in told if name in line and reason in line], reason


FORUMS = catalogue().groups["cqadupstack"]


def write_forums(folder: Path, model: str, count: int = 12, *, revision: str = "r") -> None:
    for place, forum in enumerate(FORUMS[:count]):
        write_task(folder, tasks()[forum].name, model=model, revision=revision, test=[scores(0.3 + place / 100)])


def test_mtebs_mean_of_a_group_alone_is_the_groups(harness: Any, tmp_path: Path) -> None:
    """For many models MTEB's results hold the aggregate and none of the 12 forums."""
    folder = tmp_path / "theirs"
    write_task(folder, "CQADupstackRetrieval", model="org/alone", revision="r", test=[scores(0.41)])
    write_task(folder, "SciFact", model="org/alone", revision="r", test=[scores(0.61)])
    done = harness("import", "--mteb", folder, "--json")
    assert (done.code, done.err) == (0, "")
    assert {row["dataset"]: row["nDCG@10"] for row in json.loads(done.out)} == {"cqadupstack": 0.41, "scifact": 0.61}
    [average] = json.loads(harness("report", "--format", "json").out)["averages"]
    assert (average["datasets"], average["value"]) == (["cqadupstack", "scifact"], pytest.approx(0.51))
    exported = harness("export", "--format", "mteb", "-o", tmp_path / "out")
    assert "CQADupstackRetrieval.json" in exported.out
    # beside a model with the forums it is in the forums' place, and the suites count it
    write_forums(folder, "org/whole")
    write_task(folder, "SciFact", model="org/whole", revision="r", test=[scores(0.5)])
    for place, dataset in enumerate(catalogue().suites["beir14"]):
        if dataset not in ("scifact", "cqadupstack"):
            for model in ("org/whole", "org/alone"):
                write_task(folder, tasks()[dataset].name, model=model, revision="r", test=[scores(place / 100)])
    assert harness("import", "--mteb", folder).code == 0
    board = read_leaderboard(Path("results"))
    assert "cqadupstack" not in board.datasets
    assert {*FORUMS} <= {*board.datasets}
    suite, group = board.averages
    assert (suite.name, group.name) == ("beir14 (14 of 14)", "cqadupstack (12 of 12)")
    assert group.means["org/alone"].value == 0.41
    assert group.means["org/whole"].value == pytest.approx(0.355)
    apart = suite.means["org/alone"].value - suite.means["org/whole"].value  # type: ignore[operator]
    assert apart == pytest.approx((0.41 - 0.355 + 0.61 - 0.5) / 14)
    for words in ((), ("--suite", "beir14")):
        told = harness("report", *words)
        assert told.code == 0, told.err
        [row] = [line for line in told.out.splitlines() if line.startswith("| org/alone") and "61.00" in line]
        assert "41.00" in row
        assert "missing" not in row
    rows = json.loads(harness("report", "--format", "json").out)["rows"]
    assert [row["dataset"] for row in rows if row["model"] == "org/alone" and "cqa" in row["dataset"]] == [
        "cqadupstack"
    ]


def test_a_mean_that_was_imported_as_a_dataset_is_the_groups(harness: Any, tmp_path: Path) -> None:
    """Earlier versions kept it under its task's name."""
    write_task(tmp_path, "CQADupstackRetrieval", model="org/m", revision="r", test=[scores(0.41)])
    [row] = json.loads(harness("import", "--mteb", tmp_path, "--json").out)
    content = unsealed(stored(Path(row["folder"]))) | {"dataset": "CQADupstackRetrieval"}
    shutil.rmtree(row["folder"])
    ResultStore(Path("results")).write("org/m", content["dataset"], content)
    board = read_leaderboard(Path("results"))
    assert (board.datasets, [*board.cells]) == (("cqadupstack",), [("org/m", "cqadupstack")])
    assert board.skipped == []


@pytest.mark.parametrize("forums", [11, 12])
def test_a_group_is_not_counted_twice(harness: Any, tmp_path: Path, forums: int) -> None:
    write_forums(tmp_path, "org/m", forums)
    write_task(tmp_path, "CQADupstackRetrieval", model="org/m", revision="r", test=[scores(0.355)])
    write_task(tmp_path, "SciFact", model="org/m", revision="r", test=[scores(0.6)])
    done = harness("import", "--mteb", tmp_path, "--json")
    assert (done.code, done.err) == (0, "")
    assert ("cqadupstack" in {row["dataset"] for row in json.loads(done.out)}) == (forums == 11)
    board = read_leaderboard(Path("results"))
    rest, group = board.averages
    assert rest.datasets == ("cqadupstack", "scifact")
    assert (rest.means["org/m"].value, group.means["org/m"].value) == (pytest.approx(0.4775), pytest.approx(0.355))
    assert board.disputed == {}


def test_a_mean_that_is_not_the_groups_is_told(harness: Any, tmp_path: Path) -> None:
    write_forums(tmp_path / "both", "org/m")
    write_task(tmp_path / "both", "CQADupstackRetrieval", model="org/m", revision="r", test=[scores(0.36)])
    done = harness("import", "--mteb", tmp_path / "both")
    assert done.code == 1
    assert "its nDCG@10 is 0.36, but the mean of its 12 parts, which counts, is 0.355000" in done.err
    assert read_leaderboard(Path("results")).averages[0].means["org/m"].value == pytest.approx(0.355)
    # the mean first and the forums later, from two imports
    write_task(tmp_path / "mean", "CQADupstackRetrieval", model="org/late", revision="r", test=[scores(0.36)])
    write_forums(tmp_path / "forums", "org/late")
    for part in ("mean", "forums"):
        assert harness("import", "--mteb", tmp_path / part).code == 0
    board = read_leaderboard(Path("results"))
    assert board.averages[0].means["org/late"].value == pytest.approx(0.355)
    assert [*board.disputed] == [("org/late", "cqadupstack")]
    assert "counts, is 35.5000, the imported one 36.0000" in harness("report").err


def test_translations_of_a_group_are_not_counted_twice_either(harness: Any, tmp_path: Path) -> None:
    for aggregate in TRANSLATED:
        for name in (aggregate, *members(aggregate)):
            write_task(tmp_path, name, model="org/m", revision="r", test=[scores(0.25)])
    write_task(tmp_path, "CQADupstack-NL", model="org/alone", revision="r", test=[scores(0.25)])
    rows = json.loads(harness("import", "--mteb", tmp_path, "--json").out)
    assert len(rows) == 3 * 12 + 1
    assert [row["dataset"] for row in rows if row["model"] == "org/alone"] == ["CQADupstack-NL"]


def test_training_on_a_group_and_on_its_members_is_in_domain(harness: Any, tmp_path: Path) -> None:
    for model, seen in (("a", "CQADupstackRetrieval"), ("b", "CQADupstackTexRetrieval"), ("c", "SciFact")):
        for task in ("CQADupstackRetrieval", "CQADupstackTexRetrieval", "CQADupstackGisRetrieval"):
            write_task(tmp_path, task, model=f"org/{model}", revision="r", test=[scores(0.5)])
        meta = {"name": f"org/{model}", "revision": "r", "training_datasets": [seen]}
        (tmp_path / f"org__{model}" / "r" / "model_meta.json").write_text(json.dumps(meta))
    assert harness("import", "--mteb", tmp_path).code == 0
    cells = read_leaderboard(Path("results")).cells
    found = {key: cells[f"org/{key[0]}", key[1]].in_domain for key in product("abc", FORUM_OR_GROUP)}
    assert {key for key, inside in found.items() if inside} == {
        *(("a", dataset) for dataset in FORUM_OR_GROUP),
        ("b", "cqadupstack"),
        ("b", "cqadupstack/tex"),
    }


FORUM_OR_GROUP = ("cqadupstack", "cqadupstack/tex", "cqadupstack/gis")


def test_the_mean_over_datasets_whose_names_hold_a_slash(harness: Any, tmp_path: Path) -> None:
    """Subsets of MTEB's tasks have such names, which are not paths."""
    write_task(tmp_path, "Other", model="org/m", revision="r", test=[scores(0.2), scores(0.4, "de")])
    assert harness("import", "--mteb", tmp_path).code == 0
    [average] = json.loads(harness("report", "--format", "json").out)["averages"]
    assert (average["datasets"], average["value"]) == (["Other", "Other/de"], pytest.approx(0.3))


@pytest.mark.parametrize(
    "change", [lambda data: data[:-9], lambda data: data[:30], lambda data: b"\x1f\x8b" + data[9:]]
)
def test_a_run_that_cannot_be_read_to_its_end_leaves_nothing(
    change: Any, harness: Any, toy: Path, tmp_path: Path
) -> None:
    (tmp_path / "theirs.run.gz").write_bytes(change(gzip.compress(RUN.encode(), mtime=0)))
    done = harness("import", "--run", tmp_path / "theirs.run.gz", "--model", "theirs", "-d", toy)
    assert done.code == 2
    assert "cannot be read to its end" in done.err
    assert not (tmp_path / "results").exists()
