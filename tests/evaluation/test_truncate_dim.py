"""``truncate_dim``: leading dimensions of stored vectors, as sentence-transformers truncates what it encodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.models.runner import Prepared, dataset_vectors
from harness.registry.manager import load_registry
from tests.plugins.test_transforms import Case

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_leading_dimensions_of_stored_vectors_are_compared(harness, tmp_path: Path, similarity: str) -> None:
    case = Case(tmp_path, similarity)
    [full] = case.benchmark(harness, "table")
    calls = case.calls
    [cut] = case.benchmark(harness, "table:truncate_dim=5")
    assert case.calls == calls
    assert cut["model"] == "table:truncate_dim=5"
    assert (full["geometry"]["documents"]["d"], cut["geometry"]["documents"]["d"]) == (12, 5)
    assert cut["counts"]["index_bytes"] == 150 * 5 * 4

    documents, queries = (side[:, :5].astype(np.float64) for side in (case.documents, case.queries))
    if similarity == "cosine":  # of the truncated vectors
        documents, queries = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (documents, queries))
    scores = queries @ documents.T
    if similarity == "euclidean":
        scores = -((queries[:, None] - documents) ** 2).sum(axis=2)
    expected = {f"q{i:02}": [f"d{row:03}" for row in np.argsort(-line)] for i, line in enumerate(scores)}
    assert case.ranking("table:truncate_dim=5") == expected


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_the_bytes_are_the_same_whichever_comes_first(harness, tmp_path: Path, storage: str) -> None:
    case = Case(tmp_path, "cosine")
    for home, order in (("one", ["table:truncate_dim=4"]), ("two", ["table", "table:truncate_dim=4"])):
        words = [word for model in order for word in ("-m", model)]
        where = ["--plugin", case.plugin, "--results", home, "--storage", storage, "--force"]
        done = harness("benchmark", *words, "-d", case.folder, *where)
        assert done.code == 0, done.err
    label = "table+truncate_dim=4" if storage == "float32" else "table+storage=float16,truncate_dim=4"
    runs = [(Path(home) / label / "table" / "run.trec.gz").read_bytes() for home in ("one", "two")]
    assert runs[0] == runs[1]
    stored = [file for file in (tmp_path / "home" / "vectors").rglob("*.json") if "list" not in file.name]
    assert {json.loads(file.read_text())["dim"] for file in stored} == {12}


def test_more_dimensions_than_there_are_is_refused_before_anything_is_encoded(harness, tmp_path: Path) -> None:
    case = Case(tmp_path)
    for model in ("table:truncate_dim=13", "table:truncate_dim=0", "bm25:truncate_dim=4", "table:truncate=4"):
        done = harness("benchmark", "-m", model, "-d", case.folder, "--plugin", case.plugin)
        assert done.code == 2, model
        assert not (case.plugin.parent / "calls").exists()
    done = harness("benchmark", "-m", "table:truncate_dim=13", "-d", case.folder, "--plugin", case.plugin)
    assert "its vectors have 12 dimensions, which truncate_dim=13 exceeds; give 12 at most." in done.err
    listed = json.loads(harness("models", "--plugin", case.plugin, "--json").out)
    assert [row["name"] for row in listed if "truncate_dim" in row["options"]] == [
        row["name"] for row in listed if row["kind"] == "dense"
    ]


def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, toy: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    from tests.tiny import DIM, transformer

    layers = [transformer(tmp_path / "base"), Pooling(DIM, "mean"), Normalize()]
    model = SentenceTransformer(modules=layers, similarity_fn_name="cosine", truncate_dim=24)
    model.save(str(tmp_path / "mine"), create_model_card=False)
    dataset = open_dataset(toy, cache=tmp_path / "cache")
    prepared = Prepared(
        load_registry().model(f"{tmp_path / 'mine'}:truncate_dim=8,dtype=float32,device=cpu"), tmp_path / "home"
    )
    found = dataset_vectors(prepared, dataset)["document"][0]
    texts = [document.content for document in dataset.corpus.iter()]
    other = SentenceTransformer(str(tmp_path / "mine"), truncate_dim=8, device="cpu")
    expected = other.encode_document(texts, normalize_embeddings=True)
    np.testing.assert_allclose(found.gather(np.arange(len(found))), expected, atol=2e-6)
    assert prepared.ref.figures["dim"] == 8
    # the folder's own number is how many there are
    own = SentenceTransformer(str(tmp_path / "mine"), device="cpu").encode(["moon"])
    assert own.shape == (1, 24)
    whole = Prepared(load_registry().model(f"{tmp_path / 'mine'}:dtype=float32,device=cpu"), tmp_path / "home")
    assert dataset_vectors(whole, dataset)["document"][0].dim == 24
