"""Real collections against published scores, through the command a user types."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")


def ndcg(harness, *words: object) -> dict[tuple[str, str], float]:
    done = harness("benchmark", "--json", *words)
    assert done.code == 0, done.err
    return {(cell["model"], cell["dataset"]): cell["measures"]["nDCG@10"] for cell in json.loads(done.out)}


def published(shared: Path, dataset: str, model: str) -> float:
    rows = csv.DictReader((shared / "reference" / "published_beir.csv").open())
    return next(float(row["ndcg_at_10"]) for row in rows if (row["dataset"], row["model"]) == (dataset, model))


def test_bm25_on_scifact_is_pyserinis(harness, shared: Path) -> None:
    found = ndcg(harness, "-m", "bm25", "-m", "bm25:fields=multifield", "-d", shared / "data" / "scifact")
    flat, multifield = (published(shared, "scifact", f"pyserini:bm25-{fields}") for fields in ("flat", "multifield"))
    assert flat == pytest.approx(0.6789, abs=1e-4)
    assert found["bm25", "scifact"] == pytest.approx(flat, abs=0.001)
    assert found["bm25:fields=multifield", "scifact"] == pytest.approx(multifield, abs=0.001)


@pytest.mark.parametrize(("name", "queries", "judged"), [("cranfield", 225, 0.29), ("vaswani", 93, 0.36)])
def test_other_folders_given_by_path(harness, shared: Path, name: str, queries: int, judged: float) -> None:
    found = ndcg(harness, "-m", "bm25", "-d", shared / "data" / name)
    assert 0.35 < found["bm25", name] < 0.5  # no published figure for this form: the plausible range
    result = json.loads(Path(f"results/bm25/{name}/result.json").read_text())
    assert result["counts"]["queries"] == queries
    assert result["measures"]["Judged@10"] == pytest.approx(judged, abs=0.005)  # counted elsewhere, from the same runs


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_mpnet_on_scifact_is_the_published_and_bfloat16_agrees(harness, shared: Path, monkeypatch) -> None:
    # Vectors are kept where the user keeps them: an interrupted run of this test goes on, a second one is quick.
    keep = os.environ.get("HARNESS_TEST_HOME")
    if keep:
        monkeypatch.setenv("HARNESS_HOME", keep)
    models = ("-m", "mpnet:dtype=float32", "-m", "mpnet:dtype=bfloat16")
    found = ndcg(harness, *models, "-d", shared / "data" / "scifact")
    full, half = found["mpnet:dtype=float32", "scifact"], found["mpnet:dtype=bfloat16", "scifact"]
    assert full == pytest.approx(published(shared, "scifact", "all-mpnet-base-v2"), abs=0.002)
    assert half == pytest.approx(full, abs=0.002)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_minilm_on_scifact_is_the_published(harness, shared: Path, monkeypatch) -> None:
    keep = os.environ.get("HARNESS_TEST_HOME")
    if keep:
        monkeypatch.setenv("HARNESS_HOME", keep)
    found = ndcg(harness, "-m", "minilm:dtype=float32", "-d", shared / "data" / "scifact")
    expected = published(shared, "scifact", "all-MiniLM-L6-v2")
    assert found["minilm:dtype=float32", "scifact"] == pytest.approx(expected, abs=0.002)
