"""``harness verify``: results that are right, tampered with, or of data that changed since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.reproduce import FLOOR, FLOOR_16_BIT, verify
from harness.storage.atomic import sha256_file
from tests.conftest import BYTE_COUNTS, Done, write_dataset
from tests.runs import write_checkpoint

Harness = Callable[..., Done]
CALLS = """
from pathlib import Path
import numpy as np
from harness import ModelSpec, Option, hookimpl

class Model:
    dim = 8
    def encode(self, texts, *, role):
        with Path("calls").open("a") as calls:
            print(role, len(texts), file=calls)
        return np.array([[len(t) % (n + 2) for n in range(8)] for t in texts], np.float32)

def load(options):
    return Model()

@hookimpl
def harness_models():
    yield ModelSpec(name="counted", kind="dense", load=f"{__name__}:load", summary="", options={"x": Option(1, "")})
"""


def bench(harness: Harness, *words: object) -> None:
    done = harness("benchmark", *words)
    assert done.code == 0, done.err


def verified(harness: Harness, *words: object, code: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
    done = harness("verify", *words, "--json")
    assert done.code == code, done.out + done.err
    return {(row["model"], row["dataset"]): row for row in json.loads(done.out)}


def change(folder: str | Path, **measures: float) -> None:
    """Sets figures in a result.json."""
    path = Path(folder) / "result.json"
    result = json.loads(path.read_text())
    result["measures"] |= measures
    path.write_text(json.dumps(result))


def as_of_another_machine(folder: Path, shift: float, **fingerprint: str) -> None:
    """As if it had been computed elsewhere: other versions, another run, and nDCG@10 off by a little."""
    run, path = folder / "run.trec.gz", folder / "result.json"
    run.write_bytes(run.read_bytes() + b"\0")
    result = json.loads(path.read_text())
    result["measures"]["nDCG@10"] += shift
    result["manifest"]["files"][run.name] = sha256_file(run)
    result["manifest"]["run"]["versions"]["numpy"] = "1.0"
    result["manifest"]["model"]["fingerprint"] |= fingerprint
    path.write_text(json.dumps(result))


def test_what_is_right_is_ok_whatever_way_it_was_asked_for(harness: Harness, toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
    (toy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\theart\t1\n")
    (tmp_path / "counted.py").write_text(CALLS)
    plugin = ("--plugin", BYTE_COUNTS, "--plugin", tmp_path / "counted.py")
    checkpoint = write_checkpoint(tmp_path / "tiny")
    models = ("bm25:k1=1.2", "counted:x=3", "rrf(bm25:b=0.2,byte-counts):k=20", checkpoint)
    bench(harness, *(word for model in models for word in ("-m", model)), "-d", toy, *plugin)
    bench(harness, "-m", "bm25", "-d", toy, "--split", "dev", "--measures", "nDCG@5 P@1")
    bench(harness, "-m", "byte-counts", "-d", toy, "--limit", 2, "--exclude-self", "--storage", "float16", *plugin[:2])
    bench(harness, "-m", "byte-counts", "-d", toy, "--index", "HNSW8", *plugin[:2])
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    found = verified(harness, "results", *plugin)
    assert len(found) == len([*Path("results").rglob("result.json")]) == 8
    for row in found.values():
        assert (row["verdict"], row["reason"]) == ("OK", "run byte-identical"), row
        assert not [line for line in row["differs"] if not line.startswith("run.")], row
        assert all(figure["difference"] == 0 for figure in row["figures"].values())
    assert {name for row in found.values() for name in row["figures"]} > {"nDCG@5", "P@1", "R@1000", "isotropy"}
    assert before == {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    assert not [*Path("home").glob("verify-*")]
    table = harness("verify", "results/bm25", *plugin).out
    assert "| OK " in table


def test_vectors_are_computed_anew_unless_told_otherwise(harness: Harness, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(CALLS)
    words = ("--plugin", tmp_path / "counted.py")
    bench(harness, "-m", "counted", "-d", toy, *words)
    calls = Path("calls").read_text()
    verified(harness, "results", "--reuse", *words)
    assert Path("calls").read_text() == calls
    verified(harness, "results/counted/toy/result.json", *words)
    assert Path("calls").read_text() == 2 * calls
    for vectors in Path("home").rglob("*.npy"):
        vectors.write_bytes(vectors.read_bytes()[:-4] + b"\1\2\3\4")
    assert [row["verdict"] for row in verified(harness, "results", *words).values()] == ["OK"]


def test_figures_that_were_tampered_with_fail(harness: Harness, toy: Path) -> None:
    bench(harness, "-m", "bm25", "-d", toy)
    old = json.loads(Path("results/bm25/toy/result.json").read_text())["measures"]["R@100"]
    change("results/bm25/toy", **{"R@100": old - 0.0001})
    [row] = verified(harness, "results", code=1).values()
    assert row["verdict"] == "FAIL"
    assert "the run is the same to the byte" in row["reason"]
    assert row["figures"]["R@100"]["difference"] == pytest.approx(0.0001)
    done = harness("verify", "results")
    [line] = [line for line in done.out.splitlines() if "FAIL" in line]
    assert "R@100" in line
    assert "+0.0001" in line


def test_files_that_were_tampered_with_fail(harness: Harness, toy: Path) -> None:
    bench(harness, "-m", "bm25", "-d", toy)
    file = Path("results/bm25/toy/per_query.parquet")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    [row] = verified(harness, "results", code=1).values()
    assert (row["verdict"], "per_query.parquet changed" in row["reason"]) == ("FAIL", True)
    file.unlink()
    [row] = verified(harness, "results").values()
    assert row["verdict"] == "OK"
    assert "per_query.parquet is missing beside its result.json" in row["differs"]


@pytest.mark.parametrize(
    ("fingerprint", "shift", "verdict"),
    [
        ({}, 0.9 * FLOOR, "OKish"),
        ({}, -1.1 * FLOOR, "FAIL"),
        ({"dtype": "bfloat16"}, 0.0, "OK"),
        ({"dtype": "bfloat16"}, 0.9 * FLOOR, "FAIL"),
    ],
)
def test_small_differences_are_noise_where_nothing_that_decides_differs(
    harness: Harness, toy: Path, fingerprint: dict[str, str], shift: float, verdict: str
) -> None:
    bench(harness, "-m", "bm25", "-d", toy)
    as_of_another_machine(Path("results/bm25/toy"), shift, **fingerprint)
    [row] = verified(harness, "results", code=int(verdict == "FAIL")).values()
    assert row["verdict"] == verdict
    assert any(line.startswith("run.versions.numpy: 1.0 -> ") for line in row["differs"])
    assert row["floor"] == (0 if fingerprint else FLOOR)
    if fingerprint:
        assert "model.fingerprint.dtype: bfloat16 -> null" in row["differs"]


@pytest.mark.parametrize("place", [("fingerprint",), ("members", 0, "fingerprint")])
def test_sixteen_bits_have_a_floor_of_their_own(place: tuple[Any, ...]) -> None:
    model: dict[str, Any] = {"fingerprint": {}, "members": [{"fingerprint": {}}]}
    part = model
    for key in place:
        part = part[key]
    part["dtype"] = "bfloat16"

    def result(score: float) -> dict[str, Any]:
        manifest = {"model": model, "dataset": {}, "k": 1000, "run": {}}
        return {"model": "m", "dataset": "d", "measures": {"nDCG@10": score}, "geometry": {}, "manifest": manifest}

    for shift, verdict in ((0.0, "OK"), (0.9 * FLOOR_16_BIT, "OKish"), (1.1 * FLOOR_16_BIT, "FAIL")):
        assert verify(Path("nowhere"), result(0.5), result(0.5 + shift)).verdict == verdict


def test_a_dataset_that_changed_is_named(harness: Harness, toy: Path) -> None:
    bench(harness, "-m", "bm25", "-d", toy)
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tlung\t1\nq2\trust\t1\n")
    [row] = verified(harness, "results", code=1).values()
    assert row["verdict"] == "FAIL"
    assert any(line.startswith("dataset.fingerprint.qrels: ") for line in row["differs"])
    assert row["reason"].startswith("another experiment: dataset.fingerprint.queries")


def test_a_model_that_changed_is_named(harness: Harness, toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
    checkpoint = write_checkpoint(tmp_path / "tiny")
    bench(harness, "-m", checkpoint, "-d", toy)
    shutil.rmtree(checkpoint)
    write_checkpoint(tmp_path / "tiny", seed=5)
    [row] = verified(harness, "results", code=1).values()
    assert any("model.fingerprint.files.model.safetensors" in line for line in row["differs"])
    shutil.rmtree(checkpoint)
    done = harness("verify", "results")
    assert done.code == 2
    assert (
        f"tiny@{row['model'][-6:]} on toy cannot be run: {checkpoint} is not a sentence-transformers folder" in done.err
    )


def test_what_is_not_found_is_exit_2_and_the_rest_is_verified(harness: Harness, toy: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", {"a": "red", "b": "blue"}, {"q": "red"}, [("q", "a", 1)])
    bench(harness, "-m", "bm25", "-m", "byte-counts", "--plugin", BYTE_COUNTS, "-d", toy, "-d", other)
    moved = tmp_path / "elsewhere" / "other"
    moved.parent.mkdir()
    other.rename(moved)
    done = harness("verify", "results")
    assert done.code == 2
    assert f"the dataset 'other' is not here (it was read from {other}); say where it is with -d path/to" in done.err
    assert "byte-counts on toy cannot be run: There is no model 'byte-counts'" in done.err
    assert done.out.count("| OK ") == 1
    found = verified(harness, "results", "-d", moved, "--plugin", BYTE_COUNTS)
    assert len(found) == 4
    assert {row["verdict"] for row in found.values()} == {"OK"}
    assert harness("verify", "nowhere").code == 2
    (tmp_path / "empty").mkdir()
    assert "There is no result.json below" in harness("verify", tmp_path / "empty").err


def test_unreadable_and_unfinished_results_are_named(harness: Harness, toy: Path) -> None:
    bench(harness, "-m", "bm25", "-d", toy)
    content = Path("results/bm25/toy/result.json").read_text()
    for name, spoilt in (
        ("torn", content[:100]),
        ("broken", content.replace('"status": "ok"', '"status": "failed"')),
        ("foreign", json.dumps(json.loads(content) | {"manifest": {"model": "bm25"}})),
    ):
        shutil.copytree("results/bm25", Path("results") / name)
        (Path("results") / name / "toy" / "result.json").write_text(spoilt)
    done = harness("verify", "results")
    assert done.code == 1
    assert "foreign/toy/result.json: its model should be a JSON object" in done.err
    assert "torn/toy/result.json: it is not readable JSON" in done.err
    assert "note: bm25 on toy was not finished" in done.err
    assert done.out.count("| OK ") == 1


def test_a_cell_that_fails_now_is_a_fail(harness: Harness, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "counted.py"
    plugin.write_text(CALLS)
    bench(harness, "-m", "counted", "-d", toy, "--plugin", plugin)
    plugin.write_text(CALLS.replace("        with Path", "        raise OSError('worn out')\n        with Path"))
    [row] = verified(harness, "results", "--plugin", plugin, code=1).values()
    assert row["verdict"] == "FAIL"
    assert "worn out" in row["reason"]
