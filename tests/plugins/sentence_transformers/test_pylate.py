"""Folders that PyLate wrote give PyLate's own token vectors and scores (pylate/README.md says how these were made)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="these models need the dense extra")

from harness.embeddings.encode import encode_texts
from harness.embeddings.formats import MULTIVECTOR
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.registry.manager import load_registry
from harness.search.maxsim import search_multivector
from harness.types import Role

HERE = Path(__file__).parent / "pylate"
TEXTS = json.loads((HERE / "texts.json").read_text())
VARIANTS = ("plain", "attend", "unexpanded", "unprefixed", "unknown", "residual")


def folder(variant: str, place: Path) -> Path:
    shutil.copytree(HERE / "folder", place / "model")
    return shutil.copytree(HERE / variant, place / "model", dirs_exist_ok=True)


def encoded(path: Path, role: Role) -> TokenVectors:
    model = load_registry().model(f"{path}:dtype=float32").load()
    texts = TEXTS["queries" if role == "query" else "documents"]
    return encode_texts(model, "it", texts, role, form=MULTIVECTOR)


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_and_scores_are_those_of_pylate(variant: str, tmp_path: Path) -> None:
    path, expected = folder(variant, tmp_path), np.load(HERE / variant / "expected.npz")
    assert load_registry().model(str(path)).spec.kind == "multivector"
    queries, documents = encoded(path, "query"), encoded(path, "document")
    for side, made in (("query", queries), ("document", documents)):
        assert made.counts.tolist() == expected[f"{side}_counts"].tolist()
    np.testing.assert_allclose(queries.vectors, expected["queries"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(documents.vectors, expected["documents"], rtol=0, atol=1e-5)
    found = search_multivector(queries, MultiVectors.of(documents), len(documents))
    for hits, scores in zip(found, expected["scores"], strict=True):
        np.testing.assert_allclose(hits.scores, scores[hits.rows], rtol=0, atol=1e-5)
        assert len(hits.rows) == len(documents)


def test_the_truncated_documents_are_those_with_more_tokens_than_pylate_reads(tmp_path: Path) -> None:
    assert encoded(folder("plain", tmp_path), "document").truncated.tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_what_is_read_as_pylate_reads_it_is_a_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder("plain", tmp_path)
    before = load_registry().model(str(path)).key
    monkeypatch.setattr("harness_plugins.sentence_transformers.multivector.AS_PYLATE", "otherwise")
    assert load_registry().model(str(path)).key != before
