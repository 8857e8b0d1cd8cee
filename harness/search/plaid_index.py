"""Approximate indexes of token vectors by fast-plaid: built from stored vectors, cached by content, verified on reuse.

$HARNESS_HOME/plaid/KEY/ holds the folder index.plaid and record.json, like `harness.search.faiss_index` of dense
vectors. The library learns centroids from a sample, and keeps of every vector the number of its nearest centroid and
the difference in few bits, computed in float16. A restored vector has length 1, whatever length it had. The seed is
fixed, and the same vectors give the same files. Documents without vectors are left out, as exact search never finds
them.

Memory: the library copies the sample and holds some integers for every vector. The vectors themselves are given to it
in a temporary file beside the index, as float16, which is memory-mapped.

Source: K. Santhanam, O. Khattab, C. Potts, M. Zaharia, "PLAID: An Efficient Engine for Late Interaction Retrieval",
CIKM 2022.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.search.index_config import IndexConfig
from harness.search.index_libraries import PLAID
from harness.search.index_record import LOCK, StoredIndex, require_unchanged, stored_index
from harness.system.environment import cores
from harness.system.log import NOTE
from harness.types import Hits, Progress, UserError

INDEX = "index.plaid"
SEED = 42
"""Seed of the sample, the centroids and the codec."""
PROBES, FULL_SCORES, SHARE = 8, 4096, 4
"""Search parameters unless others are named: centroids for each vector of the query, documents that get an approximate
score of their vectors' centroids; and the share of these, one in so many, whose vectors are restored."""
LEAST_VECTORS = 10
"""The codec is learned from a twentieth of the vectors, rounded, which must not be 0."""
LANES = 8
"""The dimension must be a multiple of this."""
LONGEST = 255.0
"""Length of a vector whose square float16 can hold."""
UNIT = 0.01
"""Difference from length 1 that rounding explains."""
ROWS, PIECE = 1 << 13, 1 << 16
"""Documents and vectors that are read at a time."""
QUERIES_PER_THREAD = 10


@dataclass(frozen=True, slots=True)
class PlaidRecord:
    """The record of a built index."""

    factory: str
    documents: int
    """Those that have vectors."""
    tokens: int
    """Their vectors."""
    dim: int
    vectors: str
    """SHA-256 of the vectors as float32 and of their number in each document, in document order."""
    seed: int
    fast_plaid: str
    """Version of fast-plaid that built the index."""
    threads: int
    build_seconds: float
    """Without reading the stored vectors."""
    bytes: int
    sha256: str


class TokenSummary(NamedTuple):
    """Statistics from one pass over the documents."""

    sha256: str
    """As ``PlaidRecord.vectors``."""
    counts: NDArray[np.int64]
    """Vectors of each document."""
    shortest: float
    """Length of the shortest vector that is not zero; 1 if all are zero."""
    longest: float
    """Length of the longest one; 1 if all are zero."""


class LoadedPlaid(NamedTuple):
    """An index in memory."""

    index: Any
    centroids: int


def summarise(documents: MultiVectors) -> TokenSummary:
    """Compute the summary in one pass."""
    digest, counts = hashlib.sha256(), [np.empty(0, np.int64)]
    shortest, longest = np.inf, 0.0
    for block in documents.blocks(ROWS, PIECE):
        vectors = np.ascontiguousarray(block.vectors, "<f4")
        digest.update(vectors.data)
        counts.append(block.counts)
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        squares = squares[squares > 0]
        shortest, longest = min(shortest, squares.min(initial=np.inf)), max(longest, squares.max(initial=0))
    each = np.concatenate(counts)
    digest.update(each.astype("<i8").data)
    lengths = np.sqrt([shortest, longest]).tolist() if longest else [1.0, 1.0]
    return TokenSummary(digest.hexdigest(), each, *lengths)


def build_plaid(
    config: IndexConfig, documents: MultiVectors, summary: TokenSummary, home: Path, progress: Progress
) -> StoredIndex[PlaidRecord]:
    """Return the stored index of these vectors if it is valid, else build it.

    Args:
        config: How to build it.
        documents: The documents.
        summary: Of the documents.
        home: The index is stored in ``home / "plaid"``.
        progress: Receives the progress.

    Raises:
        UserError: The library cannot index such vectors, or cannot run here.
    """
    _require_indexable(documents.dim, summary)
    PLAID.require()
    if max(summary.longest - 1, 1 - summary.shortest) > UNIT:
        lengths = f"{summary.shortest:.3g} to {summary.longest:.3g}"
        progress(f"{NOTE}PLAID restores vectors with length 1; those of the documents have lengths {lengths}", 0, 0)
    counts = summary.counts[summary.counts > 0].tolist()
    wanted = {"factory": config.factory, "documents": len(counts), "tokens": sum(counts), "dim": documents.dim}
    wanted |= {"vectors": summary.sha256, "seed": SEED, "fast_plaid": version(PLAID.package)}

    def build(path: Path) -> dict[str, Any]:
        import torch
        from fast_plaid.search import FastPlaid

        with TemporaryFile(dir=path.parent) as file:
            for block in documents.blocks(ROWS, PIECE):
                file.write(np.ascontiguousarray(block.vectors, np.float16).data)
            file.flush()
            tokens: Any = torch.from_numpy(np.memmap(file, np.float16, "r+", shape=(wanted["tokens"], documents.dim)))
            progress(f"building {config.factory} (vectors)", 0, 0)
            start = time.perf_counter()
            with FastPlaid(index=str(path), device="cpu") as index:
                # start_from_scratch=0: otherwise the vectors of a small collection are stored, too, as a pickle
                settings: dict[str, Any] = {"seed": SEED, "start_from_scratch": 0, **PLAID.numbers(config.factory)}
                index.create(documents_embeddings=[*tokens.split(counts)], **settings)
                index.freeze()
            seconds = time.perf_counter() - start
        for lock in path.glob(f"*{LOCK}"):
            lock.unlink()
        return {"threads": torch.get_num_threads(), "build_seconds": round(seconds, 4)}

    return stored_index(home / "plaid", INDEX, wanted, PlaidRecord, build)


def _require_indexable(dim: int, summary: TokenSummary) -> None:
    count = int(summary.counts.sum())
    if dim % LANES:
        raise UserError(
            f"PLAID packs vectors of which the dimension is a multiple of {LANES}, and these have {dim}; "
            f"omit --index plaid."
        )
    if count < LEAST_VECTORS:
        raise UserError(
            f"PLAID learns from {LEAST_VECTORS} vectors or more, and the documents have {count}; omit --index plaid."
        )
    if summary.longest > LONGEST:
        raise _too_long(summary.longest)


def _too_long(length: float) -> UserError:
    return UserError(
        f"PLAID computes with float16, which needs vectors no longer than {LONGEST:.0f}, and one has length "
        f"{length:.3g}; scale the model's vectors, or omit --index plaid."
    )


def load_plaid(built: StoredIndex[PlaidRecord]) -> LoadedPlaid:
    """Load an index. The checksum is verified before fast-plaid reads the files."""
    PLAID.require()
    from fast_plaid.search import FastPlaid

    path = built.folder / INDEX
    require_unchanged(path, built.record)
    centroids = np.load(path / "centroids.npy", mmap_mode="r", allow_pickle=False)
    return LoadedPlaid(FastPlaid(index=str(path), device="cpu"), len(centroids))


def queries_for_plaid(queries: TokenVectors) -> list[Any]:
    """The vectors of each query that has some, as fast-plaid takes them; UserError if they are too long for it."""
    import torch

    tokens: Any = torch.from_numpy(np.array(queries.vectors, np.float32))
    if len(tokens) and (longest := float(tokens.norm(dim=1).max())) > LONGEST:
        raise _too_long(longest)
    return [each for each in tokens.split(queries.counts.tolist()) if len(each)]


def search_plaid(loaded: LoadedPlaid, queries: list[Any], k: int, search: str) -> list[list[tuple[int, float]]]:
    """fast-plaid's own result: for each query at most k of (document that has vectors, score), best first.

    Args:
        loaded: From `load_plaid`.
        queries: From `queries_for_plaid`.
        k: Number of documents.
        search: Search parameters, such as ``n_ivf_probe=16,n_full_scores=8192``.
    """
    if not queries:
        return []
    numbers = {"n_ivf_probe": PROBES, "n_full_scores": max(FULL_SCORES, SHARE * k), **PLAID.numbers(search)}
    numbers["n_ivf_probe"] = min(numbers["n_ivf_probe"], loaded.centroids)  # the library aborts for more
    threads = max(1, min(cores(), len(queries) // QUERIES_PER_THREAD))
    found = loaded.index.search(queries, top_k=k, **numbers, n_processes=threads, show_progress=False)
    return list(found)


def plaid_hits(
    result: Sequence[Sequence[tuple[int, float]]],
    documents: NDArray[np.int64],
    queries: NDArray[np.int64],
    *,
    mean: bool = False,
) -> list[Hits]:
    """Convert a result to the hits of each query.

    Args:
        result: From `search_plaid`.
        documents: Vectors of each document.
        queries: Vectors of each query. One without vectors finds nothing.
        mean: Whether scores are divided by the number of the query's vectors.
    """
    [present] = np.nonzero(documents)
    found, each = [], iter(result)
    for count in queries.tolist():
        pairs = next(each) if count else ()
        rows = present[np.array([row for row, _ in pairs], np.int64)]
        found.append(Hits(rows, np.array([score for _, score in pairs], np.float64) / (count if mean else 1)))
    return found
