"""What compressing a model's stored vectors costs: dimensions x precision x rescoring, each compared with the vectors.

Nothing is encoded. A row keeps the leading dimensions, of unit length again for cosine, in one of four precisions
(`harness.search.compressed`). With rescoring, the `FACTOR` x `K` best documents are ordered again: by the model's full
float32 vectors (``full``), or by the query's own float vector and what the documents' codes stand for (``asymmetric``),
which needs no other vectors.

The rows of a cell are stored beside its result, as compression.json, and reused while the cell and the machine are the
same. A result that is made again drops them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.metrics.clusters import Codes, per_cluster
from harness.metrics.measures import Evaluator
from harness.metrics.ranking import best, rank
from harness.metrics.significance import mean_interval
from harness.models.runner import Prepared, dataset_vectors
from harness.search.compressed import BITS, Compressed, Precision, bytes_per_vector, compress, rescore_restored
from harness.search.exact import Limits
from harness.search.rescore import rescore
from harness.storage.atomic import content_key, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.environment import cores, machine
from harness.types import Hits, Similarity, UserError

FILE = "compression.json"
MEASURE, K, FACTOR = "nDCG@10", 10, 4
REVISION = 1
"""Raised when a change can change a number of a row."""
LEAST_SECONDS = 0.3
"""Searches are timed for so long, twice at least; the fastest counts, which other load on the machine affects least."""
SMALLEST = 32
"""Dimensions below which the default ladder does not go."""
THREADS = 8
Rescoring = Literal["", "full", "asymmetric"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to compress and to search."""

    dim: int
    precision: Precision
    rescoring: Rescoring

    @property
    def bytes(self) -> int:
        """Bytes of a vector that is searched."""
        return bytes_per_vector(self.dim, self.precision)


@dataclass(frozen=True, slots=True)
class LadderRow:
    """What a setting gives on one dataset."""

    dim: int
    precision: str
    rescoring: str
    bytes: int
    """Of a vector that is searched; rescoring by full vectors reads those of the candidates besides."""
    score: float
    difference: float
    """From the full float32 vectors."""
    interval: tuple[float, float] | None
    """Of the difference, 95%, paired by query or cluster of queries; None for fewer than two."""
    queries_per_second: float


def default_dims(dim: int) -> list[int]:
    """The full dimension, its half, quarter and eighth, none below `SMALLEST`."""
    return [dim, *(dim // part for part in (2, 4, 8) if dim // part >= SMALLEST)]


def settings(dim: int, dims: Sequence[int], rescoring: Rescoring) -> list[Setting]:
    """The ladder for vectors of ``dim`` dimensions: the full vectors first, then by falling dimension.

    Args:
        dim: Of the full vectors.
        dims: Leading dimensions to keep; the full ones are added.
        rescoring: By what rows with rescoring are rescored.

    Raises:
        UserError: More dimensions than there are.
    """
    if beyond := [kept for kept in dims if kept > dim]:
        raise UserError(f"The vectors have {dim} dimensions, which {beyond[0]} exceeds; give {dim} at most.")
    found = []
    for kept in sorted({dim, *dims}, reverse=True):
        for precision in PRECISIONS:
            whole = kept == dim and precision == "float32"
            changes = not whole if rescoring == "full" else BITS[precision] < 16
            found += [Setting(kept, precision, ""), *([Setting(kept, precision, rescoring)] if changes else [])]
    return found


@dataclass
class Ladder:
    """Computes the rows of one model on one dataset."""

    model: Prepared
    dataset: Dataset
    codes: Codes | None
    """The cluster of each judged query; None if every query is its own."""
    limits: Limits

    def __post_init__(self) -> None:
        both = dataset_vectors(self.model, self.dataset)
        self._documents, queries = both["document"][0], both["query"][0]
        self._queries = queries
        self._full = queries.gather(np.arange(len(queries)))
        self.similarity: Similarity = self.model.similarity
        self.dim = self._documents.dim
        self._base: Floats | None = None

    def rows(self, chosen: Sequence[Setting], known: Mapping[Setting, LadderRow]) -> Iterator[LadderRow]:
        """The rows of the settings in order; those ``known`` are not computed."""
        compressed: tuple[tuple[int, str], Compressed] | None = None
        for number, setting in enumerate(chosen):
            both = f"{self.dataset.label} with {self.model.label}"
            self.model.progress(f"compressing {both} (settings)", number, len(chosen))
            if setting in known:
                yield known[setting]
                continue
            if compressed is None or compressed[0] != (setting.dim, setting.precision):
                compressed = None  # frees its memory
                documents = self._documents.leading(setting.dim)
                made = compress(documents, setting.precision, self.similarity, self.limits)
                compressed = (setting.dim, setting.precision), made
            yield self._row(setting, compressed[1])

    def values(self, setting: Setting, compressed: Compressed) -> tuple[Floats, float]:
        """`MEASURE` of each judged query, and the seconds of a search of all queries."""
        queries = self._queries.leading(setting.dim).gather(np.arange(len(self._queries)))
        found, seconds = _fastest(partial(self._search, setting, compressed, queries))
        dataset, measured = self.dataset, Evaluator(self.dataset.qrels, (MEASURE,), self.dataset.judged)
        for query, hits in zip(dataset.queries, found, strict=True):
            ids, exclude = dataset.corpus.lazy_ids(hits.rows), query.id if dataset.exclude_self else None
            measured.add(rank(query.id, ids, hits.scores, K, exclude=exclude, rows=hits.rows))
        return measured.scores().values[:, 0].copy(), seconds

    def _row(self, setting: Setting, compressed: Compressed) -> LadderRow:
        values, seconds = self.values(setting, compressed)
        change = values - self._of_full(setting, values)
        return LadderRow(
            **asdict(setting),
            bytes=setting.bytes,
            score=float(values.mean()),
            difference=float(change.mean()) + 0.0,
            interval=mean_interval([per_cluster(change, self.codes)]).ends,
            queries_per_second=round(len(self._queries) / seconds, 1),
        )

    def _of_full(self, setting: Setting, values: Floats) -> Floats:
        """The values of the full float32 vectors, computed if their row was known."""
        full = Setting(self.dim, "float32", "")
        if self._base is None:
            made = compress(self._documents, "float32", self.similarity, self.limits)
            self._base = values if setting == full else self.values(full, made)[0]
        return self._base

    def _search(self, setting: Setting, compressed: Compressed, queries: NDArray[np.float32]) -> list[Hits]:
        own = int(self.dataset.exclude_self)
        if not setting.rescoring:
            return compressed.hits(queries, K + own)
        candidates = [*self._candidates(compressed.hits(queries, FACTOR * K + own))]
        if setting.rescoring == "asymmetric":
            return rescore_restored(queries, compressed, candidates, self.similarity)
        places = np.repeat(np.arange(len(candidates)), [len(rows) for rows in candidates])
        rows = np.concatenate(candidates) if candidates else np.empty(0, np.int64)
        threads = min(THREADS, cores())
        scores = rescore(self._full, self._documents, places, rows, self.similarity, threads)
        parts = np.split(scores, np.cumsum([len(own) for own in candidates])[:-1])
        return [Hits(*pair) for pair in zip(candidates, parts, strict=True)]

    def _candidates(self, found: Sequence[Hits]) -> Iterator[NDArray[np.int64]]:
        """The best documents of each query under the tie rule, without its own document."""
        for query, hits in zip(self.dataset.queries, found, strict=True):
            exclude = query.id if self.dataset.exclude_self else None
            ids = self.dataset.corpus.lazy_ids(hits.rows)
            yield hits.rows[best(query.id, ids, hits.scores, FACTOR * K, exclude=exclude)]


def _fastest(work: Callable[[], list[Hits]]) -> tuple[list[Hits], float]:
    spent, found = list[float](), list[Hits]()
    while len(spent) < 2 or sum(spent) < LEAST_SECONDS:
        start = time.perf_counter()
        found = work()
        spent.append(time.perf_counter() - start)
    return found, min(spent)


def row_key(cell_key: str) -> str:
    """What stored rows depend on besides their settings: the cell, this module, and the machine that timed them."""
    here = machine()
    return content_key([cell_key, REVISION, here["processor"], here["cores"]])


def read_rows(folder: Path, key: str = "") -> dict[Setting, LadderRow]:
    """The rows stored beside a result; empty if the file is missing, or of another ``key`` than a given one."""
    with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        content = fields(read_sealed(folder / FILE), key=str, rows=list)
        rows = [_parsed(row) for row in content["rows"]]
        if not key or content["key"] == key:
            return {Setting(row.dim, row.precision, row.rescoring): row for row in rows}  # type: ignore[arg-type]
    return {}


def _parsed(content: Mapping[str, Any]) -> LadderRow:
    stated = {"dim": int, "precision": str, "rescoring": str, "bytes": int, "score": float, "difference": float}
    found = fields(content, **stated, queries_per_second=float)
    low, high = found["interval"] or (0.0, 0.0)
    if found["precision"] not in PRECISIONS or found["rescoring"] not in get_args(Rescoring) or found["dim"] < 1:
        raise ValueError("not a row of a ladder")
    floats = {name: float(found[name]) for name in ("score", "difference", "queries_per_second")}
    return LadderRow(**{**found, **floats, "interval": (float(low), float(high)) if found["interval"] else None})


def write_rows(folder: Path, key: str, rows: Mapping[Setting, LadderRow]) -> None:
    """Store rows beside a result."""
    content = {"key": key, "processor": machine()["processor"], "rows": [asdict(row) for row in rows.values()]}
    write_json(folder / FILE, seal(content))
