"""Words, stems and terms by the published rules; the comparison with Lucene itself is in test_pyserini_engine.py."""

from __future__ import annotations

import random

import pytest

from harness_plugins.bm25 import word_break
from harness_plugins.bm25.analysis import analyse, term
from harness_plugins.bm25.stemmer import stem
from harness_plugins.bm25.word_break import words


# The examples of Porter's paper (section 2), step by step, as the whole algorithm leaves them.
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("caress", "caress"), ("cats", "cat"),
        ("feed", "feed"), ("agreed", "agre"), ("plastered", "plaster"), ("bled", "bled"), ("motoring", "motor"),
        ("sing", "sing"), ("conflated", "conflat"), ("troubled", "troubl"), ("sized", "size"), ("hopping", "hop"),
        ("tanned", "tan"), ("falling", "fall"), ("hissing", "hiss"), ("fizzed", "fizz"), ("failing", "fail"),
        ("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("relational", "relat"), ("conditional", "condit"),
        ("rational", "ration"), ("digitizer", "digit"), ("vietnamization", "vietnam"), ("feudalism", "feudal"),
        ("hopefulness", "hope"), ("triplicate", "triplic"), ("formative", "form"), ("electriciti", "electr"),
        ("goodness", "good"), ("revival", "reviv"), ("adjustment", "adjust"), ("adoption", "adopt"),
        ("probate", "probat"), ("rate", "rate"), ("cease", "ceas"), ("controll", "control"), ("roll", "roll"),
        ("generalizations", "gener"), ("oscillators", "oscil"), ("yy", "yy"), ("is", "is"),
        ("possibli", "possibl"), ("archaeologi", "archaeolog"),  # differs from the paper: bli to ble, logi to log
        ("\U00010400s", "\U00010400"),  # one letter, but two of Java's characters, before the s
    ],
)  # fmt: skip
def test_stems(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("-- !? ___ ...", []),
        ("a.b 1,000.5 x:y u.s. 3.a", ["a.b", "1,000.5", "x:y", "u.s", "3", "a"]),
        ("snake_case _x_ __ a_.b", ["snake_case", "_x_", "a_", "b"]),
        ("IL-2/TNF-α 5µm", ["IL", "2", "TNF", "α", "5µm"]),
        ("don’t rock'n'roll '90s", ["don’t", "rock'n'roll", "90s"]),
        ("東京タワー は ひらがな", ["東", "京", "タワー", "は", "ひ", "ら", "が", "な"]),
        ("한국어 ภาษาไทย", ["한국어", "ภาษาไทย"]),
        ("צה\"ל ג' a'", ['צה"ל', "ג'", "a"]),
        ("👩‍👩‍👧 ❤️‍🔥 👋🏽 🇫🇷🇩🇪 #️⃣ ★", ["👩‍👩‍👧", "❤️‍🔥", "👋🏽", "🇫🇷", "🇩🇪", "#️⃣", "★"]),
        ("cafe\u0301 soft\u00adhyphen zero\u200bwidth", ["cafe\u0301", "soft\u00adhyphen", "zero", "width"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_words_longer_than_255_units_are_cut() -> None:
    assert [len(word) for word in words("x" * 600 + " y")] == [255, 255, 90, 1]
    assert [len(word) for word in words("\U00010400" * 300)] == [127, 127, 46]  # two units a letter
    assert [len(word) for word in words("_" * 300 + "ab")] == [
        255,
        1,
    ]  # underscores alone are not a word


def test_terms() -> None:
    assert analyse("The Cells' and the cell's dogs’ ＡＢＣ") == ["cell", "cell", "dog", "ａｂｃ"]
    assert [term(word) for word in ("It's", "NOT", "S", "US")] == ["", "", "s", "us"]
    assert analyse("ΟΔΟΣ İstanbul") == [
        "οδοσ",
        "istanbul",
    ]  # character by character: no final sigma, no decomposed dotted i


HARD = (
    *("\u200d", "\u203f", "\u202f", "_", "\u0301", "\ufe0f", "\ufe0e", "\u20e3", "#", "*", "\u2764", "\U0001f469"),
    *("\U0001f3fb", "\U0001f1e9", "\u05d0", '"', "'", ".", ",", ":", "a", "1", "\u30a2", "\u3042", "\u6771", "\u0e01"),
    *("\ud55c", "\u00ad", "\u0600", "\u19da", "\U00010400", "\U0001f600", "\u2388", "\U00030000", " ", "\n", "\u0661"),
)
"""Characters that join, extend, start and end words, and some that look alike."""


def by_definition(text: str) -> list[str]:
    """The longest word within `LONGEST` units at every position, else the next position; slow but simple."""
    text = word_break._UNCLASSED.sub(" ", text)
    found, position, rule = [], 0, word_break._word(anywhere=True)
    while position < len(text):
        match = rule.match(text, position, word_break._reach(text, position))
        found += [match[0]] if match else []
        position = match.end() if match else position + 1
    return found


@pytest.mark.parametrize(("longest", "texts"), [(4, 1500), (5, 1500), (255, 75)])
def test_words_are_those_of_the_definition(longest: int, texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_break, "LONGEST", longest)
    word_break._long_run.cache_clear()
    chance = random.Random(longest)
    lengths = [
        1,
        1,
        2,
        3,
        longest - 1,
        longest,
        longest + 1,
        2 * longest,
        2 * longest + 1,
        2 * longest + 2,
        3 * longest,
    ]
    for _ in range(texts):
        letters = chance.sample(HARD, chance.choice([2, 3, 4, 8, len(HARD)]))
        runs = [
            chance.choice(letters) * chance.choice([1, chance.choice(lengths)]) for _ in range(chance.randint(1, 12))
        ]
        text = "".join(runs)
        assert list(words(text)) == list(word_break._cut(text)) == by_definition(text), ascii(text)
    word_break._long_run.cache_clear()


@pytest.mark.parametrize(
    "piece",
    [
        *"\u200d\u203f\u202f_\u0301\ufe0f#\U0001f3fb\U0001f1e9",
        "_\u0301",
        "\u200d\u0301",
        "\ufe0f\u200d",
        "#\u0301",
        '\u05d0"',
    ],
    ids=ascii,
)
def test_no_text_takes_quadratic_time(piece: str) -> None:
    """200,000 letters: seconds if every position is visited once, hours if each scans to the end."""
    text = "\u00e9 " + piece * (200_000 // len(piece))
    assert words(text)[0] == "\u00e9"
    assert words(text + "b")[0] == "\u00e9"
