"""How fast this machine works: as recorded with what is stored, else measured now and remembered for `DAYS`.

A measurement takes a least time (`ENOUGH_ENCODING` and its like), is repeated `REPEATS` times, and its median counts.
Measurements lie in $HARNESS_HOME/throughput, keyed by what was measured, by the machine and by the number of threads;
`SAMPLE` says on what. One that was made while other work took the processor is unreliable: it is marked as such and not
kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from harness.embeddings.encode import encode_texts
from harness.embeddings.store import Vectors, VectorStore
from harness.models.runner import Prepared
from harness.planning.workload import tokens
from harness.storage.atomic import content_key, write_json
from harness.storage.bundles import MANIFEST
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.environment import machine
from harness.system.processor import threads, watching
from harness.types import Document, Progress, Query, TokenModel, UserError

SAMPLE = "texts of 10 to 150 synthetic words, common ones more often, as many as take 2 s (1 s to index them)"
ENOUGH_ENCODING, ENOUGH_INDEXING, ENOUGH_SEARCH = 2.0, 1.0, 0.5
"""Least seconds of a measurement; each attempt is twice (or four times) the last."""
REPEATS = 3
"""Of the largest attempt; the median counts."""
DAYS = 7
"""After which a measurement is made again."""
MOST_TEXTS, MOST_VECTORS = 1 << 16, 1 << 17
RECORDED_TOKENS = 20_000
"""Fewer than these on record say nothing: the first batches are slow."""
RECORDED_BYTES = 100_000
DEPTH = 1000
"""Of the searches that are measured."""
COMMON = (
    *("the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not"),
    *("this", "but", "are", "or", "at", "they", "an", "if", "no", "such", "there", "their", "then", "these", "will"),
)
VOCABULARY = 50_000
RECORD_OVERHEAD = 60
"""Bytes that a document's line has besides its text."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How fast a dense model encodes."""

    tokens_per_second: float
    dim: int
    origin: str
    reliable: bool = True
    """Whether the machine was otherwise idle when it was measured."""


@dataclass(frozen=True, slots=True)
class Indexing:
    """How fast a lexical model indexes and searches."""

    bytes_per_second: float
    index_share: float
    """Bytes of index per byte of corpus.jsonl."""
    query_seconds: float
    query_document_seconds: float
    """What each document adds to a query's time."""
    origin: str
    reliable: bool = True


@dataclass(frozen=True, slots=True)
class Scanning:
    """How fast vectors are searched exactly."""

    flops: float
    """Operations a second of its matrix products with the selection of the nearest, on the device that searches."""
    query_seconds: float
    """What a query costs besides: its candidates' distances in float64."""
    processor_flops: float = 0.0
    """Operations a second of the processor's float32 products, for the geometry; 0: those of ``flops``."""
    origin: str = "measured"
    reliable: bool = True


def recorded_encoding(key: str, home: Path) -> Encoding | None:
    """What the stored shards of a model (by its key) say; None where there are too few, or none with tokens."""
    shards = [s for s in VectorStore(home, key, "document").records() if s.tokens and s.seconds]
    count, seconds = sum(s.tokens for s in shards), sum(s.seconds for s in shards)
    return Encoding(count / seconds, shards[0].dim, "recorded") if count >= RECORDED_TOKENS else None


def encoding(model: Prepared, home: Path, progress: Progress) -> Encoding:
    """As recorded, else as measured in the last days, else measured now with the loaded model, 20 s or so."""
    if found := recorded_encoding(model.ref.own_key, home):
        return found
    progress(f"measuring {model.label} on a small sample", 0, 0)
    names = ("tokens_per_second", "dim")
    figures, reliable = _remembered(home, f"encoding {model.ref.own_key}", names, lambda: _encode(model))
    return Encoding(figures["tokens_per_second"], int(figures["dim"]), "measured", reliable)


def indexing(model: Prepared, home: Path, progress: Progress) -> Indexing:
    """As measured in the last days or now, but building the index as recorded where that is on record."""
    progress(f"measuring {model.label} on a small sample", 0, 0)
    names = ("bytes_per_second", "index_share", "query_seconds", "query_document_seconds")
    figures, reliable = _remembered(home, f"indexing {model.ref.key}", names, lambda: _index(model))
    size, written, seconds = _recorded_indexes(model.ref.key, home)
    if size >= RECORDED_BYTES and seconds:
        figures |= {"bytes_per_second": size / seconds, "index_share": written / size}
        return Indexing(**figures, origin="recorded", reliable=reliable)
    return Indexing(**figures, origin="measured", reliable=reliable)


def scanning(home: Path, progress: Progress, device: str = "cpu") -> Scanning:
    """Exact search on the device that would do it, as measured in the last days or now."""
    progress("measuring exact search", 0, 0)
    names = ("flops", "query_seconds", "processor_flops")
    figures, reliable = _remembered(home, f"exact search on {device}", names, lambda: _scan(device))
    flops, each, own = (figures[name] for name in names)
    return Scanning(flops, each, own, reliable=reliable)


def _remembered(
    home: Path, what: str, names: tuple[str, ...], measure: Callable[[], dict[str, float]]
) -> tuple[dict[str, float], bool]:
    """The figures of these names, and whether they are reliable."""
    of = {"what": what, "sample": SAMPLE, "machine": machine(), "threads": threads()}
    path, now = home / "throughput" / f"{content_key(of)[:32]}.json", time.time()
    with suppress(OSError, ValueError):
        stated = fields(read_sealed(path), of=dict, time=float, figures=dict)
        if stated["of"] == of and 0 <= now - stated["time"] < DAYS * 86_400:
            figures = fields(stated["figures"], **dict.fromkeys(names, float))
            return {name: figures[name] for name in names}, True
    with watching() as watch:
        figures = measure()
    if watch.busy:
        return figures, False
    with suppress(UserError):  # a home that may only be read costs time, not correctness
        write_json(path, seal({"of": of, "time": now, "figures": figures}))
    return figures, True


def _repeated(work: Callable[[], object], first: float) -> float:
    """Median seconds of `REPEATS` runs, of which the first is over."""
    return float(np.median([first, *(_timed(work) for _ in range(REPEATS - 1))]))


def sample_texts(count: int) -> list[str]:
    """So many texts, always the same: words drawn by Zipf's law, lengths spread alike over any stretch of them."""
    vocabulary = np.array(_vocabulary())
    lengths = 10 + (np.arange(count) * 89) % 141
    shares = 1 / np.arange(1, VOCABULARY + 1)
    drawn = np.random.default_rng(0).choice(VOCABULARY, int(lengths.sum()), p=shares / shares.sum())
    return [" ".join(words) for words in np.split(vocabulary[drawn], np.cumsum(lengths)[:-1])]


@cache
def _vocabulary() -> list[str]:
    return [_word(rank) for rank in range(VOCABULARY)]


def _word(rank: int) -> str:
    """The commonest words of English, which lexical models drop; then three syllables for each rank."""
    if rank < len(COMMON):
        return COMMON[rank]
    places = (rank * 7919 // 85**power % 85 for power in range(3))
    return "".join("bcdfghjklmnprstvz"[place % 17] + "aeiou"[place // 17] for place in places)


def _encode(model: Prepared) -> dict[str, float]:
    texts, seconds = sample_texts(1), 0.0

    def work() -> None:
        encode_texts(model.dense, model.label, texts, "document")

    work()  # what only the first call costs
    while seconds < ENOUGH_ENCODING and len(texts) < MOST_TEXTS:
        texts = sample_texts(2 * len(texts))
        seconds = _timed(work)
    if isinstance(model.dense, TokenModel):
        total = float(sum(map(len, model.dense.tokenize(texts, role="document"))))
    else:
        total = sum(tokens(len(text)) for text in texts)
    return {"tokens_per_second": total / _repeated(work, seconds), "dim": float(model.dense.dim)}


def _index(model: Prepared) -> dict[str, float]:
    """Two indexes, so that what every query costs and what documents add to it come apart."""
    count, seconds = 256, 0.0
    words = np.random.default_rng(1).integers(20, 5000, (64, 6))
    queries = [Query(str(number), " ".join(map(_word, ranks))) for number, ranks in enumerate(words.tolist())]
    with tempfile.TemporaryDirectory() as scratch:
        searched: list[tuple[int, float]] = []

        def build() -> None:
            folder = Path(scratch, f"{count}-{len(list(Path(scratch).iterdir()))}")
            folder.mkdir()
            model.lexical.build((Document(str(n), "", text) for n, text in enumerate(texts)), folder)
            built.append(folder)

        while seconds < ENOUGH_INDEXING and count < MOST_TEXTS:
            count *= 4
            texts, built = sample_texts(count), list[Path]()
            seconds = _timed(build)
            again = [_searched(model, built[0], queries) for _ in range(REPEATS)]
            searched.append((count, float(np.median(again)) / len(queries)))
        seconds = _repeated(build, seconds)
        size = sum(len(text) + RECORD_OVERHEAD for text in texts)
        written = _bytes(built[0])
    (few, quick), (many, slow) = searched[0], searched[-1]
    slope = max(0.0, (slow - quick) / (many - few)) if many > few else 0.0
    figures = {"bytes_per_second": size / seconds, "index_share": written / size}
    return figures | {"query_seconds": max(0.0, quick - slope * few), "query_document_seconds": slope}


def _searched(model: Prepared, folder: Path, queries: list[Query]) -> float:
    start = time.perf_counter()
    for _ in model.lexical.search(folder, queries, DEPTH):
        pass
    return time.perf_counter() - start


def _recorded_indexes(key: str, home: Path) -> tuple[int, int, float]:
    """Bytes of corpora, bytes of their stored indexes, seconds of building them."""
    sizes: dict[str, int] = {}
    for path in (home / "corpora").glob("*/index.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            stated = fields(read_sealed(path), sha256=str, size=int)
            sizes[stated["sha256"][:32]] = stated["size"]
    size, written, seconds = 0, 0, 0.0
    for path in (home / "indexes" / key[:32]).glob(f"*/{MANIFEST}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            spent = float(read_sealed(path)["seconds"])
            size += sizes[path.parent.name]
            written += _bytes(path.parent)
            seconds += spent
    return size, written, seconds


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _scan(device: str) -> dict[str, float]:
    return {**_searching(device), "processor_flops": _multiplying()}


def _searching(device: str) -> dict[str, float]:
    """Two searches of synthetic vectors, so that what every query costs and what documents add to it come apart."""
    from harness.search.exact import Limits, search

    rng, dim, asked, few, many = np.random.default_rng(0), 768, 512, 4096, 4096
    queries, documents = (rng.standard_normal((rows, dim), np.float32) for rows in (asked, few))
    limits = Limits(device=device)

    def work() -> None:
        for _ in search(queries, Vectors.of(documents), np.zeros(dim), DEPTH, "euclidean", limits=limits):
            pass

    work()  # what only the first call costs
    quick = slow = _repeated(work, _timed(work))
    while many == few or (slow < ENOUGH_SEARCH and many < MOST_VECTORS):
        many *= 2
        documents = np.concatenate([documents, rng.standard_normal(documents.shape, np.float32)])
        slow = _timed(work)
    slow = _repeated(work, slow)
    slope = (slow - quick) / (many - few) if slow > quick else slow / many  # seconds that a document adds
    return {"flops": 2.0 * asked * dim / slope, "query_seconds": max(0.0, (quick - slope * few) / asked)}


def _multiplying() -> float:
    """Operations a second of the processor's float32 matrix products."""
    rng, dim, rows, columns, runs, spent = np.random.default_rng(0), 768, 512, 4096, 1, 0.0
    first, second = (rng.standard_normal((count, dim), np.float32) for count in (rows, columns))

    def work() -> None:
        for _ in range(runs):
            first @ second.T

    while spent < ENOUGH_SEARCH and runs < 1 << 10:
        runs *= 2
        spent = _timed(work)
    return 2.0 * rows * columns * dim * runs / _repeated(work, spent)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
