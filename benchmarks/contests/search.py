"""Exact search by Euclidean distance: the harness against FAISS's IndexFlatL2, on synthetic vectors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import vectors

CHECKED = 20
"""Queries whose distances are computed in float64 by brute force."""
ROWS = 1 << 14


def contests(plan: Plan) -> list[Contest]:
    """Two sizes."""
    large = (plan.pick(20_000, 500_000, 500_000), 768, plan.pick(50, 1000, 1000))
    smaller = (plan.pick(10_000, 100_000, 100_000), 384, plan.pick(50, 500, 500))
    return [_contest(plan, *size, k=plan.pick(100, 1000, 1000)) for size in (large, smaller)]


def _contest(plan: Plan, documents: int, dim: int, queries: int, k: int) -> Contest:
    files = {"documents": str(vectors(plan, documents, dim)), "queries": str(vectors(plan, queries, dim, seed=1))}
    given = {**files, "k": k}
    return Contest(
        title=f"{documents:,} x {dim}, {queries:,} queries, k = {k:,}",
        competitors=[
            Competitor("harness", "benchmarks.contests.search:Search", given, packages=("torch",)),
            Competitor("IndexFlatL2", "benchmarks.peers.flat:Flat", given, packages=("faiss-cpu",)),
        ],
        quality=partial(_quality, Path(files["documents"]), Path(files["queries"])),
        rate=("queries", queries),
        notes=[
            "the harness reads its vectors from a mapped file while it searches; IndexFlatL2 has a copy in memory, "
            "made while loading",
            f"same set: queries, of {CHECKED}, whose {k:,} documents are those of brute force in float64; error: the "
            f"largest of a distance, relative to float64's",
        ],
    )


class Search:
    """The harness's search."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        from harness.embeddings.store import Vectors

        mapped = np.load(documents, mmap_mode="r", allow_pickle=False)
        self.vectors, self.queries, self.k = Vectors.of(mapped), np.load(queries, allow_pickle=False), k
        total = sum(mapped[at : at + ROWS].sum(axis=0, dtype=np.float64) for at in range(0, len(mapped), ROWS))
        self.centre = np.asarray(total) / len(mapped)

    def work(self) -> dict[str, Any]:
        """Rows and distances [queries, k]."""
        from harness.search.exact import search

        rows = np.empty((len(self.queries), self.k), np.int64)
        distances = np.empty((len(self.queries), self.k))
        for at, hits in enumerate(search(self.queries, self.vectors, self.centre, self.k, "euclidean")):
            rows[at], distances[at] = hits.rows[: self.k], -hits.scores[: self.k]
        return {"rows": rows, "distances": distances}


def _quality(documents: Path, queries: Path, answers: Mapping[str, Answer]) -> Quality:
    """Compare with brute force."""
    asked = np.load(queries, mmap_mode="r", allow_pickle=False)[:CHECKED].astype(np.float64)
    stored = np.load(documents, mmap_mode="r", allow_pickle=False)
    exact = np.concatenate([_distances(asked, stored[at : at + ROWS]) for at in range(0, len(stored), ROWS)], axis=1)
    found = {}
    for name, answer in answers.items():
        rows, distances = answer["rows"][:CHECKED], answer["distances"][:CHECKED]
        k = rows.shape[1]
        nearest = np.argpartition(exact, k - 1, axis=1)[:, :k]
        same = sum({*a.tolist()} == {*b.tolist()} for a, b in zip(rows, nearest, strict=True))
        truth = np.take_along_axis(exact, rows, axis=1)
        worst = float(np.abs(distances / truth - 1).max())
        found[name] = {"same set": f"{same} of {len(rows)}", "error": figure(worst, 8)}
    return found


def _distances(queries: NDArray[np.float64], block: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = block.astype(np.float64)
    return np.stack([np.sqrt(np.square(wide - query).sum(axis=1)) for query in queries])
