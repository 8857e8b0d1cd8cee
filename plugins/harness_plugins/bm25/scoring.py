"""Lucene's BM25 without a JVM: document lengths, float32 arithmetic and query weights as in Lucene.

Source of the formulas: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, in the form of Lucene 8
and later (no factor k1 + 1), with lengths encoded in one byte. Term scores are float32, summed in float64, and the
total is rounded to float32. Many queries or documents use a compiled loop for the same sums in the same order, and all
cores: a query's result depends on nothing but the query and the index.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.system.processor import threads
from harness.types import Document, Hits, Query
from harness_plugins.bm25.analysis import TRIMMED, analyse, term
from harness_plugins.bm25.inverted_index import Builder, InvertedFile
from harness_plugins.bm25.word_break_batch import word_array, word_spans

Float32 = NDArray[np.float32]
Asked = Mapping[str, int]
"""The terms of a query and how often it has them, in the order of their first appearance."""

TOGETHER = 2_000_000
"""Postings with scores in memory for a batch of queries: 50 MB."""
COMPILED = 5_000_000
"""Queries times documents from which importing numba (half a second) is worth it."""
TOGETHER_COMPILED = 256
"""Queries handed to the threads at a time."""
NOTHING = Hits(np.zeros(0, np.int64), np.zeros(0))

FIELDS: dict[str, dict[str, Callable[[Document], str]]] = {
    "flat": {"contents": lambda document: document.content},
    "multifield": {
        "contents": lambda document: document.text,
        # Anserini skips documents with an empty text, including their titles
        "title": lambda document: document.title if document.text.strip(TRIMMED) else "",
    },
}


def stored_lengths() -> NDArray[np.int64]:
    """The 256 document lengths that Lucene's one-byte norm can represent, ascending [256].

    Exact up to 40, then three bits after the leading one (SmallFloat.intToByte4).
    """
    steps = [mantissa << shift for shift in range(28) for mantissa in range(8, 16)]
    return np.array([*range(24), *(24 + length for length in [*range(8), *steps][: 256 - 24])])


class LuceneBM25:
    """`harness.types.LexicalModel` with one inverted index per field."""

    def __init__(self, k1: float, b: float, fields: str) -> None:
        self._k1, self._b, self._fields = np.float32(k1), np.float32(b), FIELDS[fields]

    def build(self, documents: Iterable[Document], directory: Path) -> None:
        """Write one inverted index per field, in folders named after the fields."""
        builders = [
            (Builder(directory / name, word_array, term, spans=word_spans), text) for name, text in self._fields.items()
        ]
        for document in documents:
            for builder, text in builders:
                builder.add(text(document))
        for builder, _ in builders:
            builder.finish()

    def search(self, directory: Path, queries: Sequence[Query], k: int) -> Iterator[Hits]:
        """The top k documents of each query, plus ties with the k-th."""
        asked = [Counter(analyse(query.text)) for query in queries]
        terms = {term for query in asked for term in query}
        fields = [_Field(directory / name, self._k1, self._b, terms) for name in self._fields]
        yield from (_by_kernel if _worth_compiling(len(asked) * fields[0].documents) else _by_bm25s)(fields, asked, k)


def _worth_compiling(size: int) -> bool:
    """Whether compiled loops are there, and import numba in less time than they save."""
    return "numba" in sys.modules or (size >= COMPILED and importlib.util.find_spec("numba") is not None)


def _by_bm25s(fields: Sequence[_Field], asked: Sequence[Asked], k: int) -> Iterator[Hits]:
    """The hits of each query: the reference for `_by_kernel`."""
    waiting = _Batch(fields)
    for query in asked:
        waiting.add(query)
        if waiting.postings > TOGETHER:
            yield from waiting.search(k)
            waiting = _Batch(fields)
    yield from waiting.search(k)


def _by_kernel(fields: Sequence[_Field], asked: Sequence[Asked], k: int) -> Iterator[Hits]:
    """The same hits by a compiled loop, in as many threads as there are cores."""
    from harness_plugins.bm25.kernels import memory

    arrays = tuple(field.postings for field in fields), tuple(field.norms for field in fields)
    own = local()

    def search(query: Asked) -> Hits:
        found = [
            (place, *span, field.weight(span, times))
            for place, field in enumerate(fields)
            for term, times in query.items()
            if (span := field.span(term))
        ]
        if not found:
            return NOTHING
        *places, weights = zip(*found, strict=True)
        terms: tuple[NDArray[Any], ...] = (
            *(np.array(each, np.int64) for each in places),
            np.array(weights, np.float32),
        )
        if not hasattr(own, "memory"):
            own.memory = memory()
        hits = _best_by_kernel(*arrays, terms, k, own.memory)
        return hits if hits is not None else next(_by_bm25s(fields, [query], k))

    with ThreadPoolExecutor(threads(), "bm25") as pool:
        for start in range(0, len(asked), TOGETHER_COMPILED):
            yield from pool.map(search, asked[start : start + TOGETHER_COMPILED])


def _best_by_kernel(
    postings: tuple[NDArray[np.int32], ...],
    norms: tuple[Float32, ...],
    terms: tuple[NDArray[Any], ...],
    k: int,
    memory: tuple[NDArray[Any], ...],
) -> Hits | None:
    """The k best documents and all ties with the k-th; None if a score vanishes in float32."""
    from harness_plugins.bm25.kernels import best

    rows, scores, first, least = np.zeros(0, np.int32), np.zeros(0, np.float32), 0, np.float32(0)
    while first < len(norms[0]):
        first, size, vanishing = best(postings, norms, *terms, first, least, memory)
        if vanishing:
            memory[0].fill(0)
            return None
        rows, scores = (np.concatenate([old, new[:size]]) for old, new in zip((rows, scores), memory[3:], strict=True))
        if len(scores) > k:
            least = np.partition(scores, -k)[-k]
            rows, scores = rows[scores >= least], scores[scores >= least]
    return _ordered(rows, scores)


class _Field:
    """One field's postings and precomputed BM25 factors."""

    def __init__(self, directory: Path, k1: np.float32, b: np.float32, terms: Collection[str]) -> None:
        file = InvertedFile(directory, terms)
        self.span, self.postings = file.span, file.postings
        self.documents = len(file.lengths)
        self._filled = int(np.count_nonzero(file.lengths))
        average = np.float32(file.lengths.sum(dtype=np.int64) / max(self._filled, 1))
        table = stored_lengths()
        with np.errstate(divide="ignore", invalid="ignore"):  # k1 = 0, or documents without terms (never scored)
            norms = np.float32(1) / (k1 * ((np.float32(1) - b) + b * table.astype(np.float32) / average))
        self.norms: Float32 = norms[np.searchsorted(table, file.lengths, side="right") - 1]
        """1 / (k1 (1 - b + b length / average)) [documents]."""

    def weight(self, span: tuple[int, int], times: int) -> np.float32:
        """Of a term with these postings and this frequency in the query."""
        frequency = span[1] - span[0]
        idf = np.float32(np.log(1 + (self._filled - frequency + 0.5) / (frequency + 0.5)))
        return np.float32(times) * idf

    def column(self, name: str, times: int) -> tuple[NDArray[np.int32], Float32] | None:
        """Rows and scores [postings] of a term with this frequency in the query; None for an unknown term."""
        if (span := self.span(name)) is None:
            return None
        rows, counts = self.postings[slice(*span)].T
        weight = self.weight(span, times)
        return rows, weight - weight / (np.float32(1) + counts.astype(np.float32) * self.norms[rows])


class _Batch:
    """A batch of queries that share the scores of terms with the same query frequency."""

    def __init__(self, fields: Sequence[_Field]) -> None:
        self._fields = fields
        self._numbers: dict[tuple[int, str, int], int] = {}
        """(field, term, query frequency) -> number of its column; -1 for an unknown term."""
        self._columns: list[tuple[NDArray[np.int32], Float32]] = []
        self._vanishing: set[int] = set()
        """Columns with a score of 0, the float32 result of a very large k1; their documents are still hits."""
        self._asked: list[list[int]] = []
        self.postings = 0
        """Postings of all columns."""

    def add(self, query: Asked) -> None:
        """Add a query."""
        numbers = (self._number((place, *entry)) for place in range(len(self._fields)) for entry in query.items())
        self._asked.append([number for number in numbers if number >= 0])

    def _number(self, key: tuple[int, str, int]) -> int:
        if (number := self._numbers.get(key)) is None:
            found = self._fields[key[0]].column(*key[1:])
            number = self._numbers[key] = len(self._columns) if found else -1
            if found:
                self._columns.append(found)
                self.postings += len(found[0])
                if not found[1].all():
                    self._vanishing.add(number)
        return number

    def search(self, k: int) -> Iterator[Hits]:
        """The hits of each query, in order, summed by bm25s."""
        if not self._columns:
            yield from (NOTHING for _ in self._asked)
            return
        from bm25s import BM25

        scores: Any = {
            "data": np.concatenate([data for _, data in self._columns], dtype=np.float64),
            "indices": np.concatenate([rows for rows, _ in self._columns]),
            "indptr": np.cumsum([0, *(len(rows) for rows, _ in self._columns)]),
            "num_docs": self._fields[0].documents,
        }
        index = BM25(dtype="float64", int_dtype="int32")
        index.scores, index.nonoccurrence_array = scores, None
        for asked in self._asked:
            if self._vanishing.isdisjoint(asked):
                yield _best(index.get_scores_from_ids(asked), k) if asked else NOTHING
            else:
                rows = np.unique(np.concatenate([self._columns[number][0] for number in asked]))
                hits = _best(index.get_scores_from_ids(asked)[rows], k, positive=False)
                yield Hits(rows[hits.rows].astype(np.int64), hits.scores)


def _best(totals: NDArray[np.float64], k: int, *, positive: bool = True) -> Hits:
    """The k documents with the highest totals [documents] and all ties with the k-th, best first.

    With ``positive``, documents with a total of 0 are excluded.
    """
    scores = totals.astype(np.float32)
    least = np.sort(scores)[-k] if len(scores) > k else np.float32(0)  # vectorised; np.partition is slower
    rows = np.flatnonzero(scores >= least if least > 0 or not positive else scores > 0)
    return _ordered(rows, scores[rows])


def _ordered(rows: NDArray[Any], scores: Float32) -> Hits:
    """Hits sorted by score, then by row. Non-negative floats sort like their bits: one integer sort does it."""
    keys = (~scores.view(np.int32)).astype(np.int64) << 32 | rows
    keys.sort()
    return Hits(keys & 0xFFFFFFFF, (~(keys >> 32)).astype(np.int32).view(np.float32).astype(np.float64))
