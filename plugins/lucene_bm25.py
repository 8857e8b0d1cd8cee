"""Lucene's BM25 without a JVM: its document lengths, its float32 arithmetic, its query weights; sums by bm25s.

Source of the formulas: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, in the form of Lucene 8
and later (no factor k1 + 1), with lengths kept in one byte. Term scores are float32, their sum float64, the total
float32 again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec import Document, Hits, Query
from plugins.lucene_analysis import analyse, term
from plugins.postings import Builder, InvertedFile, Postings
from plugins.word_break import words

Float32 = NDArray[np.float32]

FIELDS: dict[str, dict[str, Callable[[Document], str]]] = {
    "flat": {"contents": lambda document: document.content},
    "multifield": {
        "contents": lambda document: document.text,
        # Anserini leaves a document with an empty text out altogether, its title with it
        "title": lambda document: document.title if document.text.strip() else "",
    },
}


def stored_lengths() -> NDArray[np.int64]:
    """The 256 lengths that Lucene's one-byte norm can hold, ascending [256].

    Exact up to 40; from there three binary digits follow the leading one (SmallFloat.intToByte4).
    """
    steps = [mantissa << shift for shift in range(28) for mantissa in range(8, 16)]
    return np.array([*range(24), *(24 + length for length in [*range(8), *steps][: 256 - 24])])


class LuceneBM25:
    """`harness.spec.LexicalModel` on an inverted file per field."""

    def __init__(self, k1: float, b: float, fields: str) -> None:
        self._k1, self._b, self._fields = np.float32(k1), np.float32(b), FIELDS[fields]

    def build(self, documents: Iterable[Document], directory: Path) -> None:
        """Writes one inverted file per field, in folders named after the fields."""
        builders = [(Builder(directory / name, words, term), text) for name, text in self._fields.items()]
        for document in documents:
            for builder, text in builders:
                builder.add(text(document))
        for builder, _ in builders:
            builder.finish()

    def search(self, directory: Path, queries: Sequence[Query], k: int) -> Iterator[Hits]:
        """The k best documents of each query, and those that tie with the k-th."""
        fields = [_Field(directory / name, self._k1, self._b) for name in self._fields]
        for query in queries:
            asked = Counter(analyse(query.text))
            scored = [found for field in fields for found in field.scores(asked)]
            yield _best(scored, fields[0].documents, k)


class _Field:
    """One field's postings and what its statistics make of k1 and b."""

    def __init__(self, directory: Path, k1: np.float32, b: np.float32) -> None:
        self._file = InvertedFile(directory)
        lengths = self._file.lengths
        self.documents = len(lengths)
        self._filled = int(np.count_nonzero(lengths))
        average = np.float32(lengths.sum(dtype=np.int64) / max(self._filled, 1))
        table = stored_lengths()
        with np.errstate(divide="ignore", invalid="ignore"):  # k1 = 0, or documents without a term, never scored
            norms = np.float32(1) / (k1 * ((np.float32(1) - b) + b * table.astype(np.float32) / average))
        self._norms: Float32 = norms[np.searchsorted(table, lengths, side="right") - 1]

    def scores(self, asked: Counter[str]) -> Iterator[tuple[NDArray[np.int32], Float32]]:
        """Rows and scores [postings] of each term that this field holds; a repeated term weighs as often."""
        for name, times in asked.items():
            if postings := self._file[name]:
                yield postings.rows, self._score(postings, times)

    def _score(self, postings: Postings, times: int) -> Float32:
        frequency = len(postings.rows)
        idf = np.float32(np.log(1 + (self._filled - frequency + 0.5) / (frequency + 0.5)))
        weight = np.float32(times) * idf
        saturated = np.float32(1) + postings.counts.astype(np.float32) * self._norms[postings.rows]
        return weight - weight / saturated


def _best(scored: list[tuple[NDArray[np.int32], Float32]], documents: int, k: int) -> Hits:
    """The k documents with the highest sums, with all that tie with the k-th, best first."""
    if not scored:
        return Hits(np.zeros(0, np.int64), np.zeros(0))
    totals = _sum(scored, documents).astype(np.float32)
    rows = np.flatnonzero(totals)
    if len(rows) > k:
        kth = np.partition(totals[rows], -k)[-k]
        rows = rows[totals[rows] >= kth]
    rows = rows[np.argsort(-totals[rows], kind="stable")]
    return Hits(rows, totals[rows].astype(np.float64))


def _sum(scored: list[tuple[NDArray[np.int32], Float32]], documents: int) -> NDArray[np.float64]:
    """The total score of every document [documents], by bm25s's accumulator over this query's terms."""
    from bm25s import BM25

    scores: Any = {
        "data": np.concatenate([data for _, data in scored], dtype=np.float64),
        "indices": np.concatenate([rows for rows, _ in scored]),
        "indptr": np.cumsum([0, *(len(rows) for rows, _ in scored)]),
        "num_docs": documents,
    }
    index = BM25(dtype="float64", int_dtype="int32")
    index.scores, index.nonoccurrence_array = scores, None
    return index.get_scores_from_ids(np.arange(len(scored)))  # type: ignore[no-any-return]
