"""Speed of this machine: from the records of stored data, else measured and cached for `DAYS`.

A measurement takes a minimum time (`ENOUGH_ENCODING` etc.) and is repeated `REPEATS` times; the median is used.
Measurements are cached in $HARNESS_HOME/throughput, keyed by what was measured (on `SAMPLE`), the machine and the
number of threads. A measurement during which other processes used the CPU is marked as unreliable, and is used again
for `RECENT` seconds by this process alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.embeddings.encode import encode_texts
from harness.embeddings.formats import FORMATS, MULTIVECTOR
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.pooling import pooled_rows
from harness.embeddings.rows import StoredRows
from harness.embeddings.sparse import SparseVectors
from harness.embeddings.store import Vectors, VectorStore
from harness.models.runner import Prepared
from harness.planning.workload import tokens
from harness.storage.atomic import content_key, write_json
from harness.storage.bundles import MANIFEST
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.environment import machine
from harness.system.processor import threads, watching
from harness.types import Document, Hits, Progress, Query, Role, TokenModel, UserError

SAMPLE = "texts of 10 to 150 synthetic words, common ones more often, as many as take 2 s (1 s to index them)"
ENOUGH_ENCODING, ENOUGH_INDEXING, ENOUGH_SEARCH = 2.0, 1.0, 0.5
"""Minimum measurement times in seconds; the input is doubled (or quadrupled) until they are reached."""
REPEATS = 3
"""Repetitions of the largest input; the median is used."""
DAYS = 7
"""Days after which a measurement is repeated."""
RECENT = 300
"""Seconds after which a measurement beside other work is repeated: the rows of one plan share it."""
MOST_TEXTS, MOST_VECTORS = 1 << 16, 1 << 17
RECORDED_TOKENS = 20_000
"""Minimum number of recorded tokens: the first batches are slow."""
RECORDED_BYTES = 100_000
RANKED_SHARD = 64
"""Texts whose sparse or token vectors are repeated to make a collection."""
DEPTH = 1000
"""Depth of the measured searches."""
COMMON = (
    *("the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not"),
    *("this", "but", "are", "or", "at", "they", "an", "if", "no", "such", "there", "their", "then", "these", "will"),
)
VOCABULARY = 50_000
RECORD_OVERHEAD = 60
"""Bytes of a document's line in addition to its text."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How fast a dense model encodes."""

    tokens_per_second: float
    dim: int
    origin: str
    reliable: bool = True
    """Whether the machine was otherwise idle during the measurement."""
    text_bytes: float = 0.0
    """Bytes of the stored vectors of a text, where they depend on it; 0 where every vector has ``dim`` numbers."""


@dataclass(frozen=True, slots=True)
class SearchSpeed:
    """How fast a model searches whose time per query and document is not a number of operations."""

    query_seconds: float
    query_document_seconds: float
    """Seconds per query and document."""
    reliable: bool = True


@dataclass(frozen=True, slots=True)
class PoolingSpeed:
    """How fast token vectors of documents are pooled, and how large the result is."""

    text_seconds: float
    """Seconds per document."""
    text_bytes: float
    """Bytes of the pooled vectors of a document, in float32."""
    origin: str = "measured"
    reliable: bool = True


@dataclass(frozen=True, slots=True)
class Indexing:
    """How fast a lexical model indexes and searches."""

    bytes_per_second: float
    index_share: float
    """Bytes of index per byte of corpus.jsonl."""
    query_seconds: float
    query_document_seconds: float
    """Seconds per query and document."""
    origin: str
    reliable: bool = True


@dataclass(frozen=True, slots=True)
class Scanning:
    """How fast exact search runs."""

    flops: float
    """Operations per second of matrix products and candidate selection, on the search device."""
    query_seconds: float
    """Additional seconds per query: rescoring in float64."""
    processor_flops: float = 0.0
    """Operations per second of float32 products on the CPU, for the geometry; 0 to use ``flops``."""
    origin: str = "measured"
    reliable: bool = True


def recorded_encoding(key: str, home: Path) -> Encoding | None:
    """Speed recorded in the stored shards of a model; None if there are too few or they have no tokens."""
    shards = [s for s in VectorStore(home, key, "document").records() if s.tokens and s.seconds]
    count, seconds = sum(s.tokens for s in shards), sum(s.seconds for s in shards)
    return Encoding(count / seconds, shards[0].dim, "recorded") if count >= RECORDED_TOKENS else None


def encoding(model: Prepared, home: Path, progress: Progress) -> Encoding:
    """Encoding speed: recorded, else cached, else measured with the loaded model in about 20 s."""
    is_dense = model.ref.spec.kind == "dense"
    if is_dense and (found := recorded_encoding(model.ref.side_key("document"), home)):
        return found
    tell = partial(progress, f"measuring {model.label} on a small sample", 0, 0)
    names = ("tokens_per_second", "dim") if is_dense else ("tokens_per_second", "dim", "text_bytes")
    figures, reliable = cached_measurement(home, f"encoding {model.ref.own_key}", names, lambda: _encode(model), tell)
    size = 0.0 if is_dense else figures["text_bytes"]
    return Encoding(figures["tokens_per_second"], int(figures["dim"]), "measured", reliable, size)


def search_speed(model: Prepared, home: Path, progress: Progress) -> SearchSpeed:
    """Speed of the search of a model with sparse, token or pooled vectors: cached, or measured with a small sample."""
    tell = partial(progress, f"measuring the search of {model.label}", 0, 0)
    names = ("query_seconds", "query_document_seconds")
    what = f"search of the {model.ref.spec.kind} vectors of {_vectors_key(model)}"
    figures, reliable = cached_measurement(home, what, names, lambda: _rank(model), tell)
    return SearchSpeed(**figures, reliable=reliable)


def pooling_speed(model: Prepared, home: Path, progress: Progress) -> PoolingSpeed:
    """Speed of a pooling, cached or measured with the token vectors of a small sample."""
    tell = partial(progress, f"measuring {model.label} on a small sample", 0, 0)
    names = ("text_seconds", "text_bytes")
    figures, reliable = cached_measurement(home, f"pooling of {_vectors_key(model)}", names, lambda: _pool(model), tell)
    return PoolingSpeed(figures["text_seconds"], figures["text_bytes"], reliable=reliable)


def _vectors_key(model: Prepared) -> str:
    """The key of a model's vectors, however they are stored and cut; of a pooling, of those that it pools as well."""
    members = (_vectors_key(member) for member in model.members)
    return " of ".join((model.ref.own_key, *members))


def indexing(model: Prepared, home: Path, progress: Progress) -> Indexing:
    """Indexing and search speed: cached or measured; that of building an index as recorded, if it is."""
    tell = partial(progress, f"measuring {model.label} on a small sample", 0, 0)
    names = ("bytes_per_second", "index_share", "query_seconds", "query_document_seconds")
    figures, reliable = cached_measurement(home, f"indexing {model.ref.key}", names, lambda: _index(model), tell)
    size, written, seconds = _recorded_indexes(model.ref.key, home)
    if size >= RECORDED_BYTES and seconds:
        figures |= {"bytes_per_second": size / seconds, "index_share": written / size}
        return Indexing(**figures, origin="recorded", reliable=reliable)
    return Indexing(**figures, origin="measured", reliable=reliable)


def scanning(home: Path, progress: Progress, device: str = "cpu") -> Scanning:
    """Speed of exact search on a device: cached or measured."""
    tell = partial(progress, "measuring exact search", 0, 0)
    names = ("flops", "query_seconds", "processor_flops")
    figures, reliable = cached_measurement(home, f"exact search on {device}", names, lambda: _scan(device), tell)
    flops, each, own = (figures[name] for name in names)
    return Scanning(flops, each, own, reliable=reliable)


_unreliable: dict[Path, tuple[float, dict[str, float]]] = {}
"""Measurements beside other work: file that a reliable one would have -> monotonic time of its end, figures."""


def cached_measurement(
    home: Path, what: str, names: tuple[str, ...], measure: Callable[[], dict[str, float]], tell: Callable[[], None]
) -> tuple[dict[str, float], bool]:
    """Cached or new measurements by name, and whether they are reliable.

    Args:
        home: They are cached in its folder throughput, for `DAYS`.
        what: What is measured, with everything that it depends on besides the machine.
        names: Of the measurements.
        measure: Measures; not called if they are cached.
        tell: Called before that, to say so.
    """
    of = {"what": what, "sample": SAMPLE, "machine": machine(), "threads": threads()}
    path, now = home / "throughput" / f"{content_key(of)[:32]}.json", time.time()
    with suppress(OSError, ValueError):
        stated = fields(read_sealed(path), of=dict, time=float, figures=dict)
        if stated["of"] == of and 0 <= now - stated["time"] < DAYS * 86_400:
            figures = fields(stated["figures"], **dict.fromkeys(names, float))
            return {name: figures[name] for name in names}, True
    if path in _unreliable and time.monotonic() - _unreliable[path][0] < RECENT:
        return dict(_unreliable[path][1]), False
    tell()
    with watching() as watch:
        figures = measure()
    if watch.busy:
        _unreliable[path] = time.monotonic(), dict(figures)
        return figures, False
    with suppress(UserError):  # a read-only home costs only time
        write_json(path, seal({"of": of, "time": now, "figures": figures}))
    return figures, True


def median_seconds(work: Callable[[], object], first: float) -> float:
    """Median seconds of `REPEATS` runs; the first one took ``first``."""
    return float(np.median([first, *(timed(work) for _ in range(REPEATS - 1))]))


def sample_texts(count: int) -> list[str]:
    """Deterministic synthetic texts: words follow Zipf's law, lengths are uniform in every part of the list."""
    vocabulary = np.array(_vocabulary())
    lengths = 10 + (np.arange(count) * 89) % 141
    shares = 1 / np.arange(1, VOCABULARY + 1)
    drawn = np.random.default_rng(0).choice(VOCABULARY, int(lengths.sum()), p=shares / shares.sum())
    return [" ".join(words) for words in np.split(vocabulary[drawn], np.cumsum(lengths)[:-1])]


@cache
def _vocabulary() -> list[str]:
    return [_word(rank) for rank in range(VOCABULARY)]


def _word(rank: int) -> str:
    """The most frequent English words (stop words), then three syllables per rank."""
    if rank < len(COMMON):
        return COMMON[rank]
    places = (rank * 7919 // 85**power % 85 for power in range(3))
    return "".join("bcdfghjklmnprstvz"[place % 17] + "aeiou"[place // 17] for place in places)


def _encode(model: Prepared) -> dict[str, float]:
    texts, seconds = sample_texts(1), 0.0

    encoder, form = model.encoder, FORMATS[model.ref.spec.kind]

    def work() -> None:
        encoded[:] = [encode_texts(encoder, model.label, texts, "document", form=form)]

    encoded: list[Any] = []
    work()  # warm-up
    while seconds < ENOUGH_ENCODING and len(texts) < MOST_TEXTS:
        texts = sample_texts(2 * len(texts))
        seconds = timed(work)
    if isinstance(encoder, TokenModel):
        total = float(sum(map(len, encoder.tokenize(texts, role="document"))))
    else:
        total = sum(tokens(len(text)) for text in texts)
    size = sum(array.nbytes for array in form.arrays(encoded[0], "float32")) / len(texts)
    return {"tokens_per_second": total / median_seconds(work, seconds), "dim": float(encoder.dim), "text_bytes": size}


def _sample_vectors(model: Prepared, texts: list[str], role: Role) -> Any:
    """The vectors of a sample as they are searched; only those of documents are pooled."""
    if model.ref.spec.kind != "pooling":
        return encode_texts(model.encoder, model.label, texts, role, form=FORMATS[model.ref.spec.kind])
    vectors = _sample_vectors(model.members[0], texts, role)
    return pooled_rows(vectors, model.pooling, model.label) if role == "document" else vectors


def _pool(model: Prepared) -> dict[str, float]:
    vectors = _sample_vectors(model.members[0], sample_texts(RANKED_SHARD), "document")
    pool = partial(pooled_rows, vectors, model.pooling, model.label)
    size = sum(array.nbytes for array in MULTIVECTOR.arrays(pool(), "float32"))  # and a warm-up
    seconds = median_seconds(pool, timed(pool))
    return {"text_seconds": seconds / RANKED_SHARD, "text_bytes": size / RANKED_SHARD}


def _rank(model: Prepared) -> dict[str, float]:
    """Measure two collection sizes, of the vectors of a few texts repeated."""
    from harness.search.maxsim import search_multivector
    from harness.search.sparse import search_sparse

    several = model.ref.vectors == "multivector"
    search: Callable[..., Iterator[Hits]] = search_multivector if several else search_sparse
    stored: type[StoredRows] = MultiVectors if several else SparseVectors
    few, many = (16, 64) if several else (16, 256)

    shard = _sample_vectors(model, sample_texts(RANKED_SHARD), "document")
    queries = _sample_vectors(model, sample_queries(), "query")

    def seconds(shards: int) -> float:
        documents = stored.of(*[shard] * shards)

        def work() -> None:
            for _ in search(queries, documents, DEPTH):
                pass

        work()  # warm-up
        return median_seconds(work, timed(work)) / int(queries.shape[0])

    quick, slow = seconds(few), seconds(many)
    each, offset = _line(few * RANKED_SHARD, quick, many * RANKED_SHARD, slow)
    return {"query_seconds": offset, "query_document_seconds": each}


def _line(few: int, quick: float, many: int, slow: float) -> tuple[float, float]:
    """The slope and offset, neither below 0, of the line through two measurements."""
    slope = max(0.0, (slow - quick) / (many - few)) if many > few else 0.0
    return slope, max(0.0, quick - slope * few)


def sample_queries() -> list[str]:
    """64 queries of six synthetic words, always the same."""
    words = np.random.default_rng(1).integers(20, 5000, (64, 6))
    return [" ".join(map(_word, ranks)) for ranks in words.tolist()]


def _index(model: Prepared) -> dict[str, float]:
    """Measure two index sizes, to separate the cost per query from that per query and document."""
    count, seconds = 256, 0.0
    queries = [Query(str(number), text) for number, text in enumerate(sample_queries())]
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
            seconds = timed(build)
            again = [_searched(model, built[0], queries) for _ in range(REPEATS)]
            searched.append((count, float(np.median(again)) / len(queries)))
        seconds = median_seconds(build, seconds)
        size = sum(len(text) + RECORD_OVERHEAD for text in texts)
        written = _bytes(built[0])
    (few, quick), (many, slow) = searched[0], searched[-1]
    slope, offset = _line(few, quick, many, slow)
    figures = {"bytes_per_second": size / seconds, "index_share": written / size}
    return figures | {"query_seconds": offset, "query_document_seconds": slope}


def _searched(model: Prepared, folder: Path, queries: list[Query]) -> float:
    start = time.perf_counter()
    for _ in model.lexical.search(folder, queries, DEPTH):
        pass
    return time.perf_counter() - start


def _recorded_indexes(key: str, home: Path) -> tuple[int, int, float]:
    """Bytes of the corpora, bytes of their stored indexes, and seconds of building them."""
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
    """Measure two collection sizes, to separate the cost per query from that per query and document."""
    from harness.search.exact import Limits, search

    rng, dim, asked, few, many = np.random.default_rng(0), 768, 512, 4096, 4096
    queries, documents = (rng.standard_normal((rows, dim), np.float32) for rows in (asked, few))
    limits = Limits(device=device)

    def work() -> None:
        for _ in search(queries, Vectors.of(documents), np.zeros(dim), DEPTH, "euclidean", limits=limits):
            pass

    work()  # warm-up
    quick = slow = median_seconds(work, timed(work))
    while many == few or (slow < ENOUGH_SEARCH and many < MOST_VECTORS):
        many *= 2
        documents = np.concatenate([documents, rng.standard_normal(documents.shape, np.float32)])
        slow = timed(work)
    slow = median_seconds(work, slow)
    slope = (slow - quick) / (many - few) if slow > quick else slow / many  # seconds that a document adds
    return {"flops": 2.0 * asked * dim / slope, "query_seconds": max(0.0, (quick - slope * few) / asked)}


def _multiplying() -> float:
    """Operations per second of float32 matrix products on the CPU."""
    rng, dim, rows, columns, runs, spent = np.random.default_rng(0), 768, 512, 4096, 1, 0.0
    first, second = (rng.standard_normal((count, dim), np.float32) for count in (rows, columns))

    def work() -> None:
        for _ in range(runs):
            first @ second.T

    while spent < ENOUGH_SEARCH and runs < 1 << 10:
        runs *= 2
        spent = timed(work)
    return 2.0 * rows * columns * dim * runs / median_seconds(work, spent)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
