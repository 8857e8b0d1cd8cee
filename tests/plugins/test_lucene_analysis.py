"""Words, stems and terms by the published rules; the comparison with Lucene itself is in test_pyserini_bm25.py."""

from __future__ import annotations

import pytest

from plugins.lucene_analysis import analyse, term
from plugins.porter import stem
from plugins.word_break import words


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
        ("possibli", "possibl"), ("archaeologi", "archaeolog"),  # the two departures: bli to ble, logi to log
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
    ]  # underscores are no word before a letter is seen


def test_terms() -> None:
    assert analyse("The Cells' and the cell's dogs’ ＡＢＣ") == ["cell", "cell", "dog", "ａｂｃ"]
    assert [term(word) for word in ("It's", "NOT", "S", "US")] == ["", "", "s", "us"]
    assert analyse("ΟΔΟΣ İstanbul") == [
        "οδοσ",
        "istanbul",
    ]  # letter by letter: no final sigma, no dotted i in two parts
