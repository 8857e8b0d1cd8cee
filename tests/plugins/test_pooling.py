"""Pooling of token vectors, compared with sentence-transformers' own; nothing is encoded again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
pytest.importorskip("faiss", reason="the models need the dense extra")

from harness.registry.manager import load_registry
from harness_plugins.pooling import kmeans
from tests.folders import write_bi_encoder, write_multi_vector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_multi_vector(tmp_path_factory.mktemp("pooled") / "colbert")


@pytest.mark.parametrize(
    ("factor", "protect", "normalise"), [(2.0, 1, True), (1.5, 0, False), (9.0, 2, True), (1, 1, True)]
)
def test_hierarchical_pooling_is_sentence_transformers_own(factor: float, protect: int, normalise: bool) -> None:
    import torch
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    spec = load_registry().models["pool"]
    made = spec.replace(factor=factor, protect=protect, normalise=normalise).load()
    theirs = HierarchicalTokenPooling(factor, num_protected_tokens=protect, normalize_embeddings=normalise)
    for count in (1, 2, 7, 40):
        vectors = np.random.default_rng(count).standard_normal((count, 12)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = theirs.pool_one(torch.from_numpy(vectors)).numpy()
        np.testing.assert_allclose(made.pool(vectors), expected, atol=1e-6)


def test_kmeans_finds_groups_that_are_apart() -> None:
    draw = np.random.default_rng(0)
    middles, own = np.eye(4, 16, dtype=np.float32), np.array([0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 1, 0])
    found = kmeans(middles[own] + draw.normal(0, 0.01, (12, 16)).astype(np.float32), 4)
    assert len({*zip(own.tolist(), found.tolist(), strict=True)}) == 4
    assert len({*kmeans(np.ones((6, 3), np.float32), 3).tolist()}) == 1


def test_stored_vectors_are_pooled_and_listed_beside_the_whole(harness, folder: Path, toy: Path, home: Path) -> None:
    names = [f"{folder}:dtype=float32", f"pool({folder}:dtype=float32):factor=3"]
    done = harness("benchmark", *(word for name in names for word in ("-m", name)), "-d", toy, "--json")
    assert done.code == 0, done.err
    assert done.err.count("encoded 12 documents") == 1
    whole, pooled = json.loads(done.out)
    assert pooled["counts"]["document_vectors"] < whole["counts"]["document_vectors"] / 2
    assert pooled["counts"]["index_bytes"] < whole["counts"]["index_bytes"] / 2
    assert pooled["manifest"]["model"]["similarity"] == "maxsim"
    assert pooled["manifest"]["model"]["kind"] == "pooling"
    files = {file: file.read_bytes() for file in (home / "vectors").rglob("*.npy")}
    again = harness("benchmark", "-m", names[1], "-d", toy, "--force", "--json")
    assert json.loads(again.out)[0]["measures"] == pooled["measures"]
    assert {file: file.read_bytes() for file in (home / "vectors").rglob("*.npy")} == files
    twice = harness("benchmark", "-m", f"pool(pool({folder}:dtype=float32)):method=kmeans", "-d", toy, "--json")
    assert json.loads(twice.out)[0]["counts"]["document_vectors"] < whole["counts"]["document_vectors"] / 3
    checked = harness("check", names[1])
    assert checked.code == 0, checked.out + checked.err


def test_models_without_token_vectors_are_refused(harness, tmp_path: Path, toy: Path) -> None:
    dense = write_bi_encoder(tmp_path / "bi")
    for name in ("bm25", str(dense)):
        done = harness("benchmark", "-m", f"pool({name})", "-d", toy)
        assert done.code == 2
        assert "pool changes token vectors, and" in done.err
        assert "name a multi-vector one" in done.err


def test_a_pooling_of_a_plug_in_is_checked(harness, folder: Path, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "poolings.py"
    plugin.write_text(
        "from harness import ModelSpec, hookimpl\n"
        "class Bad:\n"
        "    def pool(self, vectors):\n"
        "        return vectors[:0]\n"
        "def load(options):\n"
        "    return Bad()\n"
        "@hookimpl\n"
        "def harness_models():\n"
        "    yield ModelSpec('none', 'pooling', load=f'{__name__}:load', summary='nothing')\n"
    )
    checked = harness("check", f"none({folder})", "--plugin", plugin)
    assert checked.code == 1
    assert "pool() returned shape (0, 16)" in checked.out
    done = harness("benchmark", "-m", f"none({folder})", "--plugin", plugin, "-d", toy)
    assert done.code == 1
    assert "none(" in done.err
    assert "pool() returned shape (0, 16)" in done.out + done.err
