from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness_plugins.bm25.inverted_index import Builder, InvertedFile


def split(texts: list[str]) -> tuple[list[str], NDArray[np.int32], NDArray[np.int32]]:
    """Space-separated words in the form of `harness_plugins.bm25.word_break_batch`."""
    found = [(word, row) for row, text in enumerate(texts) for word in text.split()]
    distinct = list(dict.fromkeys(word for word, _ in found))
    which = [distinct.index(word) for word, _ in found]
    return distinct, np.array(which, np.int32), np.array([row for _, row in found], np.int32)


def build(directory: Path, texts: list[str], fill: int, batch: int = 1) -> InvertedFile:
    builder = Builder(directory, split, lambda word: "" if word == "stop" else word.lower(), fill, batch)
    for text in texts:
        builder.add(text)
    builder.finish()
    return InvertedFile(directory)


@pytest.mark.parametrize(("fill", "batch"), [(1, 1), (7, 1), (100, 50), (100, 1), (10**6, 200), (10**6, 10**6)])
def test_every_count_survives_any_number_of_spills_and_batches(tmp_path: Path, fill: int, batch: int) -> None:
    chance = random.Random(0)
    words = [f"{case}{n}" for n in range(30) for case in "aA"] + ["stop"]
    texts = [" ".join(chance.choices(words, k=chance.choice([0, 1, 5, 40]))) for _ in range(60)]
    counted = [Counter(word.lower() for word in text.split() if word != "stop") for text in texts]

    file = build(tmp_path / "index", texts, fill, batch)

    assert file.lengths.tolist() == [sum(counts.values()) for counts in counted]
    for word in {word for counts in counted for word in counts}:
        postings = file[word]
        assert postings is not None
        held = [(row, counts[word]) for row, counts in enumerate(counted) if word in counts]
        assert list(zip(postings.rows.tolist(), postings.counts.tolist(), strict=True)) == held
    assert file["stop"] is None
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "vocabulary.txt", "offsets.npy", "postings.npy", "lengths.npy"
    }  # fmt: skip


def test_files_are_the_same_however_often_it_spilled(tmp_path: Path) -> None:
    texts = ["b a a", "", "c b", "a c c"]
    for fill in (1, 10**6):
        build(tmp_path / str(fill), texts, fill)
    for name in ("vocabulary.txt", "offsets.npy", "postings.npy", "lengths.npy"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "1000000" / name).read_bytes()


def test_remembered_words_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.bm25.inverted_index._SEEN", 2)
    file = build(tmp_path / "index", ["a b c d a b", "d c b a"], 10**6)
    assert {word: file[word].counts.tolist() for word in "abcd"} == {  # type: ignore[union-attr]
        "a": [2, 1], "b": [2, 1], "c": [1, 1], "d": [1, 1]
    }  # fmt: skip


def test_nothing_at_all(tmp_path: Path) -> None:
    file = build(tmp_path / "index", [], 10)
    assert file["a"] is None
    assert file.lengths.dtype == np.int32
    assert len(file.lengths) == 0
