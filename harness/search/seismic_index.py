"""Approximate indexes of sparse vectors by Seismic: built from stored vectors, cached by content, verified on reuse.

$HARNESS_HOME/seismic/KEY/ holds index.seismic and record.json, like `harness.search.faiss_index` of dense vectors.
Seismic clusters the postings of every term at random, without a seed, so the same vectors give another file with every
build; the file that was measured is the one that is kept. It stores weights as float16 and needs weights above 0.

Source: S. Bruch, F. M. Nardini, C. Rulli, R. Venturini, "Efficient Inverted Indexes for Approximate Retrieval over
Learned Sparse Representations", SIGIR 2024.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness.embeddings.sparse import SparseVectors
from harness.search.index_config import IndexConfig
from harness.search.index_libraries import SEISMIC
from harness.search.index_record import StoredIndex, require_unchanged, stored_index
from harness.system.environment import cores
from harness.types import Hits, Progress, UserError

INDEX = "index.seismic"
SMALL_DIM = 1 << 16
"""Largest dimension of an index whose terms have 16 bits."""
SEARCH = {"query_cut": 10.0, "heap_factor": 0.7}
"""Search parameters unless others are named: the terms of a query that are read, and how readily a block is skipped."""


@dataclass(frozen=True, slots=True)
class SeismicRecord:
    """The record of a built index."""

    factory: str
    documents: int
    dim: int
    vectors: str
    """SHA-256 of the rows: terms, weights and lengths, in document order."""
    seismic: str
    """Version of Seismic that built the index."""
    threads: int
    build_seconds: float
    """Without reading the vectors and writing the file."""
    bytes: int
    sha256: str


def build_seismic(
    config: IndexConfig, vectors: SparseVectors, digest: str, home: Path, progress: Progress
) -> StoredIndex[SeismicRecord]:
    """Return the stored index of these vectors if it is valid, else build it in memory.

    Args:
        config: How to build it.
        vectors: The documents.
        digest: Of the vectors, from `digest_of`.
        home: The index is stored in ``home / "seismic"``.
        progress: Receives the progress.
    """
    import seismic

    wanted = {"factory": config.factory, "documents": len(vectors), "dim": vectors.dim}
    wanted |= {"vectors": digest, "seismic": version(SEISMIC.package)}

    def build(path: Path) -> dict[str, Any]:
        small, threads = vectors.dim <= SMALL_DIM, cores()
        dataset = seismic.SeismicDataset() if small else seismic.SeismicDatasetLV()
        index_type = seismic.SeismicIndex if small else seismic.SeismicIndexLV
        row = 0
        for shard in vectors.shards():
            names = [str(number) for number in range(row, row + shard.shape[0])]
            dataset.add_documents_by_id(
                names, shard.indices.astype(np.int64), shard.data.astype(np.float32), shard.indptr.astype(np.int64)
            )
            row += shard.shape[0]
        progress(f"building {config.factory} (vectors)", 0, 0)
        start = time.perf_counter()
        with _quiet():
            index = index_type.build_from_dataset(dataset, **SEISMIC.numbers(config.factory), num_threads=threads)
            seconds = time.perf_counter() - start
            index.save(str(path.with_suffix("")))
        [written] = path.parent.iterdir()  # Seismic adds its own ending
        written.rename(path)
        return {"threads": threads, "build_seconds": round(seconds, 4)}

    return stored_index(home / "seismic", INDEX, wanted, SeismicRecord, build)


def load_seismic(built: StoredIndex[SeismicRecord]) -> Any:
    """Load an index. The checksum is verified before Seismic reads the file."""
    import seismic

    path = built.folder / INDEX
    require_unchanged(path, built.record)
    index_type = seismic.SeismicIndex if built.record.dim <= SMALL_DIM else seismic.SeismicIndexLV
    with _quiet():
        return index_type.load(str(path))


def queries_for_seismic(queries: Any) -> tuple[Any, list[Any], list[Any]]:
    """Names, terms and weights of the rows of a CSR array, as Seismic takes them."""
    import seismic

    kind = seismic.get_seismic_string()
    slices = [slice(start, stop) for start, stop in pairwise(queries.indptr.tolist())]
    terms = queries.indices.astype(str).astype(kind)
    weights = queries.data.astype(np.float32)
    names = np.array([str(number) for number in range(queries.shape[0])], kind)
    return names, [terms[own] for own in slices], [weights[own] for own in slices]


def search_seismic(index: Any, queries: tuple[Any, list[Any], list[Any]], k: int, search: str) -> list[Any]:
    """Seismic's own result, in any order: for each query at most k of (query, score, document), best first.

    Args:
        index: From `load_seismic`.
        queries: From `queries_for_seismic`.
        k: Number of documents.
        search: Search parameters, such as ``query_cut=20,heap_factor=0.8``.
    """
    numbers = SEARCH | SEISMIC.numbers(search)
    settings = {"query_cut": int(numbers["query_cut"]), "heap_factor": float(numbers["heap_factor"])}
    names, terms, weights = queries
    with _quiet():
        found = index.batch_search(names, terms, weights, k=k, **settings, num_threads=cores())
    return list(found)


def seismic_hits(result: list[Any], queries: int) -> list[Hits]:
    """Convert a result to the hits of each of the ``queries``, which Seismic's threads return in any order.

    Documents with a score of 0 or less are not found, as in exact search.
    """
    found = [Hits(np.empty(0, np.int64), np.empty(0))] * queries
    for each in result:
        scored = [(int(document), float(score)) for _, score, document in each if score > 0]
        if scored:
            rows, scores = zip(*scored, strict=True)
            found[int(each[0][0])] = Hits(np.array(rows, np.int64), np.array(scores))
    return found


def digest_of(vectors: SparseVectors) -> str:
    """Hex SHA-256 of the rows, read once; UserError if a weight is below 0."""
    digest = hashlib.sha256()
    for shard in vectors.shards():
        if len(shard.data) and shard.data.min() < 0:
            raise UserError("Seismic searches weights above 0, and the vectors have others; omit --index seismic.")
        for array, kind in ((np.diff(shard.indptr), "<i8"), (shard.indices, "<i8"), (shard.data, "<f4")):
            digest.update(np.ascontiguousarray(array, kind).data)
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Discards what the library prints to standard output, which belongs to the results of the command."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
