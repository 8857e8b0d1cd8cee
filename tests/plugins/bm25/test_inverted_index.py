from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness_plugins.bm25 import inverted_index, term_numbers
from harness_plugins.bm25.analysis import term
from harness_plugins.bm25.inverted_index import Builder, InvertedFile
from harness_plugins.bm25.word_break_batch import WordArray, word_array, word_spans


def split(texts: list[str]) -> WordArray:
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


def both_ways(directory: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch, batch: int) -> list[list[bytes]]:
    """The files of an index built by NumPy alone, and of one whose compiled loops take over after 200 characters."""
    files = []
    for way, enough in (("numpy", lambda _: False), ("compiled", lambda letters: letters > 200)):
        monkeypatch.setattr(inverted_index, "_worth_compiling", enough)
        builder = Builder(directory / way, word_array, term, fill=300, batch=batch, spans=word_spans)
        for text in texts:
            builder.add(text)
        builder.finish()
        files.append([file.read_bytes() for file in sorted((directory / way).iterdir())])
    return files


@pytest.mark.parametrize("batch", [1, 100, 10**6])
@pytest.mark.parametrize("seen", [5, 10**6])
def test_compiled_loops_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, seen: int
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(term_numbers, "_SEEN", seen)
    chance = random.Random(1)
    odd = ["Straße", "日本語", "U.S.A.", "3.14", "___", "_a", "b_c", "don't", "x" * 300, "the", "e\u0301", "Ünïcode_"]
    words = [f"{case}{n}" for n in range(40) for case in ("run", "Runs", "running")] + odd
    texts = [" ".join(chance.choices(words, k=chance.choice([0, 1, 9, 60]))) for _ in range(80)]
    assert sum(map(len, texts)) > 5000
    simple, compiled = both_ways(tmp_path, texts, monkeypatch, batch)
    assert simple == compiled


def test_remembered_words_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.bm25.term_numbers._SEEN", 2)
    file = build(tmp_path / "index", ["a b c d a b", "d c b a"], 10**6)
    assert {word: file[word].counts.tolist() for word in "abcd"} == {  # type: ignore[union-attr]
        "a": [2, 1], "b": [2, 1], "c": [1, 1], "d": [1, 1]
    }  # fmt: skip


def test_nothing_at_all(tmp_path: Path) -> None:
    file = build(tmp_path / "index", [], 10)
    assert file["a"] is None
    assert file.lengths.dtype == np.int32
    assert len(file.lengths) == 0


def test_an_error_while_counting_ends_the_build(tmp_path: Path) -> None:
    def broken(texts: list[str]) -> WordArray:
        raise OSError("no space left")

    builder = Builder(tmp_path / "index", broken, str, batch=1)
    builder.add("a")
    with pytest.raises(OSError, match="no space left"):
        builder.finish()


def test_only_the_terms_asked_for_are_kept(tmp_path: Path) -> None:
    build(tmp_path / "index", ["a b", "b\u2028c b"], 10)
    file = InvertedFile(tmp_path / "index", {"b", "nothing"})
    assert (file.span("b"), file.span("a"), file.span("nothing")) == ((1, 3), None, None)
