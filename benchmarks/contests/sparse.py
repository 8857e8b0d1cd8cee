"""Exact search of sparse vectors: the harness against scipy and sentence-transformers, on synthetic vectors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.sparse import read
from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import sparse_vectors

CHECKED = 20
"""Queries whose scores are computed in float64 by brute force."""
SHARD = 4096


def contests(plan: Plan) -> list[Contest]:
    """One size: a hundred thousand documents of SPLADE's density."""
    documents, queries, k = plan.pick(5_000, 100_000, 100_000), plan.pick(20, 500, 1000), plan.pick(100, 1000, 1000)
    files = {
        "documents": str(sparse_vectors(plan, documents, 120)),
        "queries": str(sparse_vectors(plan, queries, 40, 1)),
    }
    given = {**files, "k": k}
    return [
        Contest(
            title=f"{documents:,} documents of 120 terms, {queries:,} queries of 40, k = {k:,}",
            competitors=[
                Competitor("harness", "benchmarks.contests.sparse:Search", given, packages=("numba",)),
                Competitor("scipy", "benchmarks.peers.sparse:Scipy", given, packages=("scipy",)),
                Competitor(
                    "SparseEncoder.similarity",
                    "benchmarks.peers.sparse:Similarity",
                    given,
                    packages=("sentence-transformers", "torch"),
                ),
            ],
            quality=partial(_quality, files["documents"], files["queries"]),
            rate=("queries", queries),
            notes=[
                "vectors are in memory, those of the harness by document; it inverts them while it searches, scipy's "
                "were inverted while loading",
                f"same set: queries, of {CHECKED}, whose {k:,} documents are those of brute force in float64; error: "
                f"the largest of a score, relative to float64's",
            ],
        )
    ]


class Search:
    """The harness's search."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        from harness.embeddings.sparse import SparseVectors

        rows = read(documents)
        parts = [rows[start : start + SHARD] for start in range(0, rows.shape[0], SHARD)]
        self.documents, self.queries, self.k = SparseVectors.of(*parts), read(queries), k

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        from harness.search.sparse import search_sparse

        rows = np.empty((self.queries.shape[0], self.k), np.int64)
        scores = np.empty(rows.shape)
        for at, hits in enumerate(search_sparse(self.queries, self.documents, self.k)):
            rows[at], scores[at] = hits.rows[: self.k], hits.scores[: self.k]
        return {"rows": rows, "scores": scores}


def _quality(documents: str, queries: str, answers: Mapping[str, Answer]) -> Quality:
    """Compare with brute force."""
    asked = read(queries)[:CHECKED].astype(np.float64)
    exact = (asked @ read(documents).astype(np.float64).T).toarray()
    found = {}
    for name, answer in answers.items():
        rows, scores = answer["rows"][:CHECKED], answer["scores"][:CHECKED]
        k = rows.shape[1]
        best = np.argpartition(-exact, k - 1, axis=1)[:, :k]
        same = sum({*a.tolist()} == {*b.tolist()} for a, b in zip(rows, best, strict=True))
        worst = float(np.abs(scores / np.take_along_axis(exact, rows, axis=1) - 1).max())
        found[name] = {"same set": f"{same} of {len(rows)}", "error": figure(worst, 8)}
    return found
