"""What a stored result is replaced by (the same question, asked again) and what is added to it (metrics)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.results.store import read_result
from harness.storage.records import SEAL, seal
from tests.conftest import BYTE_COUNTS, Done, write_dataset

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

Run = Callable[..., Done]
DENSE = ("--plugin", BYTE_COUNTS, "-m", "byte-counts")
USUAL = {"nDCG@10", "R@100", "R@1000", "AP@1000", "RR@10", "Judged@10"}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another dataset in a folder of the same name."""
    return write_dataset(tmp_path / "elsewhere" / "toy", {"d": "bread", "e": "moon"}, {"q": "bread"}, [("q", "d", 1)])


def statuses(harness: Run, *words: object) -> list[str]:
    done = harness("benchmark", *words, "--json")
    assert done.code == 0, done.err
    return [cell["cell"] for cell in json.loads(done.out)]


def refused(harness: Run, *words: object) -> str:
    done = harness(*words)
    assert (done.code, done.out) == (2, ""), done
    [sentence] = [line for line in done.err.splitlines() if line.startswith("harness: ")]
    return sentence


def stored(place: str) -> dict[str, Any]:
    found = read_result(Path("results") / place)
    assert isinstance(found, dict), found
    return found


def digests(place: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (Path("results") / place).iterdir()}


def rewritten(place: str, change: Callable[[dict[str, Any]], object]) -> None:
    """A result that says something else, with the right checksum."""
    path = Path("results") / place / "result.json"
    content = json.loads(path.read_text())
    del content[SEAL]
    change(content)
    path.write_text(json.dumps(seal(content)))


# --- another dataset of the same name


@pytest.mark.parametrize("more", [(), ("--force",), ("--executor", "processes", "--workers", "1")])
def test_another_datasets_result_is_not_replaced(harness: Run, toy: Path, other: Path, more: tuple[str, ...]) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    before = digests("bm25/toy")
    told = refused(harness, "benchmark", "-m", "bm25:k1=1.2", "-m", "bm25", "-d", other, *more)
    assert "holds the result of bm25 on another dataset called 'toy'" in told
    assert str(toy) in told
    assert str(other) in told
    assert 'name = "..."' in told
    assert "--results" in told
    assert digests("bm25/toy") == before
    assert not Path("results/bm25:k1=1.2").exists()
    assert len(list(Path("results").iterdir())) == 1  # before any work
    assert statuses(harness, "-m", "bm25", "-d", other, "--results", "others") == ["ok"]
    (other / "dataset.toml").write_text('name = "mine"\n')
    assert statuses(harness, "-m", "bm25", "-d", other) == ["ok"]
    assert digests("bm25/toy") == before


def test_the_same_dataset_may_be_edited_and_moved(harness: Run, toy: Path, tmp_path: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    moved = shutil.copytree(toy, tmp_path / "moved" / "toy")
    assert statuses(harness, "-m", "bm25", "-d", moved) == ["cached"]  # the same content, wherever it lies
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tlung\t1\n")
    done = harness("benchmark", "-m", "bm25", "-d", toy)
    assert done.code == 0
    assert "note: bm25 on toy: the dataset has changed; the stored result is replaced" in done.err
    assert stored("bm25/toy")["counts"]["queries"] == 1
    told = refused(harness, "benchmark", "-m", "bm25", "-d", moved)
    assert "another dataset called 'toy'" in told


def test_a_changed_model_replaces_its_result_with_a_note(harness: Run, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "changing.py"
    plugin.write_text(BYTE_COUNTS.read_text())
    words = ("benchmark", "-m", "byte-counts", "--plugin", plugin, "-d", toy)
    assert "replaced" not in harness(*words).err
    before = stored("byte-counts/toy")["manifest"]["key"]
    plugin.write_text(BYTE_COUNTS.read_text() + "\n# another version\n")
    done = harness(*words)
    assert done.code == 0
    assert "note: byte-counts on toy: the model has changed; the stored result is replaced" in done.err
    assert stored("byte-counts/toy")["manifest"]["key"] != before


def test_a_registered_dataset_is_not_a_folder_of_its_name(harness: Run, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "registered.py"
    plugin.write_text(
        "import shutil\nfrom harness import DatasetSpec, hookimpl\n"
        f"def build(folder):\n    shutil.copytree({str(toy)!r}, folder, dirs_exist_ok=True)\n"
        "@hookimpl\ndef harness_datasets():\n    yield DatasetSpec('toy', 'made here', build=f'{__name__}:build')\n"
    )
    assert statuses(harness, "-m", "bm25", "-d", "toy", "--plugin", plugin) == ["ok"]
    assert stored("bm25/toy")["manifest"]["dataset"]["source"] == "toy"
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["cached"]
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tlung\t1\n")
    assert "another dataset called 'toy' (toy)" in refused(harness, "benchmark", "-m", "bm25", "-d", toy)


@pytest.mark.parametrize("typed", ["itself", "another folder"])
def test_of_a_result_without_a_source_the_command_tells(harness: Run, toy: Path, other: Path, typed: str) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    command = f"harness benchmark -m bm25 -d {toy if typed == 'another folder' else other}"
    rewritten("bm25/toy", lambda result: [result["manifest"]["dataset"].pop("source"), result.update(command=command)])
    if typed == "itself":
        assert statuses(harness, "-m", "bm25", "-d", other) == ["ok"]
    else:
        assert "(made by an earlier version)" in refused(harness, "benchmark", "-m", "bm25", "-d", other)


def test_imported_results_are_kept_apart_from_measured_ones(
    harness: Run, toy: Path, other: Path, tmp_path: Path
) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy, "--results", "apart") == ["ok"]
    run = Path("apart/bm25/toy/run.trec.gz")
    assert harness("import", "--run", run, "-m", "bm25", "-d", toy).code == 0
    before = digests("bm25/toy")
    assert "holds an imported result of bm25 on toy" in refused(harness, "benchmark", "-m", "bm25", "-d", toy)
    theirs = tmp_path / "theirs.run"
    theirs.write_text("q Q0 d 1 1.0 them\n")
    told = refused(harness, "import", "--run", theirs, "-m", "bm25", "-d", other)
    assert "another dataset called 'toy'" in told
    assert digests("bm25/toy") == before


# --- metrics are added


@pytest.mark.parametrize("executor", [(), ("--executor", "processes", "--workers", "1")])
def test_metrics_are_added_from_the_stored_run(harness: Run, home: Path, toy: Path, executor: tuple[str, ...]) -> None:
    words = (*DENSE, "-m", "bm25", "-m", "rrf(bm25,byte-counts)", "--index", "Flat", "-d", toy)
    assert statuses(harness, *words, *executor) == ["ok"] * 4
    places = [f"{folder.parent.name}/{folder.name}" for folder in sorted(Path("results").glob("*/*"))]
    before = {place: (digests(place), stored(place)) for place in places}
    for cache in ("vectors", "indexes", "faiss"):
        shutil.rmtree(home / cache)
    assert statuses(harness, *words, *executor, "--measures", "P@5 nDCG@10") == ["measured"] * 4
    assert not [cache for cache in ("vectors", "indexes", "faiss") if (home / cache).exists()]  # nothing was searched
    for place in places:
        files, result = before[place]
        now = stored(place)
        assert list(now["measures"]) == [*result["measures"], "P@5"]
        assert {name: now["measures"][name] for name in result["measures"]} == result["measures"]
        assert digests(place)["run.trec.gz"] == files["run.trec.gz"]
        frame = pd.read_parquet(Path("results") / place / "per_query.parquet")
        assert list(frame.columns) == ["query_id", "query", "relevant", *now["measures"]]
        assert frame["P@5"].mean() == pytest.approx(now["measures"]["P@5"], abs=1e-15)
        assert now["manifest"]["run"]["measured"][0]["measures"] == ["P@5"]
        if "index" in now:
            assert now["index"]["exact"].keys() == now["index"]["cost"].keys() == now["measures"].keys()
            assert now["index"]["cost"]["P@5"] == 0
    assert statuses(harness, *words, *executor) == ["cached"] * 4
    assert statuses(harness, *words, *executor, "--measures", "P@5 R@100") == ["cached"] * 4


def test_added_metrics_are_those_of_a_run_that_had_them_from_the_start(harness: Run, toy: Path) -> None:
    words = (*DENSE, "-m", "bm25", "--index", "Flat", "-d", toy)
    more = "P@5 nDCG@3 Rprec P(rel=2)@3 Bpref IPrec@0.5 Success@1"
    for measures in ("nDCG@10", more):
        assert harness("benchmark", *words, "--measures", measures, "--results", "one").code == 0
    assert harness("benchmark", *words, "--measures", f"nDCG@10 {more}", "--results", "two").code == 0
    for place in ("bm25/toy", "byte-counts/toy"):
        one, two = (read_result(Path(root) / place) for root in ("one", "two"))
        assert isinstance(one, dict)
        assert isinstance(two, dict)
        assert one["measures"] == two["measures"]
        assert one["manifest"]["key"] == two["manifest"]["key"]
        files = [(Path(root) / place / "per_query.parquet").read_bytes() for root in ("one", "two")]
        assert files[0] == files[1]


def test_computed_again_no_metric_is_lost(harness: Run, toy: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "P@5") == ["measured"]
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "P@3", "--force") == ["ok"]
    assert stored("bm25/toy")["measures"].keys() == USUAL | {"P@5", "P@3"}
    assert statuses(harness, "-m", "bm25", "-d", toy, "--force") == ["ok"]
    assert stored("bm25/toy")["measures"].keys() == USUAL | {"P@5", "P@3"}


@pytest.mark.parametrize("file", ["run.trec.gz", "per_query.parquet"])
def test_nothing_is_added_to_a_damaged_result(harness: Run, toy: Path, file: str) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    path = Path("results/bm25/toy") / file
    path.write_bytes(path.read_bytes()[:-1])
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "P@5") == ["ok"]


def test_results_of_earlier_versions_are_found(harness: Run, toy: Path) -> None:
    """Their key holds the list of metrics."""
    from harness.datasets.beir import open_dataset
    from harness.evaluation.pipeline import Settings, cell_key
    from harness.models.runner import Prepared
    from harness.registry.manager import load_registry
    from harness.results.store import ResultStore

    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    with open_dataset(toy, cache=Path("cache")) as dataset:
        settings = Settings(Path("home"), ResultStore(Path("results")))
        model = Prepared(load_registry().model("bm25"), Path("home"))
        older = cell_key(model, dataset, settings, measures=list(stored("bm25/toy")["measures"]))
    rewritten("bm25/toy", lambda result: result["manifest"].update(key=older))
    before = digests("bm25/toy")
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["cached"]
    assert digests("bm25/toy") == before
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "P@5") == ["measured"]
    assert stored("bm25/toy")["measures"].keys() == USUAL | {"P@5"}
    rewritten("bm25/toy", lambda result: result["manifest"].update(key=older))  # of other metrics than it holds
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]


def test_a_stored_run_is_measured_although_its_model_fails_now(toy: Path, tmp_path: Path) -> None:
    from harness.datasets.beir import open_dataset
    from harness.evaluation.pipeline import Settings, cells
    from harness.models.runner import Prepared
    from harness.registry.manager import load_registry
    from harness.results.store import ResultStore

    model, results = Prepared(load_registry().model("bm25"), tmp_path / "home"), ResultStore(tmp_path / "results")
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        ended = [
            (cell.status, cell.reason)
            for measures, fault in ((("nDCG@10",), ""), (("P@5",), "no luck"))
            for cell in cells(model, dataset, Settings(tmp_path / "home", results, measures), fault)
        ]
    assert ended == [("ok", ""), ("measured", "")]


def test_a_metric_that_was_defined_otherwise_is_computed_again(harness: Run, toy: Path) -> None:
    words = ("benchmark", "-m", "bm25", "-d", toy, "--measures", "nDCG@10 NumRel", "--json")
    assert harness(*words).code == 0
    file, right = Path("results/bm25/toy/result.json"), stored("bm25/toy")["measures"]
    content = json.loads(file.read_text())
    content["measures"] |= {"NumRel": 99.0, "nDCG@10": 0.125}
    content["manifest"]["run"]["versions"]["retrieval-harness"] = "0.1.0"
    file.write_text(json.dumps(seal({key: value for key, value in content.items() if key != SEAL})))
    for status in ("measured", "cached"):
        [cell] = json.loads(harness(*words).out)
        assert cell["cell"] == status
        assert cell["measures"] == {"nDCG@10": 0.125, "NumRel": right["NumRel"]}


def test_what_was_added_is_verified_and_exported(harness: Run, toy: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "P@5") == ["measured"]
    done = harness("verify", "results/bm25/toy", "--json")
    assert done.code == 0, done.err
    [verified] = json.loads(done.out)
    assert verified["verdict"] == "OK"
    assert "P@5" in verified["figures"]
    assert harness("export", "--format", "mteb", "-o", "mteb").code == 0
    [task] = Path("mteb").rglob("toy.json")
    [scores] = json.loads(task.read_text())["scores"]["test"]
    assert {"ndcg_at_10", "precision_at_5"} <= scores.keys()


def test_metrics_are_added_to_an_imported_run(harness: Run, toy: Path, tmp_path: Path) -> None:
    run = tmp_path / "theirs.run"
    run.write_text("q1 Q0 heart 1 2.0 them\nq2 Q0 moon 1 2.0 them\nq3 Q0 bread 1 2.0 them\nq4 Q0 mars 1 1.0 them\n")
    words = ("import", "--run", run, "-m", "theirs", "-d", toy)
    assert harness(*words).code == 0
    before = stored("theirs/toy")["measures"]
    assert harness(*words, "--measures", "P@1 AP").code == 0
    now = stored("theirs/toy")["measures"]
    assert now == before | {"P@1": 0.75, "AP": now["AP"]}
    assert harness(*words).code == 0
    assert stored("theirs/toy")["measures"] == now
    run.write_text("q1 Q0 lung 1 2.0 them\n")  # another run
    assert harness(*words).code == 0
    assert stored("theirs/toy")["measures"].keys() == before.keys()


# --- a query's own document


def test_leaving_out_the_own_document_is_a_result_of_its_own_where_it_is_unusual(harness: Run, toy: Path) -> None:
    (toy / "queries.jsonl").write_text('{"_id": "rust", "text": "Rust programming language ownership"}\n')
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nrust\tpython\t1\n")
    for flags in ((), ("--include-self",), ("--exclude-self",)):
        assert harness("benchmark", "-m", "bm25", "-d", toy, *flags).code == 0
    labels = {path.name: stored(f"bm25/{path.name}") for path in Path("results/bm25").iterdir()}
    assert {name: result["measures"]["RR@10"] for name, result in labels.items()} == {
        "toy": 0.5,
        "toy+exclude_self=true": 1.0,
    }
    assert labels["toy+exclude_self=true"]["dataset"] == "toy:exclude_self=true"
    assert labels["toy+exclude_self=true"]["manifest"]["dataset"]["unusual"] == ["exclude_self"]
    done = harness("verify", "results", "--json")
    assert [each["verdict"] for each in json.loads(done.out)] == ["OK", "OK"]
    (toy / "dataset.toml").write_text("exclude_self = true\n")
    assert statuses(harness, "-m", "bm25", "-d", toy, "--split", "test", "--include-self", "--results", "r") == ["ok"]
    assert [path.name for path in Path("r/bm25").iterdir()] == ["toy+exclude_self=false"]
    assert statuses(harness, "-m", "bm25", "-d", toy, "--exclude-self", "--results", "r") == ["ok"]
    assert sorted(path.name for path in Path("r/bm25").iterdir()) == ["toy", "toy+exclude_self=false"]


def test_what_an_earlier_version_kept_under_the_plain_name_is_not_replaced(harness: Run, toy: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy) == ["ok"]

    def earlier(result: dict[str, Any]) -> None:
        """As `--exclude-self` left it."""
        record = result["manifest"]["dataset"]
        record.pop("source")
        record["exclude_self"] = record["fingerprint"]["exclude_self"] = True
        result["command"] = f"harness benchmark -m bm25 -d {toy} --exclude-self"

    rewritten("bm25/toy", earlier)
    assert "made by an earlier version" in refused(harness, "benchmark", "-m", "bm25", "-d", toy)


# --- depth


def test_metrics_deeper_than_the_run_are_refused(harness: Run, tmp_path: Path) -> None:
    documents = {f"d{n}": f"word{n} common" for n in range(1200)}
    folder = write_dataset(tmp_path / "large", documents, {"q": "common word7"}, [("q", "d7", 1), ("q", "d1", 1)])
    words = ("benchmark", "-m", "bm25", "-d", folder)
    told = refused(harness, *words, "--measures", "nDCG@10 R@5000")
    assert "R@5000 looks at 5,000 documents for each query, but a run on large is 1,000 deep" in told
    assert "type R@1000, or keep more documents: --depth 1200" in told
    for name in ("AP", "nDCG", "RR", "AP(rel=2)"):
        told = refused(harness, *words, "--measures", name)
        assert f"{name} has no cutoff: it looks at all of the 1,200 documents" in told
        assert f"type {name}@1000, or keep more documents: --depth 1200" in told
    assert not Path("results").exists() or not any(Path("results").iterdir())
    assert "--depth" in refused(harness, "plan", "-m", "bm25", "-d", folder, "--measures", "AP")
    done = harness(*words, "--measures", "AP R@5000 R@1000", "--depth", "1200", "--json")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    assert (cell["model"], cell["manifest"]["k"]) == ("bm25|depth=1200", 1200)
    assert cell["measures"]["R@5000"] == 1.0
    assert cell["measures"]["R@1000"] < 1.0  # d1 ties with all but d7, and ties go by falling id
    assert harness(*words).code == 0
    assert {stored(f"{path.parent.name}/{path.name}")["model"] for path in Path("results").glob("*/*")} == {
        "bm25",
        "bm25|depth=1200",
    }
    done = harness("verify", "results", "--json")
    assert [each["verdict"] for each in json.loads(done.out)] == ["OK", "OK"]
    done = harness(*words, "--measures", "Bpref Rprec nDCG@10")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if "no cutoff" in line] == [
        "note: Bpref has no cutoff: it is over runs 1,000 deep, and large has 1,200 documents"
    ]


def test_a_small_corpus_is_ranked_whole(harness: Run, toy: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy, "--measures", "AP R@5000 nDCG RR") == ["ok"]
    assert stored("bm25/toy")["measures"]["R@5000"] == 1.0


def test_a_shallow_run_has_the_metrics_that_it_is_deep_enough_for(harness: Run, toy: Path) -> None:
    assert statuses(harness, "-m", "bm25", "-d", toy, "--depth", "10") == ["ok"]
    [place] = Path("results").glob("bm25*10*/toy")
    assert stored(f"{place.parent.name}/toy")["measures"].keys() == {"nDCG@10", "RR@10", "Judged@10"}
