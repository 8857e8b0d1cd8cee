"""Terms of batches of texts as numbers, which are given in the order of their first appearance.

`TermNumbers` is the simple way. `CompiledTermNumbers` gives the same numbers by a compiled hash table over the letters:
only words that it has not seen become strings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness_plugins.bm25.word_break_batch import WordArray, WordSpans

Int32 = NDArray[np.int32]
_SEEN = 1_000_000
"""Size of the cache from words to terms."""


class Numbered(NamedTuple):
    """The indexed words of a batch, in no particular order."""

    terms: Int32
    """The number of each word's term [words]."""
    rows: Int32
    """The text number of each word [words]."""


class TermNumbers(dict[str, int]):
    """Word -> number of its term (-1 for none)."""

    def __init__(self, words: Callable[[list[str]], WordArray], term: Callable[[str], str]) -> None:
        self.words, self.term, self.numbers = words, term, dict[str, int]()

    def __missing__(self, word: str) -> int:
        if len(self) >= _SEEN:
            self.clear()
        self[word] = number = self.number(word)
        return number

    def number(self, word: str) -> int:
        """The number of a word that is not in the cache."""
        term = self.term(word)
        return self.numbers.setdefault(term, len(self.numbers)) if term else -1

    def of(self, texts: list[str]) -> Numbered:
        """The terms of a batch of texts."""
        distinct, which, rows = self.words(texts)
        terms = np.array([self[word] for word in distinct], np.int32)[which]
        indexed = terms >= 0
        return Numbered(terms[indexed], rows[indexed])


class CompiledTermNumbers:
    """Continues the numbers of the simple way, at most `_SEEN` known words at a time."""

    def __init__(self, simple: TermNumbers, spans: Callable[[list[str]], WordSpans]) -> None:
        self._simple, self._spans = simple, spans
        self._known = 0
        self._slots = np.full(1 << 16, -1, np.int32)
        self._hashes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._starts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._letters: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._terms: Int32 = np.zeros(0, np.int32)
        """Number of each known word's term, -1 for none."""

    def of(self, texts: list[str]) -> Numbered:
        """As `TermNumbers.of`."""
        from harness_plugins.bm25.kernels import numbers

        letters, edges, rows, others = self._spans(texts)
        words = len(edges) // 2
        self._reserve(words, int((edges[1::2] - edges[::2]).sum()))
        found, fresh, before = np.empty(words, np.int32), np.empty(words, np.int64), self._known
        tables = self._slots, self._hashes, self._starts, self._letters
        self._known = numbers(letters, edges, *tables, before, found, fresh)
        places = fresh[: self._known - before]
        starts, ends = edges[2 * places].tolist(), edges[2 * places + 1].tolist()
        whole = letters.tobytes() if starts else b""
        self._terms[before : self._known] = [
            self._term(whole[start:end].decode("ascii")) for start, end in zip(starts, ends, strict=True)
        ]
        terms = self._terms[found]
        if others:
            terms = np.concatenate([terms, np.array([self._simple[word] for _, word in others], np.int32)])
            rows = np.concatenate([rows, [row for row, _ in others]])
        indexed = terms >= 0
        return Numbered(terms[indexed], rows[indexed].astype(np.int32))

    def _term(self, word: str) -> int:
        number = self._simple.number(word)
        return number if word.strip("_") else -1

    def _reserve(self, words: int, letters: int) -> None:
        """Make room for a batch whose words may all be new."""
        from harness_plugins.bm25.kernels import rehash

        if self._known >= _SEEN:
            self._known = 0
            self._slots.fill(-1)
        most = self._known + words
        if 2 * most > len(self._slots):
            self._slots = np.full(1 << (2 * most).bit_length(), -1, np.int32)
            rehash(self._slots, self._hashes, self._known)
        self._hashes, self._terms = _longer(self._hashes, most), _longer(self._terms, most)
        self._starts = _longer(self._starts, most + 1)
        self._letters = _longer(self._letters, int(self._starts[self._known]) + letters)


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    """The array with room for so many values, and for half as many again where it has to grow."""
    if len(array) >= length:
        return array
    longer = np.zeros(length + length // 2, array.dtype)
    longer[: len(array)] = array
    return longer
