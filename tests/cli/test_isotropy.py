"""``harness isotropy``: the panel of a file or of a model's vectors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.geometry import DEFINITIONS, measure_geometry

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

NIBBLES = """
import numpy as np
from harness import ModelSpec, hookimpl

class Nibbles:
    dim = 16
    def encode(self, texts, *, role):
        counts = [np.bincount(np.frombuffer(text.encode(), np.uint8) % 16, minlength=16) for text in texts]
        return np.asarray(counts, np.float32)

def load(options):
    return Nibbles()

@hookimpl
def harness_models():
    yield ModelSpec("nibbles", "dense", f"{__name__}:load", "low halves of bytes", similarity="cosine")
"""


@pytest.fixture
def nibbles(toy: Path) -> list[object]:
    plugin = toy.parent / "nibbles_model.py"
    plugin.write_text(NIBBLES)
    return ["-m", "nibbles", "-d", toy, "--plugin", plugin]


def panels(harness, *words: object) -> dict[str, dict]:
    done = harness("isotropy", "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)


def panel(harness, array: np.ndarray) -> dict:
    np.save("vectors.npy", array)
    found = panels(harness, "vectors.npy")
    assert set(found) == {"vectors"}
    return found["vectors"]


@pytest.fixture
def skewed() -> np.ndarray:
    draw = np.random.default_rng(7)
    return (draw.standard_normal((500, 8)) * np.geomspace(4, 0.1, 8) + draw.standard_normal(8)).astype(np.float32)


def test_the_panel_of_a_file_is_that_of_the_array(harness, skewed) -> None:
    found = panel(harness, skewed)
    assert found == json.loads(json.dumps(measure_geometry([skewed], len(skewed))))
    assert {"n", "d", "definitions", *DEFINITIONS} == set(found)
    wide = skewed.astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(wide.T))
    units = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    cosines = (units @ units.T)[~np.eye(len(units), dtype=bool)]
    assert found["isotropy"] == pytest.approx(1 - values.std() / values.mean(), abs=1e-9)
    assert found["participation_ratio"] == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)
    assert found["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-9)
    assert found["uniformity"] == pytest.approx(np.log(np.exp(4 * cosines - 4).mean()), abs=1e-6)
    assert found["norm_mean"] == pytest.approx(np.linalg.norm(wide, axis=1).mean(), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_evenly_filled_space_has_isotropy_1(harness, dtype) -> None:
    d = 6
    found = panel(harness, np.concatenate([np.eye(d), -np.eye(d)]).astype(dtype))
    assert (found["n"], found["d"]) == (2 * d, d)
    assert found["isotropy"] == pytest.approx(1, abs=1e-12)
    assert found["isoscore"] == pytest.approx(1, abs=1e-12)
    assert found["effective_rank"] == pytest.approx(d)
    assert found["mean_cosine"] == pytest.approx(-1 / (2 * d - 1))
    assert found["norm_mean"] == 1
    assert found["norm_cv"] == 0


def test_vectors_on_one_line_have_the_least_isotropy_there_is(harness) -> None:
    found = panel(harness, np.outer(np.arange(1, 10), np.ones(5)).astype(np.float32))
    assert found["isotropy"] == pytest.approx(1 - math.sqrt(5 - 1))
    assert found["isoscore"] == pytest.approx(0, abs=1e-12)
    assert found["mean_cosine"] == pytest.approx(1)
    assert found["top1_share"] == pytest.approx(1)


def test_a_file_in_fortran_order(harness, skewed) -> None:
    assert panel(harness, np.asfortranarray(skewed)) == panel(harness, skewed)


def test_undefined_figures_are_null(harness) -> None:
    found = panel(harness, np.ones((1, 3), np.float32))
    assert found["isotropy"] is None
    assert found["norm_mean"] == pytest.approx(math.sqrt(3))


def test_the_table_shows_every_figure(harness, skewed) -> None:
    found = panel(harness, skewed)
    done = harness("isotropy", "vectors.npy")
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.out.splitlines()[2:]]
    shown: dict[str, str] = dict(cells)
    assert set(shown) == set(found) - {"eigenvalues", "definitions"}
    assert shown["isotropy"] == f"{found['isotropy']:.4f}"
    assert (shown["n"], shown["d"]) == ("500", "8")


@pytest.mark.parametrize("first", ["benchmark", "isotropy"])
def test_a_models_panel_is_what_benchmark_stores(harness, toy: Path, nibbles: list[object], first: str) -> None:
    """Whoever comes first computes the vectors; the other one reads them."""
    runs = {"benchmark": ["benchmark", *nibbles], "isotropy": ["isotropy", *nibbles, "--json"]}
    second = "benchmark" if first == "isotropy" else "isotropy"
    done = {first: harness(*runs[first]), second: harness(*runs[second])}
    assert "encoding" in done[first].err
    assert "encoding" not in done[second].err
    assert done["isotropy"].code == done["benchmark"].code == 0
    stored = json.loads(Path("results/nibbles/toy/result.json").read_text())["geometry"]
    found = json.loads(done["isotropy"].out)
    assert found == {side: stored[side] for side in ("documents", "queries")}
    texts = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    contents = [f"{text['title']} {text['text']}".strip().encode() for text in texts]
    counts = np.array([np.bincount(np.frombuffer(content, np.uint8) % 16, minlength=16) for content in contents])
    units = counts / np.linalg.norm(counts, axis=1, keepdims=True)  # a cosine model's vectors are of length 1
    values = np.linalg.eigvalsh(np.cov(units.T))
    assert found["documents"]["isotropy"] == pytest.approx(1 - values.std() / values.mean(), abs=1e-6)
    assert found["queries"]["n"] == 4


def test_split_and_limit_choose_the_queries(harness, toy: Path, nibbles: list[object]) -> None:
    (toy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\theart\t1\nq2\trust\t1\n")
    counts = [panels(harness, *nibbles, *more)["queries"]["n"] for more in ([], ["--limit", 3], ["--split", "dev"])]
    assert counts == [4, 3, 2]
