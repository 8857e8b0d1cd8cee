"""The main command, end to end on twelve documents."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ir_measures
import pandas as pd
import pytest

from tests.conftest import BYTE_COUNTS, ROOT, write_dataset

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")


def cells(folder: Path) -> dict[tuple[str, str], dict]:
    results = [json.loads(file.read_text()) for file in folder.glob("*/*/result.json")]
    return {(r["model"], r["dataset"]): r for r in results}


def test_two_models_end_to_end(harness, toy, home) -> None:
    done = harness("benchmark", "-m", "bm25", "--plugin", BYTE_COUNTS, "-m", "byte-counts", "-d", toy)
    assert done.code == 0, done.err
    assert "bm25" in done.out
    assert "byte-counts" in done.out
    found = cells(Path("results"))
    assert set(found) == {("bm25", "toy"), ("byte-counts", "toy")}
    for (model, _), result in found.items():
        folder = Path("results") / model / "toy"
        run = list(ir_measures.read_trec_run(gzip.decompress((folder / "run.trec.gz").read_bytes()).decode()))
        rows = [line.split("\t") for line in (toy / "qrels" / "test.tsv").read_text().splitlines()[1:]]
        qrels = [ir_measures.Qrel(q, d, int(score)) for q, d, score in rows]
        for name in ("nDCG@10", "R@100", "AP@1000"):
            expected = ir_measures.calc_aggregate([ir_measures.parse_measure(name)], qrels, run)
            assert result["measures"][name] == pytest.approx(next(iter(expected.values())), abs=1e-9)
        per_query = pd.read_parquet(folder / "per_query.parquet")
        assert per_query["nDCG@10"].mean() == pytest.approx(result["measures"]["nDCG@10"], abs=1e-12)
        assert per_query["query_id"].tolist() == ["q1", "q2", "q3", "q4"]
        assert result["counts"] | {"documents": 12, "queries": 4, "judged": 6, "missing": 0} == result["counts"]
        assert result["status"] == "ok"
        assert result["manifest"]["run"]["versions"]["numpy"]
    geometry = found["byte-counts", "toy"]["geometry"]
    assert geometry["documents"]["n"] == 12
    assert geometry["queries"]["n"] == 4
    assert "hubness" in geometry
    assert found["bm25", "toy"]["measures"]["nDCG@10"] > 0.9


def test_finished_cells_are_reused_until_anything_they_depend_on_changes(harness, toy) -> None:
    def run(*more: object) -> str:
        done = harness("benchmark", "-m", "bm25", "-d", toy, "--json", *more)
        assert done.code == 0, done.err
        return json.loads(done.out)[0]["cell"]

    assert run() == "ok"
    before = Path("results/bm25/toy/run.trec.gz").stat().st_mtime_ns
    assert run() == "cached"
    assert Path("results/bm25/toy/run.trec.gz").stat().st_mtime_ns == before
    assert run("--force") == "ok"
    assert run("--measures", "nDCG@5") == "measured"
    assert run("--measures", "nDCG@5") == "cached"
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tlung\t1\n")
    assert run() == "ok"
    corpus = (toy / "corpus.jsonl").read_text()
    (toy / "corpus.jsonl").write_text(corpus.replace("oxygen", "air"))
    assert run() == "ok"
    run_file = Path("results/bm25/toy/run.trec.gz")
    run_file.write_bytes(run_file.read_bytes()[:-1])
    assert run() == "ok"  # a damaged result is not served


def test_limit_and_split_are_results_of_their_own(harness, toy) -> None:
    (toy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\theart\t1\n")
    for more in ([], ["--limit", "2"], ["--split", "dev"]):
        assert harness("benchmark", "-m", "bm25", "-d", toy, *more).code == 0
    found = cells(Path("results"))
    assert {label: r["partial"] for (_, label), r in found.items()} == {
        "toy": False,
        "toy:limit=2": True,
        "toy:split=dev": False,
    }


FAULTY = """
import numpy as np
from harness import ModelSpec, Option, hookimpl

class Faulty:
    dim = 4
    def __init__(self, fault): self.fault = fault
    def encode(self, texts, *, role):
        good = np.ones((len(texts), 4), np.float32)
        if self.fault == "nan": good[-1, 2] = np.nan
        return good

def load(options):
    if options["fault"] == "load": raise OSError("no such device")
    return object() if options["fault"] == "nothing" else Faulty(options["fault"])

@hookimpl
def harness_models():
    yield ModelSpec("faulty", "dense", f"{__name__}:load", "", options={"fault": Option("", "which")})
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "nan": ["batch 1 of document texts", "1 of 12 vectors hold NaN"],
        "load": ["plug-in faulty_models", "no such device"],
        "nothing": ["gave no model with dim and encode"],
    }.items(),
)
def test_a_faulty_encoder_fails_its_cell_and_the_others_go_on(harness, toy, fault, words, tmp_path) -> None:
    plugin = tmp_path / "faulty_models.py"
    plugin.write_text(FAULTY)
    done = harness("benchmark", "--plugin", plugin, "-m", f"faulty:fault={fault}", "-m", "bm25", "-d", toy)
    assert done.code == 1
    assert f"failed: faulty:fault={fault} on toy" in done.err
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err
    found = cells(Path("results"))
    assert found["bm25", "toy"]["status"] == "ok"
    failed = found[f"faulty:fault={fault}", "toy"]
    assert failed["status"] == "failed"
    assert failed["measures"] == {}
    again = harness("benchmark", "--plugin", plugin, "-m", f"faulty:fault={fault}", "-d", toy)
    assert again.code == 1  # a failure is never reused


def test_a_third_partys_package_is_found_and_benchmarked(toy, home, tmp_path) -> None:
    target = tmp_path / "site"
    source = tmp_path / "byte_counts"
    source.mkdir()
    for name in ("pyproject.toml", "byte_counts.py"):
        (source / name).write_bytes((ROOT / "tests" / "third_party" / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    words = [sys.executable, "-m", "harness", "benchmark", "-m", "byte-counts", "-d", str(toy), "--json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["measures"]["nDCG@10"] > 0
    listed = subprocess.run([*words[:3], "models", "--json"], env=environment, capture_output=True, text=True)
    assert {"byte-counts", "bm25"} <= {row["name"] for row in json.loads(listed.stdout)}
    body = [
        line
        for line in BYTE_COUNTS.read_text().splitlines()
        if line.strip() and not line.startswith(('"""', "import", "from"))
    ]
    assert len(body) <= 12


@pytest.mark.parametrize(
    ("name", "marked"), [("forums", True), ("forums/android", True), ("forums-v2", False), ("other/forums", False)]
)
def test_a_model_trained_on_a_group_is_marked_on_its_members(harness, toy, tmp_path, name: str, marked: bool) -> None:
    plugin = tmp_path / "trained_for_test.py"
    source = BYTE_COUNTS.read_text()
    plugin.write_text(source.replace("byte-counts", "trained").replace("summary=", 'trained_on=("forums",), summary='))
    (toy / "dataset.toml").write_text(f'name = "{name}"\n')
    done = harness("benchmark", "--plugin", plugin, "-m", "trained", "-d", toy, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["in_domain"] is marked


def strict(path: Path) -> dict:
    """A JSON file as those read it who know no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
def test_a_corpus_of_one_document(harness, tmp_path, similarity: str) -> None:
    folder = write_dataset(tmp_path / "one", {"d": "the only one"}, {"q": "only"}, [("q", "d", 1)])
    plugin = tmp_path / f"{similarity}_counts.py"
    plugin.write_text(BYTE_COUNTS.read_text().replace('"cosine"', f'"{similarity}"'))
    done = harness("benchmark", "--plugin", plugin, "-m", "byte-counts", "-m", "bm25", "-d", folder, "--json")
    assert done.code == 0, done.err
    for model in ("byte-counts", "bm25"):
        result = strict(Path(f"results/{model}/one/result.json"))
        assert set(result["measures"].values()) == {1.0}
        run = gzip.decompress(Path(f"results/{model}/one/run.trec.gz").read_bytes()).decode()
        assert run.split()[:4] == ["q", "Q0", "d", "1"]
    result = strict(Path("results/byte-counts/one/result.json"))
    for side in ("documents", "queries"):
        panel = result["geometry"][side]
        assert panel["n"] == 1
        undefined = ("isotropy", "isotropy_ceiling", "isoscore", "mean_cosine", "uniformity", "effective_rank")
        assert {panel[figure] for figure in undefined} == {None}
    assert harness("doctor", folder).code == 0
    assert harness("report").code == 0


def test_a_depth_beyond_the_corpus_ranks_all_of_it_once(harness, toy) -> None:
    done = harness("benchmark", "-m", "byte-counts", "--plugin", BYTE_COUNTS, "-d", toy, "--json")
    assert (done.code, json.loads(done.out)[0]["manifest"]["k"]) == (0, 1000)
    ranked: dict[str, list[str]] = {}
    for line in gzip.decompress(Path("results/byte-counts/toy/run.trec.gz").read_bytes()).decode().splitlines():
        ranked.setdefault(line.split()[0], []).append(line.split()[2])
    everything = sorted(json.loads(line)["_id"] for line in (toy / "corpus.jsonl").read_text().splitlines())
    assert {query: sorted(documents) for query, documents in ranked.items()} == dict.fromkeys(ranked, everything)
    assert len(ranked) == 4
    assert json.loads(done.out)[0]["measures"]["R@1000"] == 1.0


def test_windows_line_ends_and_byte_order_marks_change_no_figure(harness, toy) -> None:
    def measured() -> tuple[dict, dict]:
        done = harness("benchmark", "-m", "bm25", "-d", toy, "--json", "--force")
        assert done.code == 0, done.err
        (cell,) = json.loads(done.out)
        return cell["measures"], cell["counts"]

    before = measured()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (toy / name).write_bytes(b"\xef\xbb\xbf" + (toy / name).read_bytes().replace(b"\n", b"\r\n"))
    assert measured() == before


def test_float16_storage_is_a_row_of_its_own_made_from_what_is_stored(harness, toy, home) -> None:
    words = ["benchmark", "--plugin", BYTE_COUNTS, "-m", "byte-counts", "-m", "rrf(bm25,byte-counts)", "-d", toy]
    assert harness(*words).code == 0
    done = harness(*words, "--storage", "float16", "--memory", "64MB", "--search-device", "cpu")
    assert done.code == 0, done.err
    found = cells(Path("results"))
    half = found["byte-counts:storage=float16", "toy"]
    assert ("rrf(bm25,byte-counts:storage=float16)", "toy") in found
    assert half["manifest"]["model"]["storage"] == "float16"
    assert half["manifest"]["run"]["search"] == {"memory": 64_000_000, "device": "cpu"}
    assert half["manifest"]["key"] != found["byte-counts", "toy"]["manifest"]["key"]
    # Counts of letters are exact in float16, so everything else is equal.
    assert half["measures"] == found["byte-counts", "toy"]["measures"]
    kept = {file.parent.name for file in home.glob("vectors/*/*/*.npy")}
    assert kept == {"document", "document-float16", "query"}
    assert len({file.parents[1] for file in home.glob("vectors/*/*/*.npy")}) == 1


def test_limits_that_cannot_be_kept_are_one_sentence(harness, toy) -> None:
    words = ["benchmark", "--plugin", BYTE_COUNTS, "-m", "byte-counts", "-d", toy]
    for given, said in (("little", "write it as in 512MB or 2GB"), ("1kB", "allow more: --memory ")):
        done = harness(*words, "--memory", given)
        assert done.code == 2
        assert said in done.err
        assert not list(Path("results").glob("*/*/result.json"))


def test_an_index_is_said_to_be_made_only_when_it_is(harness, toy) -> None:
    words = ["benchmark", "-m", "bm25", "-d", toy, "--force"]
    assert "indexing toy with bm25" in harness(*words).err
    assert "indexing" not in harness(*words).err


def test_a_list_of_datasets_is_several(harness, toy, tmp_path) -> None:
    shutil.copytree(toy, tmp_path / "other")
    shutil.copytree(toy, tmp_path / "a,b")
    done = harness("benchmark", "-m", "bm25", "-d", "./toy, other", "-d", "a,b", "--json")
    assert [cell["dataset"] for cell in json.loads(done.out)] == ["toy", "other", "a,b"]
    wrong = harness("benchmark", "-m", "bm25", "-d", "toy,pydoc")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no dataset 'pydoc'; did you mean pydocs" in wrong.err
