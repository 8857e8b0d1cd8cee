"""Lucene's English analysis as Anserini sets it up (DefaultEnglishAnalyzer with the Porter stemmer).

Words by `harness_plugins.bm25.word_break`, then: possessive 's off, lower case, stop words out, Porter stems.
"""

from __future__ import annotations

import functools

from harness_plugins.bm25.stemmer import stem
from harness_plugins.bm25.word_break import words

VERSION = "lucene-9.9-english-porter"
"""Changes whenever the same text would give other terms."""

_STOPS = """a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with"""
STOP_WORDS = frozenset(_STOPS.split())
_REMEMBERED = 200_000
"""Words whose terms are remembered."""
TRIMMED = "".join(map(chr, range(0x21)))
"""What Java's `trim` takes for white space: Anserini leaves out a document whose text is made of it."""
_APOSTROPHES = ("'", "\u2019", "\uff07")


@functools.lru_cache(_REMEMBERED)
def term(word: str) -> str:
    """The term that a word of a text is indexed under; empty for a stop word."""
    if len(word) > 1 and word[-1] in "sS" and word[-2] in _APOSTROPHES:
        word = word[:-2]
    word = word.lower() if word.isascii() else "".join(map(_lower, word))
    return "" if word in STOP_WORDS else stem(word)


def _lower(letter: str) -> str:
    """One letter's simple lower case, as Java maps single characters: no final sigma, no second letter after an i."""
    return "i" if letter == "\u0130" else letter.lower()


def analyse(text: str) -> list[str]:
    """The terms of a text in order, stop words left out."""
    return [found for word in words(text) if (found := term(word))]
