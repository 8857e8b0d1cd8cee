"""Inverted index: for every term, its documents and term frequencies.

Built from a stream in bounded memory: postings are collected in arrays, sorted and spilled to an anonymous temporary
file when full, then merged by ranges of terms; only the vocabulary grows with the corpus. Texts are read while those
before them are tokenised, in a second thread. Read memory-mapped. Files: vocabulary.txt (one term per line),
offsets.npy int64 [terms + 1], postings.npy int32 [postings, 2] (document, count; documents ascending within a term),
lengths.npy int32 [documents].
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.storage.atomic import write_file
from harness.storage.regular_files import regular
from harness_plugins.bm25.term_numbers import CompiledTermNumbers, Numbered, TermNumbers
from harness_plugins.bm25.word_break_batch import WordArray, WordSpans

FORMAT = 1
"""Version of the file format."""
Int32 = NDArray[np.int32]
_FILL = 2_000_000
"""Postings in memory before a spill, and merged at a time: 200 MB at the peak."""
_BATCH = 1 << 20
"""Characters of text tokenised in one batch."""
COMPILED = 1 << 24
"""Characters of text from which importing numba, or compiling once, is worth it."""


class Builder:
    """Collects one field's texts in document order, then writes the index.

    ``words`` tokenises a batch of texts (see `harness_plugins.bm25.word_break_batch.WordArray`), and so does ``spans``
    for the compiled way, which large corpora take where it is given; ``term`` maps a word to its term, empty for none.
    """

    def __init__(
        self,
        directory: Path,
        words: Callable[[list[str]], WordArray],
        term: Callable[[str], str],
        fill: int = _FILL,
        batch: int = _BATCH,
        spans: Callable[[list[str]], WordSpans] | None = None,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._directory, self._fill, self._batch, self._spans = directory, fill, batch, spans
        self._simple = TermNumbers(words, term)
        self._compiled: CompiledTermNumbers | None = None
        self._texts: list[str] = []
        self._letters = self._all_letters = 0
        self._thread, self._busy = ThreadPoolExecutor(1, "index"), Future[None]()
        self._busy.set_result(None)
        self._held: list[Numbered] = []
        self._scratch: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 closed by finish
        self._pieces: list[_Piece] = []
        self._frequencies: NDArray[np.int64] = np.zeros(0, np.int64)
        self._lengths: list[Int32] = []
        self._documents = self._waiting = 0

    def add(self, text: str) -> None:
        """Add the next document."""
        self._texts.append(text)
        self._letters += len(text) + 1
        if self._letters >= self._batch:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the thread count the buffered texts, once it is done with those before."""
        self._busy.result()
        self._all_letters += self._letters
        self._busy = self._thread.submit(self._count, self._texts)
        self._texts, self._letters = [], 0

    def _count(self, texts: list[str]) -> None:
        """Convert texts to terms and rows, counted from the last spill."""
        if self._compiled is None and self._spans is not None and _worth_compiling(self._all_letters):
            self._compiled = CompiledTermNumbers(self._simple, self._spans)
        terms, rows = (self._compiled or self._simple).of(texts)
        self._held.append(Numbered(terms, rows + np.int32(self._waiting)))
        self._waiting += len(texts)
        if sum(len(terms) for terms, _ in self._held) >= self._fill:
            self._spill()

    def _spill(self) -> None:
        terms, rows = map(np.concatenate, zip(*self._held, strict=True))
        self._held = []
        self._lengths.append(np.bincount(rows, minlength=self._waiting).astype(np.int32))
        sort = _sorted_by_kernel if self._compiled else _sorted
        piece = sort(terms, rows, len(self._simple.numbers), self._waiting, self._documents)
        self._count_postings(piece)
        self._pieces.append(_Piece(self._scratch, self._scratch.tell(), piece.shape[1]))
        self._scratch.write(piece.tobytes())
        self._documents += self._waiting
        self._waiting = 0

    def _count_postings(self, piece: Int32) -> None:
        frequencies = np.bincount(piece[0], minlength=len(self._simple.numbers))
        frequencies[: len(self._frequencies)] += self._frequencies
        self._frequencies = frequencies

    def finish(self) -> None:
        """Write the index of all documents added."""
        if self._texts:
            self._hand_over()
        self._busy.result()
        self._thread.shutdown()
        if self._held:
            self._spill()
        self._scratch.flush()
        offsets = np.concatenate([[0], np.cumsum(self._frequencies)])
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        merge = _merged_by_kernel if self._compiled else _merged
        write_file(
            self._directory / "postings.npy", lambda stream: _write(stream, self._pieces, offsets, self._fill, merge)
        )
        write_file(self._directory / "offsets.npy", lambda stream: np.save(stream, offsets, allow_pickle=False))
        write_file(self._directory / "lengths.npy", lambda stream: np.save(stream, lengths, allow_pickle=False))
        vocabulary = "".join(f"{term}\n" for term in self._simple.numbers)
        write_file(self._directory / "vocabulary.txt", lambda stream: stream.write(vocabulary.encode()))
        self._scratch.close()


def _worth_compiling(letters: int) -> bool:
    """Whether compiled loops are there, and import numba in less time than they save."""
    return "numba" in sys.modules or (letters >= COMPILED and importlib.util.find_spec("numba") is not None)


def _sorted(terms: Int32, rows: Int32, count: int, documents: int, first: int) -> Int32:
    """The postings of some words: term, document, count [3, postings], sorted by term, then document."""
    keys, counts = np.unique(terms.astype(np.int64) * documents + rows, return_counts=True)
    return np.stack([keys // documents, keys % documents + first, counts]).astype(np.int32)


def _sorted_by_kernel(terms: Int32, rows: Int32, count: int, documents: int, first: int) -> Int32:
    """As `_sorted`."""
    from harness_plugins.bm25.kernels import postings

    if (np.diff(rows) < 0).any():  # words beyond ASCII come last in their batch
        order = np.argsort(rows, kind="stable")
        terms, rows = terms[order], rows[order]
    piece = np.empty((3, len(terms)), np.int32)
    return piece[:, : postings(terms, rows, count, first, piece)]


class _Piece(NamedTuple):
    """Spilled postings: term, document, count [3, postings], sorted by term, then document."""

    file: IO[bytes]
    start: int
    postings: int

    def before(self, term: int) -> int:
        """How many postings are of the terms before this one."""
        if not self.postings:
            return 0
        terms = np.memmap(self.file, np.int32, "r", self.start, (self.postings,))
        return int(np.searchsorted(terms, np.int32(term)))  # of the same dtype: the terms would be converted in full

    def read(self, first: int, last: int) -> Int32:
        """These postings. Read, not mapped: mapped pages would count as memory of the process."""
        width = np.dtype(np.int32).itemsize
        rows = (self.start + width * (row * self.postings + first) for row in range(3))
        parts = [os.pread(self.file.fileno(), width * (last - first), place) for place in rows]
        return np.frombuffer(b"".join(parts), np.int32).reshape(3, -1)


Merge = Callable[[Sequence[Int32], NDArray[np.int64], int], Int32]


def _write(stream: IO[bytes], pieces: Sequence[_Piece], offsets: NDArray[np.int64], fill: int, merge: Merge) -> None:
    """Merge the spilled pieces (sorted by term, then document), about ``fill`` postings at a time."""
    header = {"descr": "<i4", "fortran_order": False, "shape": (int(offsets[-1]), 2)}
    np.lib.format.write_array_header_1_0(stream, header)
    first, starts = 0, [0] * len(pieces)
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + fill, side="right")) - 1)
        stops = [piece.before(last) for piece in pieces]
        slices = [piece.read(start, stop) for piece, start, stop in zip(pieces, starts, stops, strict=True)]
        stream.write(merge(slices, offsets[first : last + 1], first).astype("<i4", copy=False).tobytes())
        first, starts = last, stops


def _merged(pieces: Sequence[Int32], offsets: NDArray[np.int64], first: int) -> Int32:
    """Document and count of the postings of some terms [postings, 2], by term, then document."""
    terms, rows, counts = np.concatenate(pieces, axis=1)
    order = np.argsort(terms, kind="stable")
    return np.stack([rows[order], counts[order]], axis=1)


def _merged_by_kernel(pieces: Sequence[Int32], offsets: NDArray[np.int64], first: int) -> Int32:
    """As `_merged`."""
    from harness_plugins.bm25.kernels import merge

    places, merged = offsets[:-1] - offsets[0], np.empty((int(offsets[-1] - offsets[0]), 2), np.int32)
    for piece in pieces:
        merge(piece, first, places, merged)
    return merged


class Postings(NamedTuple):
    """A term's documents in ascending order, and their term frequencies."""

    rows: Int32
    counts: Int32


class InvertedFile:
    """Reads what `Builder` wrote; of the vocabulary only the terms asked for, if ``terms`` are given."""

    def __init__(self, directory: Path, terms: Collection[str] | None = None) -> None:
        with regular(directory / "vocabulary.txt").open(encoding="utf-8", newline="\n") as lines:
            numbered = enumerate(line[:-1] for line in lines)
            self._numbers = {term: number for number, term in numbered if terms is None or term in terms}
        self._offsets = np.load(regular(directory / "offsets.npy"), allow_pickle=False)
        mapped = np.load(regular(directory / "postings.npy"), mmap_mode="r", allow_pickle=False)
        self.postings: Int32 = np.asarray(mapped)  # slicing a plain array is ten times cheaper than slicing a memmap
        """Document and count of every posting [postings, 2]."""
        self.lengths: Int32 = np.load(regular(directory / "lengths.npy"), allow_pickle=False)
        """Document lengths in terms [documents]."""

    def span(self, term: str) -> tuple[int, int] | None:
        """Where the term's postings begin and end; None for an unknown term."""
        if (number := self._numbers.get(term)) is None:
            return None
        return int(self._offsets[number]), int(self._offsets[number + 1])

    def __getitem__(self, term: str) -> Postings | None:
        """The term's postings; None for an unknown term."""
        if (found := self.span(term)) is None:
            return None
        return Postings(*self.postings[slice(*found)].T)
