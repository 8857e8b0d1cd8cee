"""Vectorised `harness_plugins.bm25.word_break` for a batch of documents.

Whether a byte of ASCII text belongs to a word depends on its class and, for the few marks that join words, on its two
neighbours, so no loop over words is needed. Only pieces with other characters or very long words use the grammar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness_plugins.bm25.word_break import LONGEST, words

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]

_LETTER, _DIGIT, _LINE, _JOINS = 1, 2, 4, 3
"""Byte classes; the class that a mark joins is shifted by `_JOINS`."""
_IN_WORD = _LETTER | _DIGIT | _LINE


def _classes() -> Bytes:
    """Class of each byte in ASCII text [256]."""
    table = np.zeros(256, np.uint8)
    letters = b"abcdefghijklmnopqrstuvwxyz"
    for members, kind in (
        (letters + letters.upper(), _LETTER),
        (b"0123456789", _DIGIT),
        (b"_", _LINE),
        (b".':", _LETTER << _JOINS),
        (b".',;", _DIGIT << _JOINS),
    ):
        table[list(members)] |= kind
    return table


_CLASSES = _classes()


class WordArray(NamedTuple):
    """The words of a batch of texts, grouped by text but unordered within one."""

    distinct: list[str]
    """Distinct words; those of ASCII text in lower case."""
    which: NDArray[np.int32]
    """Index into ``distinct`` of each word [words]."""
    rows: NDArray[np.int32]
    """Text number of each word [words]."""


class WordSpans(NamedTuple):
    """The same words as places in the text."""

    letters: Bytes
    """The text in lower case."""
    edges: Positions
    """Alternating starts and ends of the words of ASCII text [2 x words]; some may consist of underscores."""
    rows: NDArray[np.int64]
    """Text number of each [words]."""
    others: list[tuple[int, str]]
    """Text number of each other word, and the word."""


def word_spans(texts: Sequence[str]) -> WordSpans:
    """Find the words of a batch of texts without making a string of each."""
    whole, _, edges, text_ends, others = _found(texts)
    places = np.searchsorted(text_ends, [start for start, _ in others]).tolist()
    return WordSpans(
        np.frombuffer(whole.lower(), np.uint8),
        edges,
        np.searchsorted(text_ends, edges[::2]),
        [(row, word) for row, (_, word) in zip(places, others, strict=True)],
    )


def word_array(texts: Sequence[str]) -> WordArray:
    """Equivalent of `harness_plugins.bm25.word_break.words` for each of the texts."""
    whole, inside, edges, text_ends, others = _found(texts)
    distinct, which = _encoded(np.frombuffer(whole.lower(), np.uint8)[inside], edges)
    rows = np.searchsorted(text_ends, edges[::2])
    if b"_" in whole:
        real = np.array([word.strip("_") != "" for word in distinct], bool)[which]
        which, rows = which[real], rows[real]
    if others:
        numbers = {word: number for number, word in enumerate(distinct)}
        which = np.concatenate([which, [numbers.setdefault(word, len(numbers)) for _, word in others]])
        rows = np.concatenate([rows, np.searchsorted(text_ends, [start for start, _ in others])])
        distinct = list(numbers)
    return WordArray(distinct, which.astype(np.int32, copy=False), rows.astype(np.int32, copy=False))


def _found(texts: Sequence[str]) -> tuple[bytes, Flags, Positions, Positions, list[tuple[int, str]]]:
    """The texts with spaces around each; which bytes are in ASCII words, their edges; ends of texts; other words."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
    text_ends = np.cumsum(sizes + 1)  # words cannot span the spaces put around every text
    whole = b" %b " % b" ".join(encoded)
    data = np.frombuffer(whole, np.uint8)
    inside = _inside(data)
    others: list[tuple[int, str]] = [] if whole.isascii() else _others(whole, inside, np.flatnonzero(data >= 0x80))
    edges = _edges(inside)
    if (long := edges[::2][np.diff(edges)[::2] > LONGEST // 2]).size:
        others += _others(whole, inside, long)
        edges = _edges(inside)
    return whole, inside, edges, text_ends, others


def _inside(data: Bytes) -> Flags:
    """Whether each byte of ASCII text belongs to a word [bytes]; the ends must be spaces."""
    kinds = _CLASSES[data]
    inside: Flags = (kinds & _IN_WORD) != 0
    marks = np.flatnonzero(kinds > _IN_WORD)
    joined = kinds[marks - 1] & kinds[marks + 1] & (kinds[marks] >> _JOINS)
    inside[marks[joined != 0]] = True
    return inside


def _edges(inside: Flags) -> Positions:
    """Alternating starts and ends of words [2 x words]."""
    return np.flatnonzero(inside[1:] != inside[:-1]) + 1


def _others(whole: bytes, inside: Flags, positions: Positions) -> list[tuple[int, str]]:
    """Words, with the start of their pieces, of the space-separated pieces that contain these positions.

    Removes the pieces from ``inside``.
    """
    spaces = np.flatnonzero(np.frombuffer(whole, np.uint8) == ord(" "))
    after = np.unique(np.searchsorted(spaces, positions))
    found = []
    for start, stop in zip((spaces[after - 1] + 1).tolist(), spaces[after].tolist(), strict=True):
        inside[start:stop] = False
        found += [(start, word) for word in words(whole[start:stop].decode("utf-8", "surrogatepass"))]
    return found


def _encoded(letters: Bytes, edges: Positions) -> tuple[list[str], NDArray[np.int32]]:
    """Distinct words, and each word's index among them, from the concatenated letters."""
    import pyarrow

    ends = np.concatenate([[0], np.cumsum(edges[1::2] - edges[::2])])
    buffers = pyarrow.py_buffer(ends), pyarrow.py_buffer(letters)
    found = pyarrow.LargeStringArray.from_buffers(len(ends) - 1, *buffers).dictionary_encode()
    which = np.frombuffer(found.indices.buffers()[1], np.int32, len(ends) - 1)  # to_numpy() would import pandas
    return found.dictionary.to_pylist(), which
