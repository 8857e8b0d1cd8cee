"""How fast this machine works: as recorded with what is stored, else measured now, briefly, and remembered.

Measurements lie in $HARNESS_HOME/throughput, keyed by what was measured and by the machine. `SAMPLE` says on what.
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

from harness.atomic import content_key, write_json
from harness.bounded import fields, read_json
from harness.encode import encode_texts
from harness.manifest import machine
from harness.parcel import RECORD
from harness.prepared import Prepared
from harness.sealed import read_sealed
from harness.spec import Document, Progress, Query, TokenModel, UserError
from harness.vectors import Vectors, VectorStore
from harness.workload import tokens

SAMPLE = "texts of 10 to 150 made-up words, common ones more often, as many as take 4 s (1 s to index them)"
ENOUGH_ENCODING, ENOUGH_INDEXING = 4.0, 1.0
"""Seconds after which a measurement is believed; each attempt is twice (or four times) the last."""
ENOUGH_PRODUCT, LARGEST_PRODUCT = 0.005, 1 << 14
"""Seconds that a matrix product must take to be believed, and rows at most."""
MOST_TEXTS = 1 << 16
RECORDED_TOKENS = 20_000
"""Fewer than these on record say nothing: the first batches are slow."""
RECORDED_BYTES = 100_000
SEARCH_SHARE = 0.8
"""Of the time of a long search, what its matrix products take."""
DEPTH = 1000
"""Of every run."""
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


@dataclass(frozen=True, slots=True)
class Scanning:
    """How fast vectors are searched exactly."""

    flops: float
    """Operations a second of its matrix products with the selection of the nearest."""
    query_seconds: float
    """What a query costs besides: its candidates' distances in float64."""


def recorded_encoding(key: str, home: Path) -> Encoding | None:
    """What the stored shards of a model (by its key) say; None where there are too few, or none with tokens."""
    shards = [s for s in VectorStore(home, key, "document").records() if s.tokens and s.seconds]
    count, seconds = sum(s.tokens for s in shards), sum(s.seconds for s in shards)
    return Encoding(count / seconds, shards[0].dim, "recorded") if count >= RECORDED_TOKENS else None


def encoding(model: Prepared, home: Path, progress: Progress) -> Encoding:
    """As recorded, else as measured earlier, else measured now with the loaded model, 20 s or so."""
    if found := recorded_encoding(model.ref.own_key, home):
        return found
    progress(f"measuring {model.label} on a small sample", 0, 0)
    figures = _remembered(home, f"encoding {model.ref.own_key}", ("tokens_per_second", "dim"), lambda: _encode(model))
    return Encoding(figures["tokens_per_second"], int(figures["dim"]), "measured")


def indexing(model: Prepared, home: Path, progress: Progress) -> Indexing:
    """As measured earlier or now, but building the index as recorded where that is on record."""
    progress(f"measuring {model.label} on a small sample", 0, 0)
    names = ("bytes_per_second", "index_share", "query_seconds", "query_document_seconds")
    figures = _remembered(home, f"indexing {model.ref.key}", names, lambda: _index(model))
    size, written, seconds = _recorded_indexes(model.ref.key, home)
    if size >= RECORDED_BYTES and seconds:
        figures |= {"bytes_per_second": size / seconds, "index_share": written / size}
        return Indexing(**figures, origin="recorded")
    return Indexing(**figures, origin="measured")


def scanning(home: Path, progress: Progress) -> Scanning:
    """As measured earlier or now."""
    progress("measuring exact search", 0, 0)
    return Scanning(**_remembered(home, "scanning", ("flops", "query_seconds"), _scan))


def products(dtype: str, device: str, home: Path) -> float:
    """Operations a second of torch's product of two large matrices, measured earlier or now (in under a second)."""
    import torch

    what = f"products in {dtype} on {device}, {torch.get_num_threads()} threads"
    return _remembered(home, what, ("flops",), lambda: {"flops": _product(dtype, device)})["flops"]


def _product(dtype: str, device: str) -> float:
    import torch

    size, seconds, multiply = 512, 0.0, torch._int_mm if dtype == "int8" else torch.mm
    while seconds < ENOUGH_PRODUCT and size < LARGEST_PRODUCT:
        size *= 2
        one = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
        seconds = min(_timed(lambda one=one: float(multiply(one, one)[0, 0])) for _ in range(8))  # type: ignore[misc]
    return 2.0 * size**3 / seconds


def _remembered(
    home: Path, what: str, names: tuple[str, ...], measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    path = home / "throughput" / f"{content_key([what, SAMPLE, machine()])[:32]}.json"
    with suppress(OSError, ValueError):
        found = fields(read_json(path), figures=dict)
        figures = fields(found["figures"], **dict.fromkeys(names, float))
        return {name: figures[name] for name in names}
    figures = measure()
    with suppress(UserError):  # a home that may only be read costs time, not correctness
        write_json(path, {"what": what, "sample": SAMPLE, "figures": figures, "machine": machine()})
    return figures


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
    encode_texts(model.dense, model.label, texts, "document")  # what only the first call costs
    while seconds < ENOUGH_ENCODING and len(texts) < MOST_TEXTS:
        texts = sample_texts(2 * len(texts))
        start = time.perf_counter()
        encode_texts(model.dense, model.label, texts, "document")
        seconds = time.perf_counter() - start
    if isinstance(model.dense, TokenModel):
        total = float(sum(map(len, model.dense.tokenize(texts, role="document"))))
    else:
        total = sum(tokens(len(text)) for text in texts)
    return {"tokens_per_second": total / seconds, "dim": float(model.dense.dim)}


def _index(model: Prepared) -> dict[str, float]:
    """Two indexes, so that what every query costs and what documents add to it come apart."""
    count, seconds = 256, 0.0
    words = np.random.default_rng(1).integers(20, 5000, (64, 6))
    queries = [Query(str(number), " ".join(map(_word, ranks))) for number, ranks in enumerate(words.tolist())]
    with tempfile.TemporaryDirectory() as scratch:
        searched: list[tuple[int, float]] = []
        while seconds < ENOUGH_INDEXING and count < MOST_TEXTS:
            count *= 4
            texts = sample_texts(count)
            folder = Path(scratch, str(count))
            folder.mkdir()
            start = time.perf_counter()
            model.lexical.build((Document(str(n), "", text) for n, text in enumerate(texts)), folder)
            seconds = time.perf_counter() - start
            searched.append((count, min(_searched(model, folder, queries) for _ in range(5)) / len(queries)))
        size = sum(len(text) + RECORD_OVERHEAD for text in texts)
        written = _bytes(folder)
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
    for path in (home / "indexes" / key[:32]).glob(f"*/{RECORD}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            spent = float(read_sealed(path)["seconds"])
            size += sizes[path.parent.name]
            written += _bytes(path.parent)
            seconds += spent
    return size, written, seconds


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _scan() -> dict[str, float]:
    """Operations a second of the matrix product that exact search is made of, and what each query costs besides."""
    from harness.index import search

    rng, dim, asked, held = np.random.default_rng(0), 768, 512, 4096
    queries = rng.standard_normal((asked, dim), np.float32)
    documents = rng.standard_normal((held, dim), np.float32)
    stored = Vectors.of(documents)
    product = min(_timed(lambda: queries @ documents.T) for _ in range(5)) / SEARCH_SHARE
    whole = min(_timed(lambda: list(search(queries, stored, np.zeros(dim), DEPTH, "euclidean"))) for _ in range(2))
    return {"flops": 2.0 * asked * held * dim / product, "query_seconds": max(0.0, (whole - product) / asked)}


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
