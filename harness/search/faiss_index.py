"""Approximate indexes: any FAISS factory string, built from stored vectors, kept by content, checked when reused.

$HARNESS_HOME/faiss/KEY/ holds index.faiss and record.json. The key is made from the vectors' bytes, the factory, the
training sample and FAISS's version, never from a name. FAISS trusts the files it reads, so it is given none but those
whose checksum is the recorded one.

Vectors go in as the model gives them (of unit length for cosine): exact search centres them, but plain queries are
what a server of the file has. The metric is L2; the inner product for dot, and for cosine where a vector is zero.
Memory: the index itself, and the training sample or one block of vectors, whichever is larger. Trade-off accepted: up
to `SERIAL_ROWS` documents are built by one thread, so that the same vectors give the same file; more are built by all,
and where the threads of a graph meet is then left to chance (``threads`` says which).
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.search.exact import RIGHT_ANGLE
from harness.search.index_config import EXAMPLE, Recipe, reason, refused, set_parameters
from harness.storage.atomic import content_key, sha256_file, whole_folder, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.regular_files import regular
from harness.storage.safe_load import fields
from harness.system.environment import cores
from harness.types import Hits, Progress, Similarity, UserError

SEED = 0
"""Of the training sample; FAISS's own seeds are fixed."""
TRAIN_ROWS, ROWS_PER_LIST = 65_536, 256
"""The training sample has this many rows, or 256 per inverted list (more, FAISS's k-means leaves unread)."""
SERIAL_ROWS = 100_000
LEAST, GREATEST = 1e-12, 1e12
"""Largest components of vectors whose float32 squares and their sums neither vanish nor overflow."""
QUERY_BLOCKS, LARGEST_BLOCK = 32, 512
"""Queries are searched in so many blocks, which share the cores, or in more that are no larger than this."""
INDEX, RECORD = "index.faiss", "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a built index."""

    factory: str
    similarity: Similarity
    documents: int
    dim: int
    vectors: str
    """SHA-256 of the vectors' float32 bytes, in document order."""
    train_rows: int
    """Of these vectors, drawn without replacement with ``seed``; 0: nothing was to be trained."""
    seed: int
    faiss: str
    """Version that built it."""
    threads: int
    train_seconds: float
    build_seconds: float
    """Training and adding; writing the file is not counted."""
    bytes: int
    """Of the file, which is what the index takes in memory too, about."""
    sha256: str


SHAPE: dict[str, type] = {
    **dict.fromkeys(("factory", "similarity", "vectors", "faiss", "sha256"), str),
    **dict.fromkeys(("documents", "dim", "train_rows", "seed", "threads", "bytes"), int),
    **dict.fromkeys(("train_seconds", "build_seconds"), float),
}
"""Of a `Record` on disk."""


class Built(NamedTuple):
    """An index on disk."""

    folder: Path
    record: Record


Answer = list[tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Distances and rows [block of queries, k] as FAISS gives them; row -1: it found no more."""


class Contents(NamedTuple):
    """What one pass over vectors tells."""

    sha256: str
    """Of the vectors' bytes."""
    mean: NDArray[np.float64]
    """float64 [d]"""
    zeros: int
    """Vectors of length 0."""
    longest: float
    """The largest absolute value of a component."""


def contents(vectors: Vectors) -> Contents:
    """Reads the vectors once."""
    digest, total, zeros, longest = hashlib.sha256(), np.zeros(vectors.dim), 0, 0.0
    for block in vectors.blocks():
        digest.update(np.ascontiguousarray(block).data)
        total += block.sum(axis=0, dtype=np.float64)
        zeros += int((~block.any(axis=1)).sum())
        longest = max(longest, float(np.abs(block).max(initial=0)))
    return Contents(digest.hexdigest(), total / max(1, len(vectors)), zeros, longest)


def metric_of(similarity: Similarity, known: Contents) -> str:
    """How FAISS compares vectors: ``L2``, or ``inner product``, by which a zero vector has cosine 0."""
    return "inner product" if similarity == "dot" or (similarity == "cosine" and known.zeros) else "L2"


def build(
    recipe: Recipe, vectors: Vectors, known: Contents, similarity: Similarity, home: Path, progress: Progress
) -> Built:
    """The index of these vectors, whose `contents` are known: the stored one if it is whole, else built now.

    Raises UserError where FAISS refuses, and for vectors that its float32 distances cannot compare.
    """
    import faiss

    if known.longest and not LEAST <= known.longest <= GREATEST:
        raise UserError(
            f"The vectors' largest component is {known.longest:.3g}, and FAISS compares float32 squares, which need "
            f"{LEAST:.0e} to {GREATEST:.0e}; scale the model's vectors, or omit --index (exact search can do it)."
        )
    n, dim = len(vectors), vectors.dim
    metric = metric_of(similarity, known)
    index = _empty(recipe, dim, metric)
    inverted = faiss.try_extract_index_ivf(index)
    lists = inverted.nlist if inverted else 0
    Recipe(recipe.factory, lists=lists).check(n, "the collection")
    train_rows = 0 if index.is_trained else min(n, max(TRAIN_ROWS, ROWS_PER_LIST * lists))
    wanted = {"factory": recipe.factory, "similarity": similarity, "documents": n, "dim": dim, "vectors": known.sha256}
    wanted |= {"train_rows": train_rows, "seed": SEED, "faiss": faiss.__version__}
    apart = {"metric": metric} if similarity == "cosine" and metric != "L2" else {}
    folder = home / "faiss" / content_key(wanted | apart)[:32]
    if record := _intact(folder, wanted):
        return Built(folder, record)
    threads = 1 if n <= SERIAL_ROWS else faiss.omp_get_max_threads()
    with whole_folder(folder, keep=lambda: _intact(folder, wanted) is not None) as made, _threads(threads):
        progress(f"training {recipe.factory} on {train_rows:,} vectors ({train_rows * dim * 4 >> 20} MiB)", 0, 0)
        start = time.perf_counter()
        try:
            if train_rows:
                index.train(_sample(vectors, train_rows))
            trained = time.perf_counter() - start
            for block in vectors.blocks():
                index.add(np.ascontiguousarray(block))
                progress(f"building {recipe.factory}", int(index.ntotal), n)
        except RuntimeError as error:
            raise refused(recipe.factory, error, dim, n) from error
        seconds = time.perf_counter() - start
        _write(index, made / INDEX)
        size, digest = (made / INDEX).stat().st_size, sha256_file(made / INDEX)
        record = Record(
            **wanted,  # type: ignore[arg-type]
            threads=threads,
            train_seconds=round(trained, 4),
            build_seconds=round(seconds, 4),
            bytes=size,
            sha256=digest,
        )
        write_json(made / RECORD, seal(asdict(record)))
    found = _intact(folder, wanted)  # another process may have been quicker
    return Built(folder, found or record)


def load(built: Built, recipe: Recipe) -> Any:
    """The index in memory, its search parameters set; a file that is not the recorded one is never read."""
    import faiss

    path = built.folder / INDEX
    if sha256_file(path) != built.record.sha256:
        raise UserError(f"{path} changed while it was in use; run the same command again.")
    index = faiss.read_index(str(regular(path)))
    set_parameters(index, recipe.search, recipe.factory)
    return index


def search(index: Any, queries: NDArray[np.float32], k: int) -> Answer:
    """Per query its k nearest documents by the index's own reckoning; queries as the vectors are (of unit length for
    cosine). UserError when FAISS refuses.

    Each block of queries is searched by one thread: where FAISS divides a product among threads, its digits, and with
    compressed vectors its ranking, depend on their number.
    """
    import faiss

    size = min(LARGEST_BLOCK, -(-max(1, len(queries)) // QUERY_BLOCKS))

    def found(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return index.search(queries[start : start + size], min(k, index.ntotal))  # type: ignore[no-any-return]

    try:
        # faiss's number of threads is each calling thread's own
        with ThreadPoolExecutor(cores(), "faiss", initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(found, range(0, len(queries), size)))
    except RuntimeError as error:
        raise UserError(f"FAISS could not search the index ({reason(error)}); type parameters {EXAMPLE}.") from error


def hits(answer: Answer, similarity: Similarity, queries: NDArray[np.float32], index: Any) -> list[Hits]:
    """The answer as hits with scores comparable to exact search's: estimates where vectors are stored compressed.

    Fewer than k where the index finds fewer; ties with the k-th are cut as FAISS does.
    """
    import faiss

    found = []
    for distances, rows in answer:
        wide = distances.astype(np.float64)
        if similarity == "cosine" and index.metric_type == faiss.METRIC_INNER_PRODUCT:
            wide = 2 - 2 * wide
        scores = wide if similarity == "dot" else -np.sqrt(np.maximum(wide, 0.0))
        found += [Hits(r[r >= 0], s[r >= 0]) for r, s in zip(rows, scores, strict=True)]
    if similarity == "cosine":
        for query in np.flatnonzero(~queries.any(axis=1)).tolist():
            found[query].scores[:] = -RIGHT_ANGLE
    return found


def _empty(recipe: Recipe, dim: int, metric: str) -> Any:
    import faiss

    try:
        kind = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
        return faiss.index_factory(dim, recipe.factory, kind)
    except RuntimeError as error:
        raise refused(recipe.factory, error, dim) from error


def _sample(vectors: Vectors, rows: int) -> NDArray[np.float32]:
    chosen = np.random.default_rng(SEED).choice(len(vectors), rows, replace=False)
    return vectors.gather(np.sort(chosen).astype(np.int64))


def _write(index: Any, path: Path) -> None:
    import faiss

    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS gives the disk's errors as text
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


def _intact(folder: Path, wanted: dict[str, Any]) -> Record | None:
    """The record of the folder's index, where its file is as it was written and the record says all that is wanted."""
    try:
        record = Record(**fields(read_sealed(folder / RECORD), **SHAPE))
        if wanted.items() <= asdict(record).items() and sha256_file(folder / INDEX) == record.sha256:
            return record
    except (OSError, ValueError, TypeError):
        pass
    return None
