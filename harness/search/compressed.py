"""Compressed vectors in memory: float16, int8 or one bit a dimension, searched exactly as far as they tell.

The compression is that of `sentence_transformers.quantization`: int8 codes are 255 steps between the smallest and the
largest value of each dimension over the corpus (queries beyond are clipped), bits say which values are above 0. As
there, int8 codes are compared by their inner product (for Euclidean models by their distance) and bits by the Hamming
distance. Products of codes are integers that float32 holds exactly, so no order depends on rounding or threads; all
documents that tie with the k-th are found. The codes of a corpus are held in memory, as those of an index would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.search.exact import Limits, search
from harness.types import Hits, PluginError, Similarity

Precision = Literal["float32", "float16", "int8", "binary"]
BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
"""Precision -> bits a dimension."""
EXACT_DIMS = 1024
"""Dimensions whose products of codes float32 sums without rounding: 1024 x 128 x 128 is 2^24."""
ROWS = 8192
"""Documents whose codes are widened at a time."""
SCORES = 1 << 25
"""Scores in memory at a time; those of one query, if there are more documents."""

Floats = NDArray[np.float32]


def bytes_per_vector(dim: int, precision: Precision) -> int:
    """Bytes that a vector of this many dimensions takes."""
    return (dim * BITS[precision] + 7) // 8


class Compressed(Protocol):
    """The compressed documents of a corpus."""

    def hits(self, queries: Floats, k: int) -> list[Hits]:
        """The k best documents of each query [q, d], and all that tie with the k-th, best first."""
        ...

    def restored(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The vectors [n, d] that the codes of some documents stand for."""
        ...


def compress(documents: Vectors, precision: Precision, similarity: Similarity, limits: Limits) -> Compressed:
    """Compress documents (of unit length for cosine) that are compared by ``similarity``; reads them once or twice."""
    if precision == "int8":
        return Int8(documents, similarity)
    if precision == "binary":
        return Binary(documents)
    return Uncompressed(documents if precision == "float32" else _half(documents), similarity, limits)


def _half(documents: Vectors) -> Vectors:
    """The vectors as float16, which are scaled to unit length again where they are compared by the cosine."""
    kept = np.empty((len(documents), documents.dim), np.float16)
    start = 0
    for block in documents.blocks():
        with np.errstate(over="ignore"):
            kept[start : start + len(block)] = block
        start += len(block)
    if not np.isfinite(kept).all():
        raise PluginError("a vector holds a value that float16 cannot (65,504 at most)")
    return Vectors.of(kept, normalise=documents.normalise)


class Uncompressed:
    """Floating-point vectors, searched as everywhere else."""

    def __init__(self, documents: Vectors, similarity: Similarity, limits: Limits) -> None:
        self.documents, self.similarity, self.limits = documents, similarity, limits
        self._centre = documents.gather(np.arange(min(len(documents), 1024))).mean(axis=0, dtype=np.float64)

    def hits(self, queries: Floats, k: int) -> list[Hits]:
        """As `Compressed.hits`."""
        return [*search(queries, self.documents, self._centre, k, self.similarity, limits=self.limits)]

    def restored(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `Compressed.restored`."""
        return self.documents.gather(rows).astype(np.float64)


class Int8:
    """One signed byte a dimension."""

    def __init__(self, documents: Vectors, similarity: Similarity) -> None:
        self.ranges = corpus_ranges(documents)
        self._euclidean = similarity == "euclidean"
        self.codes = _filled(documents, np.int8, documents.dim, lambda block: int8_codes(block, self.ranges))

    def hits(self, queries: Floats, k: int) -> list[Hits]:
        """As `Compressed.hits`."""
        codes, found = int8_codes(queries, self.ranges), list[Hits]()
        step = max(1, SCORES // max(1, len(self.codes)))
        for start in range(0, len(codes), step):
            found += _best(self._scores(codes[start : start + step]), k)
        return found

    def _scores(self, queries: NDArray[np.int8]) -> NDArray[np.floating[Any]]:
        dim = queries.shape[1]
        kind = np.float32 if dim <= EXACT_DIMS and not self._euclidean else np.float64
        scores, asked = np.zeros((len(queries), len(self.codes)), kind), queries.astype(np.float32)
        for start in range(0, len(self.codes), ROWS):
            block = self.codes[start : start + ROWS].astype(np.float32)
            part = scores[:, start : start + ROWS]
            for first in range(0, dim, EXACT_DIMS):
                some = slice(first, first + EXACT_DIMS)
                part += asked[:, some] @ block[:, some].T
            if self._euclidean:
                part *= 2
                part -= np.square(block, dtype=np.float64).sum(axis=1)
        if self._euclidean:
            scores -= np.square(asked, dtype=np.float64).sum(axis=1, keepdims=True)
        return scores

    def restored(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `Compressed.restored`."""
        starts, steps = _steps(self.ranges)
        restored: NDArray[np.float64] = (self.codes[rows].astype(np.float64) + 128) * steps + starts
        return restored


class Binary:
    """One bit a dimension, compared by FAISS."""

    def __init__(self, documents: Vectors) -> None:
        import faiss

        self._dim = documents.dim
        self.codes = _filled(documents, np.uint8, (documents.dim + 7) // 8, binary_codes)
        self._index = faiss.IndexBinaryFlat(8 * self.codes.shape[1])
        self._index.add(self.codes)

    def hits(self, queries: Floats, k: int) -> list[Hits]:
        """As `Compressed.hits`; a query whose ties with the k-th are not all among those found is searched deeper."""
        codes, k = binary_codes(queries), min(k, len(self.codes))
        found: list[Hits] = [Hits(np.empty(0, np.int64), np.empty(0))] * len(codes)
        pending, depth = np.arange(len(codes) if k else 0), k
        while len(pending):
            depth = min(4 * depth, len(self.codes))
            distances, rows = self._index.search(codes[pending], depth)
            certain = (distances[:, -1] > distances[:, k - 1]) | (depth == len(self.codes))
            for place in np.flatnonzero(certain).tolist():
                kept = int(np.searchsorted(distances[place], distances[place, k - 1], side="right"))
                order = np.lexsort((rows[place, :kept], distances[place, :kept]))
                found[int(pending[place])] = Hits(rows[place][order], -distances[place][order].astype(np.float64))
            pending = pending[~certain]
        return found

    def restored(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `Compressed.restored`: 0 or 1, as sentence-transformers restores them."""
        return np.unpackbits(self.codes[rows], axis=1)[:, : self._dim].astype(np.float64)


def corpus_ranges(documents: Vectors) -> Floats:
    """The smallest and the largest value of each dimension over the corpus, [2, d]."""
    found = np.array([np.full(documents.dim, np.inf), np.full(documents.dim, -np.inf)], np.float32)
    for block in documents.blocks():
        np.minimum(found[0], block.min(axis=0), out=found[0])
        np.maximum(found[1], block.max(axis=0), out=found[1])
    return found


def _steps(ranges: Floats) -> tuple[Floats, Floats]:
    steps = (ranges[1] - ranges[0]) / np.float32(255)
    return ranges[0], np.where(steps == 0, np.float32(1), steps)


def int8_codes(vectors: Floats, ranges: Floats) -> NDArray[np.int8]:
    """The step between the ranges that each value is on, minus 128."""
    starts, steps = _steps(ranges)
    codes: NDArray[np.int8] = (np.clip(np.floor((vectors - starts) / steps), 0, 255) - 128).astype(np.int8)
    return codes


def binary_codes(vectors: Floats) -> NDArray[np.uint8]:
    """Which values are above 0, eight in a byte, the first in its highest bit."""
    return np.packbits(vectors > 0, axis=1)


def _filled(documents: Vectors, kind: Any, width: int, coded: Any) -> NDArray[Any]:
    codes, start = np.empty((len(documents), width), kind), 0
    for block in documents.blocks():
        codes[start : start + len(block)] = coded(block)
        start += len(block)
    return codes


def _best(scores: NDArray[np.floating[Any]], k: int) -> Iterator[Hits]:
    """The k best of each row of scores, and all that tie with the k-th."""
    n = scores.shape[1]
    k = min(k, n)
    limits = np.partition(scores, n - k, axis=1)[:, n - k] if k else np.full(len(scores), np.inf)
    for row, limit in zip(scores, limits, strict=True):
        rows = np.flatnonzero(row >= limit)
        order = np.lexsort((rows, -row[rows]))
        yield Hits(rows[order], row[rows][order].astype(np.float64))


def rescore_restored(
    queries: Floats, compressed: Compressed, candidates: Sequence[NDArray[np.int64]], similarity: Similarity
) -> list[Hits]:
    """Score the candidates of each query by its own vector and what their codes stand for (asymmetric rescoring).

    By the inner product, as sentence-transformers does; by the distance for Euclidean models, but not to bits.
    """
    found = []
    for query, rows in zip(queries.astype(np.float64), candidates, strict=True):
        vectors = compressed.restored(rows)
        apart = similarity == "euclidean" and not isinstance(compressed, Binary)
        scores = -np.linalg.norm(vectors - query, axis=1) if apart else (vectors * query).sum(axis=1)
        found.append(Hits(rows, scores))
    return found
