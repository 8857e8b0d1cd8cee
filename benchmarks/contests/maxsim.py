"""Exact search by MaxSim: the harness against maxsim-cpu and sentence-transformers, on synthetic token vectors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.maxsim import DIM
from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import token_vectors

TOKENS, ASKED = 125, 32
"""Vectors of a document and of a query, about those of a passage and of ColBERT's queries."""
CHECKED = 10
"""Queries whose scores are computed in float64 by brute force."""
SHARD = 4096


def contests(plan: Plan) -> list[Contest]:
    """Two depths of the run."""
    documents, queries = plan.pick(400, 20_000, 100_000), plan.pick(4, 40, 100)
    files = {
        "documents": str(token_vectors(plan, documents * TOKENS, DIM)),
        "queries": str(token_vectors(plan, queries * ASKED, DIM, 1)),
    }
    return [_contest(files, documents, queries, k) for k in plan.pick(10, 100, 100) * np.array([1, 10])]


def _contest(files: Mapping[str, str], documents: int, queries: int, k: int) -> Contest:
    given = {**files, "tokens": TOKENS, "asked": ASKED, "k": int(k)}
    return Contest(
        title=f"{documents:,} documents of {TOKENS} vectors, {queries} queries of {ASKED}, k = {k:,}",
        competitors=[
            Competitor("harness", "benchmarks.contests.maxsim:Search", given, packages=("torch", "numba")),
            Competitor("maxsim-cpu", "benchmarks.peers.maxsim:MaxsimCpu", given, "mteb", ("maxsim-cpu",)),
            Competitor(
                "MultiVectorEncoder.similarity",
                "benchmarks.peers.maxsim:SentenceTransformers",
                given,
                packages=("sentence-transformers", "torch"),
            ),
        ],
        quality=partial(_quality, files["documents"], files["queries"]),
        rate=("queries", queries),
        notes=[
            f"float32 vectors of {DIM} dimensions; the harness reads them from a mapped file while it searches, the "
            f"others have them in memory",
            f"same set: queries, of {min(CHECKED, queries)}, whose {k:,} documents are those of brute force in "
            f"float64; error: the largest of a score, relative to float64's",
        ],
    )


class Search:
    """The harness's search."""

    def __init__(self, documents: str, queries: str, tokens: int, asked: int, k: int) -> None:
        from harness.embeddings.multivector import MultiVectors
        from harness.embeddings.token_vectors import TokenVectors

        stored, given, self.k = (
            np.load(documents, mmap_mode="c", allow_pickle=False),
            np.load(queries, allow_pickle=False),
            k,
        )
        count = len(stored) // tokens
        sizes = [min(SHARD, count - start) for start in range(0, count, SHARD)]

        def shard(number: int) -> TokenVectors:
            start, size = number * SHARD * tokens, sizes[number]
            rows = stored[start : start + size * tokens]
            return TokenVectors(rows, np.arange(0, size * tokens + 1, tokens))

        self.documents = MultiVectors(shard, sizes, DIM)
        self.queries = TokenVectors(given, np.arange(0, len(given) + 1, asked))

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        import torch  # noqa: F401 (as where an encoder made the queries)

        from harness.search.maxsim import search_multivector

        rows = np.empty((len(self.queries), self.k), np.int64)
        scores = np.empty(rows.shape)
        for at, hits in enumerate(search_multivector(self.queries, self.documents, self.k)):
            rows[at], scores[at] = hits.rows[: self.k], hits.scores[: self.k]
        return {"rows": rows, "scores": scores}


def _quality(documents: str, queries: str, answers: Mapping[str, Answer]) -> Quality:
    """Compare with brute force."""
    stored = np.load(documents, mmap_mode="r", allow_pickle=False)
    asked = np.load(queries, allow_pickle=False).reshape(-1, ASKED, DIM)[:CHECKED].astype(np.float64)
    exact = np.empty((len(asked), len(stored) // TOKENS))
    for start in range(0, exact.shape[1], 500):
        some = stored[start * TOKENS : (start + 500) * TOKENS].astype(np.float64)
        for query, scores in zip(asked, exact, strict=True):
            scores[start : start + 500] = (some @ query.T).reshape(-1, TOKENS, ASKED).max(axis=1).sum(axis=1)
    found = {}
    for name, answer in answers.items():
        rows, scores = answer["rows"][:CHECKED], answer["scores"][:CHECKED]
        k = rows.shape[1]
        best = np.argpartition(-exact, k - 1, axis=1)[:, :k]
        same = sum({*a.tolist()} == {*b.tolist()} for a, b in zip(rows, best, strict=True))
        worst = float(np.abs(scores / np.take_along_axis(exact, rows, axis=1) - 1).max())
        found[name] = {"same set": f"{same} of {len(rows)}", "error": figure(worst, 8)}
    return found
