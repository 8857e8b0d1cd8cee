"""A vector of length 0 has cosine 0 with everything: in every kind of row, in exports, and in stored cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.ranking import read_run
from harness.results.store import slug
from harness.storage.records import seal, unsealed
from tests.conftest import Done, write_dataset

faiss = pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

PLUGIN = """
import numpy as np
from harness import ModelSpec, hookimpl


class Numbers:
    dim = 2

    def encode(self, texts, *, role):
        return np.array([[float(one) for one in (text or "0 0").split()] for text in texts], np.float32)


def load(options):
    return Numbers()


@hookimpl
def harness_models():
    for name in ("numbers", "others"):
        yield ModelSpec(name, "dense", f"{__name__}:load", "a text is its vector", similarity="cosine")
"""
DOCUMENTS = {"same": "5 0", "near": "1 2", "zero": "", "right": "0 3", "away": "-1 2", "null": "0 0"}
"""Of cosine 1, 0.447, 0, 0, -0.447 and 0 with the query."""
RANKED = ["same", "near", "zero", "right", "null", "away"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "typed_vectors.py").write_text(PLUGIN)
    return write_dataset(
        tmp_path / "folder", DOCUMENTS, {"q": "2 0", "nothing": "0 0"}, [("q", "near", 1), ("nothing", "null", 1)]
    )


@pytest.mark.parametrize(
    "words",
    [["--index", "Flat"], ["--storage", "float16"], ["--executor", "processes", "--workers", "2"]],
    ids=["exact and index", "float16", "processes"],
)
def test_rows_of_every_kind(words: list[str], folder: Path, harness: Callable[..., Done], tmp_path: Path) -> None:
    done = harness(
        "benchmark", "-m", "numbers", *words, "-d", folder, "--plugin", tmp_path / "typed_vectors.py", "--json"
    )
    assert done.code == 0, done.err
    for row in json.loads(done.out):
        assert row["measures"]["nDCG@10"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / 2)
        first, second = read_run(tmp_path / "results" / slug(row["model"]) / "folder" / "run.trec.gz")
        assert first.doc_ids == RANKED
        cosines = [1 - score**2 / 2 for score in first.scores.astype(float).tolist()]
        assert cosines == pytest.approx([1, 5**-0.5, 0, 0, 0, -(5**-0.5)], abs=1e-6)
        assert second.doc_ids == sorted(DOCUMENTS, reverse=True)
        assert second.scores.tolist() == pytest.approx([-(2**0.5)] * len(DOCUMENTS))


def test_a_fusion_takes_them_so(folder: Path, harness: Callable[..., Done], tmp_path: Path) -> None:
    done = harness("benchmark", "-m", "linear(numbers,others)", "-d", folder, "--plugin", tmp_path / "typed_vectors.py")
    assert done.code == 0, done.err
    first, _ = read_run(tmp_path / "results" / slug("linear(numbers,others)") / "folder" / "run.trec.gz")
    assert first.doc_ids == RANKED


def test_an_exported_index_has_them_so(folder: Path, harness: Callable[..., Done], tmp_path: Path) -> None:
    words = ["-m", "numbers", "-d", folder, "--plugin", tmp_path / "typed_vectors.py", "-o", tmp_path / "served"]
    assert harness("index", "export", *words).code == 0
    about = json.loads((tmp_path / "served" / "about.json").read_text())
    assert about["values"] == "cosine, 0 for a zero vector; greater is better"
    values, _ = faiss.read_index(str(tmp_path / "served" / "index.faiss")).search(np.float32([[1, 0]]), 6)
    assert values[0].tolist() == pytest.approx([1, 5**-0.5, 0, 0, 0, -(5**-0.5)], abs=1e-6)


@pytest.mark.parametrize("zeros", [True, False])
def test_a_stored_cell_of_0_1_is_computed_again_if_zero_vectors_were_in_it(
    zeros: bool, folder: Path, harness: Callable[..., Done], tmp_path: Path
) -> None:
    if not zeros:
        write_dataset(folder, {"same": "5 0", "near": "1 2"}, {"q": "2 0"}, [("q", "near", 1)])
    words = ["benchmark", "-m", "numbers", "-d", folder, "--plugin", tmp_path / "typed_vectors.py"]
    assert harness(*words).code == 0
    path = tmp_path / "results" / "numbers" / "folder" / "result.json"
    result = unsealed(json.loads(path.read_text()))
    assert result["manifest"].pop("zero_vectors") == "cosine 0 with everything"
    path.write_text(json.dumps(seal(result)))
    assert ("cached" in harness(*words).out) == (not zeros)
    assert "cached" in harness(*words).out
