"""Token vectors in shards: what is refused, what is stored, and that a killed run ends in the same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embeddings.encode import encode_collection
from harness.embeddings.formats import MULTIVECTOR
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.store import VectorStore
from harness.embeddings.token_vectors import TokenVectors
from harness.storage.safe_load import map_arrays
from harness.types import PluginError

TEXTS = [f"text {number} of {'word ' * (number % 6)}" for number in range(300)] + ["", "x" * 40]
DIM = 8


def vectors(text: str) -> Any:
    """One vector for each word."""
    words = [np.resize(np.frombuffer(f"{word}.".encode(), np.uint8), DIM) for word in text.split()]
    return np.array(words, np.float32).reshape(len(words), DIM)


class Model:
    """Gives lists of arrays, or says which texts it truncated; fails after some batches."""

    dim = DIM

    def __init__(self, batches: int = 10**9, *, tells: bool = False) -> None:
        self.left, self.tells = batches, tells

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("gone")
        found = [vectors(text) for text in texts]
        return TokenVectors.of(found, [len(text) > 30 for text in texts]) if self.tells else found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.embeddings.sharding.SHARD_ROWS", 50)
    monkeypatch.setattr("harness.embeddings.encode.TEXT_BUDGET", 20)


def encoded(home: Path, model: Model, storage: Any = "float32") -> VectorStore:
    store = VectorStore(home, "model", "document", storage, form=MULTIVECTOR)
    shards = encode_collection(model, "it", iter(TEXTS), len(TEXTS), store, "document", lambda *_: None)
    store.write_list("c", shards, "maxsim")
    return VectorStore(home, "model", "document", storage, form=MULTIVECTOR)


def contents(store: VectorStore) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.folder.glob("*.npy")}


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("tells", [False, True])
def test_what_is_stored_is_what_the_model_gave(tmp_path: Path, tells: bool, storage: str) -> None:
    store = encoded(tmp_path, Model(tells=tells), storage)
    found = store.read_list("c")
    assert found is not None
    opened = MultiVectors.open(store, found[0])
    rows = opened.whole()
    assert (found[1], len(opened)) == ("maxsim", len(TEXTS))
    assert rows.vectors.dtype == storage
    for place, text in enumerate(TEXTS):
        np.testing.assert_array_equal(rows[place : place + 1].vectors, vectors(text))
        assert rows.truncated[place] == (len(text) > 30 if tells else -1)
    read = np.array([3, 49, 50, 51, 52, 200, 300, 301])
    for at, some in opened.pieces(read, 4):
        for place, row in zip(read[at], range(len(some)), strict=True):
            np.testing.assert_array_equal(some[row : row + 1].vectors, vectors(TEXTS[place]))
        assert len(some.vectors) <= 4 or len(some) == 1


def test_a_float16_shard_is_made_of_the_stored_float32_one(tmp_path: Path) -> None:
    encoded(tmp_path, Model(tells=True))
    narrow = encoded(tmp_path, Model(batches=0), "float16")
    assert contents(narrow) == contents(encoded(tmp_path / "other", Model(tells=True), "float16"))


def test_a_run_that_failed_half_way_ends_in_the_same_bytes(tmp_path: Path) -> None:
    expected = contents(encoded(tmp_path / "whole", Model(tells=True)))
    with pytest.raises(PluginError, match="gone"):
        encoded(tmp_path / "torn", Model(batches=10, tells=True))
    half = contents(VectorStore(tmp_path / "torn", "model", "document", form=MULTIVECTOR))
    assert 0 < len(half) < len(expected)
    assert contents(encoded(tmp_path / "torn", Model(tells=True))) == expected


def test_a_damaged_shard_is_missing(tmp_path: Path) -> None:
    store = encoded(tmp_path, Model())
    found = store.read_list("c")
    assert found is not None
    shard = found[0][1]
    arrays = MULTIVECTOR.arrays(store.read(shard), "float32")
    for place, value in ((0, 10**6), (1, 7)):
        harmed = [array.copy() for array in arrays]
        harmed[place][1] = value
        with pytest.raises(ValueError, match="no token vectors"):
            MULTIVECTOR.rows(harmed, DIM, "float32")
    file = store.folder / f"{shard.key}.npy"
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    assert VectorStore(tmp_path, "model", "document", form=MULTIVECTOR).read_list("c") is None
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        map_arrays(file, 3)
    file.write_bytes(data[:300])
    with pytest.raises(ValueError, match="Failed to read all data"):
        map_arrays(file, 3)


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (ONE, "a ndarray, not a list of arrays; return one array"),
        ([ONE, [1.0]], "a list, not a list of arrays"),
        ([ONE], "1 arrays for 2 texts"),
        ([ONE, ONE[:, :2]], r"an array of shape \(2, 2\) for a text; return \[tokens, dim\], dim = 3"),
        ([ONE, ONE.astype(np.float64)], "float64; return float32"),
        ([ONE, np.full((1, 3), np.nan, np.float32)], "the vectors of 1 of 2 texts hold NaN or infinity"),
        (TokenVectors(ONE, np.array([0, 1, 3])), "offsets that do not rise"),
        (TokenVectors(ONE, np.array([0, 2])), r"shape \(1, 3\) for 2 texts of dimension 3"),
        ([ONE, ONE[:0]], "^$"),
        (TokenVectors(ONE, np.array([0, 1, 2])), "^$"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_in_words(answer: object, told: str) -> None:
    assert re.search(told, MULTIVECTOR.fault(answer, 2, 3))


def test_any_texts_in_any_order() -> None:
    rows = TokenVectors.of([np.full((count, 2), number, np.float32) for number, count in enumerate((2, 0, 3, 1))])
    picked = rows[np.array([3, 0, 1, 0])]
    assert picked.counts.tolist() == [1, 2, 0, 2]
    assert picked.vectors[:, 0].tolist() == [3, 0, 0, 0, 0]
    assert rows[1:3].counts.tolist() == [0, 3]
    assert rows[4:].shape == (0, 2)
