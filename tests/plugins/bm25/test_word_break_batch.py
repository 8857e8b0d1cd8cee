"""Compares the batched word-break rules with the unbatched ones, text by text."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness_plugins.bm25.word_break import words
from harness_plugins.bm25.word_break_batch import word_array

pytest.importorskip("regex", reason="bm25 needs the bm25 extra")

ASCII = "abYZ019__..'':,,;;-!\n\t  "
OTHERS = ["é", "β", "\u0301", "\u00ad", "\u2019", "漢", "ひ", "カ", "한", "ก", "א", "🇦🇧", "★", "\u200d", "\U00010400"]


def folded(found: Sequence[str]) -> Counter[str]:
    """How often each word occurs, ASCII ones in lower case."""
    return Counter(word.lower() if word.isascii() else word for word in found)


def check(texts: list[str]) -> None:
    distinct, which, rows = word_array(texts)
    got: list[list[str]] = [[] for _ in texts]
    for place, row in zip(which.tolist(), rows.tolist(), strict=True):
        got[row].append(distinct[place])
    assert len(set(distinct)) == len(distinct)
    for text, found in zip(texts, got, strict=True):
        assert folded(found) == folded(words(text)), ascii(text)


@pytest.mark.parametrize("pool", [list(ASCII), [*ASCII, *OTHERS], [*OTHERS, " "]], ids=["ascii", "mixed", "others"])
def test_random_texts(pool: list[str]) -> None:
    chance = random.Random(5)
    for _ in range(200):
        check(["".join(chance.choices(pool, k=chance.randrange(40))) for _ in range(8)])


def test_texts_around_the_longest_word() -> None:
    chance = random.Random(7)
    for _ in range(40):
        pool = chance.sample([*"ab0_.' ", *OTHERS], 2)
        check(["".join(chance.choices(pool, k=chance.randrange(100, 900))) for _ in range(3)] + ["end", ""])
    check(["x" * 127, "x" * 128, "y " + "x" * 600 + " z", "_" * 700 + "a", "a " + "_" * 700])


def test_marks_at_the_borders_of_texts_join_nothing() -> None:
    check(["a.", ".b", "1,", ",2", "", "_", "'", "c'", "'d"])


@pytest.mark.parametrize("texts", [[], [""], ["", " ", "..."], ["\ud800 a\udc00b"]])
def test_texts_with_few_words_or_none(texts: list[str]) -> None:
    check(texts)


def test_real_documents(shared: Path) -> None:
    lines = (shared / "data" / "scifact" / "corpus.jsonl").read_text("utf-8").splitlines()[::5]
    check([json.loads(line)["text"] for line in lines])
