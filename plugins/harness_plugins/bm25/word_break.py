"""Lucene 9's StandardTokenizer: splits text by Unicode's word-break rules (UAX #29), longest match first.

The rules are one regular expression over Unicode properties. Lucene uses Unicode 12.1 and the `regex` package the
newest version, so the characters that changed class since are listed here, found by comparing every code point.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

LONGEST = 255
"""Maximum word length in UTF-16 units (Lucene's maxTokenLength)."""

_ASCII_WORD = re.compile(
    r"[A-Za-z0-9_]+(?:(?:[.':](?<=[A-Za-z].)(?=[A-Za-z])|[.',;](?<=[0-9].)(?=[0-9]))[A-Za-z0-9_]+)*"
)
_REMEMBERED = 100_000
"""Size of the cache of tokenised non-ASCII pieces."""

_NOT_YET = (  # code points with a word-break class today but not in Unicode 12.1
    "B8 2E5-2EB 558 55A 55F 58A-58C 5C8-5C9 870-89F 8B5 8BE-8D2 B53-B55 C3C C5C-C5D CDC-CDD CF3 D04 D81 ECE 170D "
    "1715-171F 180F 1ABF-1AF0 1B4C 1C89-1C8A 1DFA 208F 209D-209F 2C2F 2C5F 31BB-31BF 4DB6-4DBF 9FF0-9FFF A708-A716 "
    "A7C0-A7C1 A7C7-A7F6 A82C AB68-AB6D 10570-105F3 10780-107BF 10940-10959 10D40-10EFF 10F70-10FC4 11070-11075 110C2 "
    "11147 111CE-111CF 1123F-11241 11380-113E2 11460-11461 116D0-116E3 11740-11746 11900-11959 11AB0-11ABF 11B0A-11BF9 "
    "11DB0-11DF1 11F00-11FB0 1246F-1247F 12550-12FF0 1342F 13439-143FA 16100-16139 16A70-16AC9 16D40-16D79 16EA0-16ED3 "
    "16FE2 16FE4-1AFFE 1B11F-1B132 1B155 1B168 1CCF0-1D128 1D250-1D281 1D6A6 1DF00-1DFFF 1E030-1E08F 1E290-1E2AE "
    "1E4D0-1E7FE 2A6D7-2A6DF 2B735-2B73F 2B81E 2CEA2-2CEAD 2EBF0-2EE5D 30000-33479"
)
_PICTOGRAPHS = (  # Extended_Pictographic in Emoji 12 only
    "2388 2605 2607-2612 2616-2685 2690-2704 270E-2711 2765-2767 1F000-1F0F5 1F10D-1F10F 1F12F 1F16C-1F16F 1F1AD-1F1AE "
    "1F260-1F3F6 1F4FE 1F546-1F5F9 1F6C6-1F6F2 1F774-1F77F 1F7D5-1F7FF 1F8B0-1F8D8 1FA00-1FBFF"
)
_ONCE_FORMAT = "600-605 6DD 70F 8E2 110BD 110CD"  # Format in Unicode 12.1, Numeric today


def _ranges(text: str) -> str:
    """Body of a character class from hexadecimal ranges."""
    return "".join("-".join(rf"\U{int(end, 16):08X}" for end in part.split("-")) for part in text.split())


_UNCLASSED = re.compile(f"[{_ranges(_NOT_YET)}]")


_FORMATS = _ranges(_ONCE_FORMAT)
_EXTENDS = rf"[\p{{WB=Format}}\p{{WB=Extend}}\p{{WB=ZWJ}}{_FORMATS}]"
_JOINS = r"\p{WB=ExtendNumLet}"


def _rules(*, anywhere: bool) -> str:
    """The grammar; every piece is possessive and the longest alternative wins.

    A word may start with any number of underscores or joiners (U+200D), and what follows decides whether it is one. To
    avoid quadratic time a match may only start at the first of them, except with ``anywhere``, for searches that start
    inside a truncated word and are limited to a window.
    """
    formats, extends = _FORMATS, _EXTENDS
    first_line, first_joiner = ("", "") if anywhere else (rf"(?={_JOINS})(?<!{_JOINS}{extends}*)", r"(?<!\u200D)")
    letter = rf"[[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]--[{formats}]]"
    hebrew = r"\p{WB=Hebrew_Letter}"
    digit = rf"[[\p{{WB=Numeric}}[\p{{Block=HalfAndFullForms}}&&\p{{Nd}}]]--[{formats}\u19DA\U0001FBF0-\U0001FBF9]]"
    mid_letter = r"[\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}]"
    mid_digit = r"[\p{WB=MidNum}\p{WB=MidNumLet}\p{WB=Single_Quote}\uFE10\uFE14]"

    more = f"{extends}*+"
    joiner = rf"(?:{_JOINS}{more})"
    unit = (  # quotes may follow or double quotes join Hebrew letters, but not from inside a chain
        rf"(?:{hebrew}{more}(?:'{more}|\"{more}{hebrew}{more}|(?:{mid_letter}{more}{letter}{more})++)?+"
        rf"|{letter}{more}(?:{mid_letter}{more}{letter}{more})*+"
        rf"|{digit}{more}(?:{mid_digit}{more}{digit}{more})*+)"
    )
    group = rf"(?:(?:\p{{WB=Katakana}}{more})++|{unit}++)"
    word = rf"(?:{first_line}{joiner}++)?+{group}(?:{joiner}++{group})*+{joiner}*+"

    plain = rf"[{extends}--[\uFE0E\uFE0F]]"
    tone = r"\p{Emoji_Modifier}"
    others = rf"0-9#*\p{{WB=Regional_Indicator}}{tone}"
    pictograph = rf"[[\p{{Extended_Pictographic}}\p{{Emoji}}{_ranges(_PICTOGRAPHS)}]--[{others}]]"
    picture = rf"(?:{pictograph}{plain}*+\uFE0F?+|{tone}{plain}*+)"
    joined = (
        rf"(?:(?<=\uFE0F)\u200D(?:\u200D*+(?={pictograph})|(?={tone}))|(?<=\u200D)(?=[{pictograph}{tone}])){picture}"
    )
    emoji = rf"(?:{first_joiner}\u200D*+(?={pictograph}))?+{picture}(?:{joined})*+"
    key_cap = rf"[#*](?:{plain}*+\uFE0F\u20E3{plain}*+|[{plain}--\u20E3]*+\u20E3{plain}*+)"
    flag = rf"(?:\p{{WB=Regional_Indicator}}{more}){{2}}"
    run = rf"(?:[\p{{LB=SA}}\u19DA]{more})++"
    single = rf"[\p{{Script=Han}}\p{{Script=Hiragana}}]{more}"
    return "|".join(f"(?:{rule})" for rule in (word, emoji, key_cap, flag, run, single))


@functools.cache
def _word(*, anywhere: bool = False) -> Any:
    import regex

    return regex.compile(_rules(anywhere=anywhere), regex.V1 | regex.POSIX)


@functools.cache
def _long_run() -> Any:
    """Matches runs of extending or leading characters that are longer than any word."""
    import regex

    return regex.compile(rf"[[{_EXTENDS}{_JOINS}]--\p{{Emoji_Modifier}}]{{{2 * LONGEST + 1},}}+", regex.V1)


def words(text: str) -> list[str]:
    """The words of the text in order, unchanged, without spaces and punctuation."""
    if text.isascii():
        found = _ascii_words(text)
    else:  # words never contain spaces, so only the pieces that need it go through the slower grammar
        found = []
        for piece in text.split(" "):
            found += _ascii_words(piece) if piece.isascii() else _other_words(piece)
    return _cut(text) if found and max(map(len, found)) > LONGEST // 2 else found


def _ascii_words(text: str) -> list[str]:
    found = _ASCII_WORD.findall(text)
    return [word for word in found if word.strip("_")] if "_" in text else found


def _other_words(piece: str) -> Sequence[str]:
    return _remembered(piece) if len(piece) < 40 else _unicode_words(piece)


@functools.lru_cache(_REMEMBERED)
def _remembered(piece: str) -> tuple[str, ...]:
    return tuple(_unicode_words(piece))


def _unicode_words(text: str) -> list[str]:
    return _word().findall(_UNCLASSED.sub(" ", text))  # type: ignore[no-any-return]


def _cut(text: str) -> list[str]:
    """The words of a text with very long ones, truncated to `LONGEST` units like in Lucene."""
    text, found, position = _long_run().sub(_shortened, _UNCLASSED.sub(" ", text)), [], 0
    word = _word(anywhere=True)
    while position < len(text):
        # Limited to a window: otherwise every cut would scan to the end of a very long token.
        match = word.search(text, position, position + 2 * LONGEST)
        if match is None or match.start() >= position + LONGEST:
            position += LONGEST  # not to the match: an earlier start may have seen too short a window
            continue
        start, end = match.span()
        if (window := _reach(text, start)) < end:
            match = word.match(text, start, window)
            end = match.end() if match else start + 1
        if match:
            found.append(match[0])
        position = end
    return found


def _shortened(run: Any) -> str:
    """Shorten a long run to the parts at its ends that a word can include."""
    return f"{run[0][:LONGEST]} {run[0][-LONGEST:]}"


def _reach(text: str, start: int) -> int:
    """End of the last complete character within `LONGEST` UTF-16 units of the start."""
    ahead = text[start : start + LONGEST].encode("utf-16-le", "surrogatepass")[: 2 * LONGEST]
    return start + len(ahead.decode("utf-16-le", "ignore"))
