"""Sparse vectors in shards: what is refused, what is stored, and that a killed run ends in the same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from harness.embeddings.encode import encode_collection
from harness.embeddings.formats import SPARSE
from harness.embeddings.sparse import SparseVectors
from harness.embeddings.store import VectorStore
from harness.types import PluginError

TEXTS = [f"text {number} of words {number % 7} {'x' * (number % 11)}" for number in range(400)]
DIM = 128


def rows(texts: Sequence[str]) -> Any:
    """Counts of bytes, the terms of a row in no order."""
    counts = [np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=DIM) for text in texts]
    terms = [np.flatnonzero(count)[::-1] for count in counts]
    starts = np.cumsum([0, *map(len, terms)])
    weights = np.concatenate([count[term] for count, term in zip(counts, terms, strict=True)]).astype(np.float32)
    return scipy.sparse.csr_array((weights, np.concatenate(terms), starts), (len(texts), DIM))


class Model:
    """A sparse model that fails after some batches."""

    dim = DIM

    def __init__(self, batches: int = 10**9) -> None:
        self.left = batches

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("gone")
        return rows(texts)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.embeddings.sharding.SHARD_ROWS", 50)
    monkeypatch.setattr("harness.embeddings.encode.TEXT_BUDGET", 20)


def encoded(home: Path, model: Model) -> VectorStore:
    store = VectorStore(home, "model", "document", form=SPARSE)
    shards = encode_collection(model, "it", iter(TEXTS), len(TEXTS), store, "document", lambda *_: None)
    store.write_list("c", shards, "dot")
    return VectorStore(home, "model", "document", form=SPARSE)


def contents(store: VectorStore) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.folder.glob("*.npy")}


def test_what_is_stored_is_what_the_model_gave(tmp_path: Path) -> None:
    found = encoded(tmp_path, Model()).read_list("c")
    assert found is not None
    vectors = SparseVectors.open(VectorStore(tmp_path, "model", "document", form=SPARSE), found[0])
    assert found[1] == "dot"
    assert len(vectors) == len(TEXTS)
    np.testing.assert_array_equal(vectors.whole().toarray(), rows(TEXTS).toarray())
    assert all(shard.has_sorted_indices for shard in vectors.shards())


def test_a_run_that_failed_half_way_ends_in_the_same_bytes(tmp_path: Path) -> None:
    expected = contents(encoded(tmp_path / "whole", Model()))
    assert len(expected) == 8
    with pytest.raises(PluginError, match="gone"):
        encoded(tmp_path / "torn", Model(batches=10))
    half = contents(VectorStore(tmp_path / "torn", "model", "document", form=SPARSE))
    assert 0 < len(half) < len(expected)
    assert contents(encoded(tmp_path / "torn", Model(batches=15))) == expected


@pytest.mark.parametrize("harm", ["cut", "flipped", "terms", "other"])
def test_a_damaged_shard_is_missing(tmp_path: Path, harm: str) -> None:
    store = encoded(tmp_path, Model())
    found = store.read_list("c")
    assert found is not None
    key = found[0][2].key
    file = store.folder / f"{key}.npy"
    data = bytearray(file.read_bytes())
    if harm == "other":
        assert VectorStore(tmp_path, "model", "document").get(key) is None  # not a dense shard
        return
    if harm == "terms":  # a valid checksum does not help: terms that fall are no sparse rows
        arrays = SPARSE.arrays(store.read(found[0][2]), "float32")
        arrays[1][0], arrays[1][1] = arrays[1][1], arrays[1][0]
        with pytest.raises(ValueError, match="do not rise"):
            SPARSE.rows(arrays, DIM, "float32")
        return
    file.write_bytes(bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1])))
    fresh = VectorStore(tmp_path, "model", "document", form=SPARSE)
    assert fresh.get(key) is None
    assert fresh.read_list("c") is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.ones((1, 2), np.float32), "a ndarray, not a CSR array of scipy; return scipy.sparse.csr_array"),
        (scipy.sparse.csc_array(np.ones((1, 2), np.float32)), "not a CSR array"),
        (scipy.sparse.csr_array(np.ones((1, 3), np.float32)), r"shape \(1, 3\) for 1 texts of dimension 2"),
        (scipy.sparse.csr_array(np.ones((1, 2))), "float64; return float32"),
        (scipy.sparse.csr_array(np.array([[1, np.nan]], np.float32)), "1 of 1 vectors hold NaN or infinity"),
        (scipy.sparse.csr_array(np.ones((1, 2), np.float32)), "^$"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_in_words(answer: object, told: str) -> None:
    assert re.search(told, SPARSE.fault(answer, 1, 2))


def test_an_invalid_array_is_refused() -> None:
    odd = scipy.sparse.csr_array((np.ones(2, np.float32), np.array([0, 1]), np.array([0, 2])), (1, 2))
    odd.indices = np.array([0, 7])
    assert "an invalid CSR array" in SPARSE.fault(odd, 1, 2)
