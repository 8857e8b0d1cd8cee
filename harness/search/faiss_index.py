"""Approximate FAISS indexes: built from stored vectors, cached by content and verified on reuse.

$HARNESS_HOME/faiss/KEY/ holds index.faiss and record.json. The key is a hash of the vectors, the factory string, the
training sample and the FAISS version. FAISS trusts the files it reads, so a file is verified by its checksum first.

Vectors are not centred as in exact search (they have unit length for cosine), because a server of the file gets plain
queries. The metric is L2; the inner product for dot, and for cosine if a vector is zero. Memory: the index, and the
training sample or one block of vectors, whichever is larger. Trade-off: an index of up to `SERIAL_ROWS` documents is
built by one thread, so that the same vectors give the same file. Larger ones are built by all threads, and a graph
then varies from build to build (``threads`` is in the record).
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.search.index_config import EXAMPLE, IndexConfig, reason, refused, set_parameters
from harness.search.index_record import StoredIndex, require_unchanged, stored_index
from harness.search.rescore import RIGHT_ANGLE
from harness.storage.regular_files import regular
from harness.system.environment import cores
from harness.types import Hits, Progress, Similarity, UserError

SEED = 0
"""Seed of the training sample; the seeds of FAISS are fixed."""
TRAIN_ROWS, ROWS_PER_LIST = 65_536, 256
"""Rows of the training sample, or 256 per inverted list (FAISS's k-means uses no more)."""
SERIAL_ROWS = 100_000
LEAST, GREATEST = 1e-12, 1e12
"""Range of the largest component for which float32 sums of squares neither underflow nor overflow."""
QUERY_BLOCKS, LARGEST_BLOCK = 32, 512
"""Number of query blocks, which are searched in parallel, and their largest size."""
INDEX = "index.faiss"


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """The record of a built index."""

    factory: str
    similarity: Similarity
    documents: int
    dim: int
    vectors: str
    """SHA-256 of the vectors' float32 bytes, in document order."""
    train_rows: int
    """Size of the training sample, drawn without replacement with ``seed``; 0 if the index needs no training."""
    seed: int
    faiss: str
    """FAISS version that built the index."""
    threads: int
    train_seconds: float
    build_seconds: float
    """Training and adding, without writing the file."""
    bytes: int
    """Size of the file; about that of the index in memory."""
    sha256: str


SearchResult = list[tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Distances and rows [queries, k] of each block of queries as returned by FAISS; row -1 is padding."""


class VectorSummary(NamedTuple):
    """Statistics from one pass over vectors."""

    sha256: str
    """SHA-256 of the float32 bytes."""
    mean: NDArray[np.float64]
    """float64 [d]"""
    zeros: int
    """Number of zero vectors."""
    largest: float
    """Largest absolute value of a component."""


def summarise(vectors: Vectors) -> VectorSummary:
    """Compute the summary in one pass."""
    digest, total, zeros, largest = hashlib.sha256(), np.zeros(vectors.dim), 0, 0.0
    for block in vectors.blocks():
        digest.update(np.ascontiguousarray(block).data)
        total += block.sum(axis=0, dtype=np.float64)
        zeros += int((~block.any(axis=1)).sum())
        largest = max(largest, float(np.abs(block).max(initial=0)))
    return VectorSummary(digest.hexdigest(), total / max(1, len(vectors)), zeros, largest)


def metric_of(similarity: Similarity, summary: VectorSummary) -> str:
    """The FAISS metric: ``L2``, or ``inner product``, with which a zero vector has cosine 0."""
    return "inner product" if similarity == "dot" or (similarity == "cosine" and summary.zeros) else "L2"


def build_index(
    config: IndexConfig,
    vectors: Vectors,
    summary: VectorSummary,
    similarity: Similarity,
    home: Path,
    progress: Progress,
) -> StoredIndex[IndexRecord]:
    """Return the stored index of these vectors if it is valid, else build it.

    Args:
        config: how to build the index.
        vectors: the documents.
        summary: the summary of ``vectors``.
        similarity: of the model.
        home: the index is stored in ``home / "faiss"``.
        progress: receives the progress.

    Raises:
        UserError: FAISS rejects the configuration, or its float32 distances cannot compare the vectors.
    """
    import faiss

    if summary.largest and not LEAST <= summary.largest <= GREATEST:
        raise UserError(
            f"The vectors' largest component is {summary.largest:.3g}, and FAISS compares float32 squares, which need "
            f"{LEAST:.0e} to {GREATEST:.0e}; scale the model's vectors, or omit --index (exact search can do it)."
        )
    n, dim = len(vectors), vectors.dim
    metric = metric_of(similarity, summary)
    index = _empty(config, dim, metric)
    inverted = faiss.try_extract_index_ivf(index)
    lists = inverted.nlist if inverted else 0
    IndexConfig(config.factory, lists=lists).check(n, "the collection")
    train_rows = 0 if index.is_trained else min(n, max(TRAIN_ROWS, ROWS_PER_LIST * lists))
    wanted = {"factory": config.factory, "similarity": similarity, "documents": n, "dim": dim}
    wanted |= {"vectors": summary.sha256, "train_rows": train_rows, "seed": SEED, "faiss": faiss.__version__}
    extra = {"metric": metric} if similarity == "cosine" and metric != "L2" else {}
    threads = 1 if n <= SERIAL_ROWS else faiss.omp_get_max_threads()

    def build(path: Path) -> dict[str, Any]:
        progress(f"training {config.factory} on {train_rows:,} vectors ({train_rows * dim * 4 >> 20} MiB)", 0, 0)
        start = time.perf_counter()
        try:
            with _threads(threads):
                if train_rows:
                    index.train(_sample(vectors, train_rows))
                trained = time.perf_counter() - start
                for block in vectors.blocks():
                    index.add(np.ascontiguousarray(block))
                    progress(f"building {config.factory} (vectors)", int(index.ntotal), n)
        except RuntimeError as error:
            raise refused(config.factory, error, dim, n) from error
        seconds = time.perf_counter() - start
        _write(index, path)
        return {"threads": threads, "train_seconds": round(trained, 4), "build_seconds": round(seconds, 4)}

    return stored_index(home / "faiss", INDEX, wanted, IndexRecord, build, **extra)


def load_index(built: StoredIndex[IndexRecord], config: IndexConfig) -> Any:
    """Load an index and set its search parameters. The checksum is verified before FAISS reads the file."""
    import faiss

    path = built.folder / INDEX
    require_unchanged(path, built.record)
    index = faiss.read_index(str(regular(path)))
    set_parameters(index, config.search, config.factory)
    return index


def search_index(index: Any, queries: NDArray[np.float32], k: int) -> SearchResult:
    """Find the k approximate nearest documents of each query.

    Each block of queries is searched by one thread: if FAISS divides a product among threads, rounding, and with
    compressed vectors the ranking, depends on their number.

    Args:
        index: from `load_index`.
        queries: float32 [q, d], of unit length for cosine.
        k: number of documents.

    Raises:
        UserError: FAISS rejects the search.
    """
    import faiss

    size = min(LARGEST_BLOCK, -(-max(1, len(queries)) // QUERY_BLOCKS))

    def search_block(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return index.search(queries[start : start + size], min(k, index.ntotal))  # type: ignore[no-any-return]

    try:
        # FAISS's number of threads is a setting of each calling thread
        with ThreadPoolExecutor(cores(), "faiss", initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(search_block, range(0, len(queries), size)))
    except RuntimeError as error:
        raise UserError(f"FAISS could not search the index ({reason(error)}); type parameters {EXAMPLE}.") from error


def hits(result: SearchResult, similarity: Similarity, queries: NDArray[np.float32], index: Any) -> list[Hits]:
    """Convert a search result to hits with scores as of exact search (estimates if the vectors are compressed).

    There are fewer than k hits if the index finds fewer. Ties with the k-th are cut as by FAISS.
    """
    import faiss

    found = []
    for distances, rows in result:
        wide = distances.astype(np.float64)
        if similarity == "cosine" and index.metric_type == faiss.METRIC_INNER_PRODUCT:
            wide = 2 - 2 * wide
        scores = wide if similarity == "dot" else -np.sqrt(np.maximum(wide, 0.0))
        found += [Hits(r[r >= 0], s[r >= 0]) for r, s in zip(rows, scores, strict=True)]
    if similarity == "cosine":
        for query in np.flatnonzero(~queries.any(axis=1)).tolist():
            found[query].scores[:] = -RIGHT_ANGLE
    return found


def _empty(config: IndexConfig, dim: int, metric: str) -> Any:
    import faiss

    try:
        kind = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
        return faiss.index_factory(dim, config.factory, kind)
    except RuntimeError as error:
        raise refused(config.factory, error, dim) from error


def _sample(vectors: Vectors, rows: int) -> NDArray[np.float32]:
    chosen = np.random.default_rng(SEED).choice(len(vectors), rows, replace=False)
    return vectors.gather(np.sort(chosen).astype(np.int64))


def _write(index: Any, path: Path) -> None:
    import faiss

    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS reports disk errors as text
        known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        code = next((code for code in known if os.strerror(code) in str(error)), errno.EIO)
        raise OSError(code, reason(error), str(path)) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
