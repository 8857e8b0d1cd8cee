"""Inverted index: for every term, its documents and term frequencies.

Built from a stream in bounded memory: postings are collected in arrays, sorted and spilled to an anonymous temporary
file when full, then merged by ranges of terms. Read memory-mapped. Files: vocabulary.txt (one term per line),
offsets.npy int64 [terms + 1], postings.npy int32 [postings, 2] (document, count; documents ascending within a term),
lengths.npy int32 [documents].
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.storage.atomic import write_file
from harness.storage.regular_files import regular

FORMAT = 1
"""Version of the file format."""
Int32 = NDArray[np.int32]
_FILL = 2_000_000
"""Postings in memory before a spill, and merged at a time: 200 MB at the peak."""
_BATCH = 1 << 20
"""Characters of text tokenised in one batch."""
_SEEN = 1_000_000
"""Size of the cache from words to terms."""


class _Terms(dict[str, int]):
    """Word -> number of its term (-1 for none); terms are numbered in order of appearance."""

    def __init__(self, term: Callable[[str], str]) -> None:
        self.term, self.numbers = term, dict[str, int]()

    def __missing__(self, word: str) -> int:
        term = self.term(word)
        if len(self) >= _SEEN:
            self.clear()
        self[word] = number = self.numbers.setdefault(term, len(self.numbers)) if term else -1
        return number


class Builder:
    """Collects one field's texts in document order, then writes the index.

    ``words`` tokenises a batch of texts (see `harness_plugins.bm25.word_break_batch.WordArray`); ``term`` maps a word
    to its term, empty for none.
    """

    def __init__(
        self,
        directory: Path,
        words: Callable[[list[str]], tuple[list[str], Int32, Int32]],
        term: Callable[[str], str],
        fill: int = _FILL,
        batch: int = _BATCH,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._directory, self._words, self._fill, self._batch = directory, words, fill, batch
        self._terms = _Terms(term)
        self._texts: list[str] = []
        self._letters = 0
        self._held: list[tuple[Int32, Int32]] = []
        self._scratch: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 closed by finish
        self._pieces: list[tuple[int, int]] = []
        self._lengths: list[Int32] = []
        self._documents = self._waiting = 0

    def add(self, text: str) -> None:
        """Add the next document."""
        self._texts.append(text)
        self._letters += len(text) + 1
        if self._letters >= self._batch:
            self._count()

    def _count(self) -> None:
        """Convert the buffered texts to terms and rows, counted from the last spill."""
        distinct, which, rows = self._words(self._texts)
        terms = np.array([self._terms[word] for word in distinct], np.int32)[which]
        indexed = terms >= 0
        self._held.append((terms[indexed], rows[indexed] + np.int32(self._waiting)))
        self._waiting += len(self._texts)
        self._texts, self._letters = [], 0
        if sum(len(terms) for terms, _ in self._held) >= self._fill:
            self._spill()

    def _spill(self) -> None:
        documents = self._waiting
        terms, rows = map(np.concatenate, zip(*self._held, strict=True))
        self._lengths.append(np.bincount(rows, minlength=documents).astype(np.int32))
        keys, counts = np.unique(terms.astype(np.int64) * documents + rows, return_counts=True)
        piece = np.stack([keys // documents, keys % documents + self._documents, counts]).astype(np.int32)
        self._pieces.append((self._scratch.tell(), len(keys)))
        self._scratch.write(piece.tobytes())
        self._documents += documents
        self._held, self._waiting = [], 0

    def finish(self) -> None:
        """Write the index of all documents added."""
        if self._texts:
            self._count()
        if self._held:
            self._spill()
        self._scratch.flush()
        pieces = [
            np.memmap(self._scratch, np.int32, "r", start, (3, postings))
            for start, postings in self._pieces
            if postings
        ]
        frequencies = np.zeros(len(self._terms.numbers), np.int64)
        for piece in pieces:
            frequencies += np.bincount(piece[0], minlength=len(frequencies))
        offsets = np.concatenate([[0], np.cumsum(frequencies)])
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        write_file(self._directory / "postings.npy", lambda stream: _write(stream, pieces, offsets, self._fill))
        write_file(self._directory / "offsets.npy", lambda stream: np.save(stream, offsets, allow_pickle=False))
        write_file(self._directory / "lengths.npy", lambda stream: np.save(stream, lengths, allow_pickle=False))
        vocabulary = "".join(f"{term}\n" for term in self._terms.numbers)
        write_file(self._directory / "vocabulary.txt", lambda stream: stream.write(vocabulary.encode()))
        self._scratch.close()


def _write(stream: IO[bytes], pieces: Sequence[Int32], offsets: NDArray[np.int64], fill: int) -> None:
    """Merge the spilled pieces (sorted by term, then document), about ``fill`` postings at a time."""
    header = {"descr": "<i4", "fortran_order": False, "shape": (int(offsets[-1]), 2)}
    np.lib.format.write_array_header_1_0(stream, header)
    first = 0
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + fill, side="right")) - 1)
        ends = np.array([first, last], np.int32)  # same dtype as the pieces, which would otherwise be converted in full
        slices = [piece[:, slice(*np.searchsorted(piece[0], ends))] for piece in pieces]
        terms, rows, counts = np.concatenate(slices, axis=1)
        order = np.argsort(terms, kind="stable")
        stream.write(np.stack([rows[order], counts[order]], axis=1).astype("<i4", copy=False).tobytes())
        first = last


class Postings(NamedTuple):
    """A term's documents in ascending order, and their term frequencies."""

    rows: Int32
    counts: Int32


class InvertedFile:
    """Reads what `Builder` wrote."""

    def __init__(self, directory: Path) -> None:
        terms = regular(directory / "vocabulary.txt").read_text("utf-8").split("\n")[:-1]
        self._numbers = {term: number for number, term in enumerate(terms)}
        self._offsets = np.load(regular(directory / "offsets.npy"), allow_pickle=False)
        mapped = np.load(regular(directory / "postings.npy"), mmap_mode="r", allow_pickle=False)
        self._postings: Int32 = np.asarray(mapped)  # slicing a plain array is ten times cheaper than slicing a memmap
        self.lengths: Int32 = np.load(regular(directory / "lengths.npy"), allow_pickle=False)
        """Document lengths in terms [documents]."""

    def __getitem__(self, term: str) -> Postings | None:
        """The term's postings; None for an unknown term."""
        if (number := self._numbers.get(term)) is None:
            return None
        return Postings(*self._postings[self._offsets[number] : self._offsets[number + 1]].T)
