"""Lucene's English analysis as configured by Anserini (DefaultEnglishAnalyzer with the Porter stemmer).

Tokenises with `harness_plugins.bm25.word_break`, removes possessive 's, lower-cases, removes stop words and stems.
"""

from __future__ import annotations

import functools

from harness_plugins.bm25.stemmer import stem
from harness_plugins.bm25.word_break import words

VERSION = "lucene-9.9-english-porter"
"""Increased whenever the same text would give other terms."""

_STOPS = """a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with"""
STOP_WORDS = frozenset(_STOPS.split())
_REMEMBERED = 200_000
"""Size of the cache from words to terms."""
TRIMMED = "".join(map(chr, range(0x21)))
"""White space of Java's `trim`: Anserini skips documents that consist of it."""
_APOSTROPHES = ("'", "\u2019", "\uff07")


@functools.lru_cache(_REMEMBERED)
def term(word: str) -> str:
    """The index term of a word; empty for a stop word."""
    if len(word) > 1 and word[-1] in "sS" and word[-2] in _APOSTROPHES:
        word = word[:-2]
    word = word.lower() if word.isascii() else "".join(map(_lower, word))
    return "" if word in STOP_WORDS else stem(word)


def _lower(letter: str) -> str:
    """Simple lower case of one character, as in Java: without context rules or expansions."""
    return "i" if letter == "\u0130" else letter.lower()


def analyse(text: str) -> list[str]:
    """The terms of a text in order, without stop words."""
    return [found for word in words(text) if (found := term(word))]
