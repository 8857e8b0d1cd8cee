"""Rerank the best hits of a first stage. Scores are stored in parts, so an interrupted run resumes.

$HARNESS_HOME/reranked/RERANKERKEY/ holds the scores of each part as `VectorStore` holds vectors, float32 [pairs, 1]. A
part is keyed by the corpus, the texts of the queries and the rows that are scored, so it cannot be stale.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.embeddings.formats import DENSE
from harness.embeddings.parts import ShardParts, digest, receive, remove_parts
from harness.embeddings.store import Shard, Vectors, VectorStore
from harness.errors import plugin_code
from harness.models.runner import Prepared
from harness.registry.protocols import Scored
from harness.registry.remote import RemoteReranker
from harness.storage.atomic import content_key
from harness.storage.remote import RemoteCache
from harness.system.timer import Clock
from harness.types import Hits, PluginError, Query

PAIRS = 6400
"""Pairs per part (64 queries at the default depth): the most that a killed run loses."""


class ScoreStore(VectorStore):
    """The stored scores of one reranker."""

    def __init__(self, home: Path, reranker_key: str, shared: RemoteCache | None = None) -> None:
        super().__init__(home, reranker_key, "document", shared=shared)
        self.folder = home / "reranked" / reranker_key[:32]


def rerank(
    model: Prepared, dataset: Dataset, firsts: Iterator[Hits], counts: dict[str, int], clock: Clock
) -> Iterator[Hits]:
    """Yield for each query its ``depth`` best hits ordered by the reranker, followed by the others in their old order.

    Args:
        model: the reranker.
        dataset: its queries and documents are scored.
        firsts: hits of the first stage, sorted by the ranking rule of the harness.
        counts: receives ``pairs`` and ``rerank_tokens``.
        clock: receives the seconds that stored parts took when they were scored.
    """
    shared = None if model.ref.endpoint else model.shared
    store, depth = ScoreStore(model.home, model.ref.own_key, shared), model.depth
    store.sweep()
    paired = zip(dataset.queries, firsts, strict=True)
    while part := list(islice(paired, max(1, PAIRS // depth))):
        requests = [(query, hits.rows[:depth]) for query, hits in part]
        key = content_key([dataset.corpus.sha256, [[query.text, rows.tolist()] for query, rows in requests]])
        shard = store.get(key)
        if shard is None:
            shard = _scored(model, dataset, requests, store, key)
        else:
            clock.add("rerank", shard.seconds)
        counts["pairs"] = counts.get("pairs", 0) + shard.rows
        counts["rerank_tokens"] = counts.get("rerank_tokens", 0) + shard.tokens
        scores = Vectors.open(store, [shard]).gather(np.arange(shard.rows))[:, 0]
        ends = np.cumsum([len(rows) for _, rows in requests])
        for (_, hits), own in zip(part, np.split(scores, ends[:-1]), strict=True):
            yield _reordered(hits, own.astype(np.float64))


def _scored(
    model: Prepared,
    dataset: Dataset,
    requests: Sequence[tuple[Query, NDArray[np.int64]]],
    store: ScoreStore,
    key: str,
) -> Shard:
    """Scores all pairs and stores the part; what a server sends is stored answer by answer."""
    pairs = [(query.text, dataset.corpus[row].content) for query, rows in requests for row in rows.tolist()]
    reranker = model.reranker
    if isinstance(reranker, RemoteReranker) and pairs:
        digests, parts = [digest(*pair) for pair in pairs], ShardParts(store.folder, key, 1)
        what, module = f"{model.label}: scoring pairs", type(reranker).__module__
        receive(
            parts, digests, lambda missing: reranker.score_batches([pairs[i] for i in missing]), _fault, what, module
        )
        shard = store.put(key, parts.rows(digests), parts.seconds, parts.tokens)
        remove_parts(store.folder, key)
        return shard
    start = time.perf_counter()
    scores, tokens = score_pairs(model, pairs)
    return store.put(key, scores[:, None], time.perf_counter() - start, tokens)


def _fault(scores: NDArray[np.float32], count: int) -> str:
    return DENSE.fault(scores, count, 1)


def score_pairs(model: Prepared, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[np.float32], int]:
    """Scores of all pairs, concatenated, and the tokens read (0: not known).

    Equal pairs are scored once, so that they tie in any batch.
    """
    place = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    with plugin_code(f"{model.label}: score() raised", type(model.reranker).__module__):
        scored = model.reranker.score(list(place)) if place else Scored(np.empty(0, np.float32))
    if fault := score_fault(scored, len(place)):
        raise PluginError(f"{model.label}: {fault}")
    return scored.scores[[place[pair] for pair in pairs]], scored.tokens


def score_fault(scored: object, count: int) -> str:
    """Describe what is wrong with the scores of a reranker; empty if they are valid."""
    if not isinstance(scored, Scored) or not isinstance(scored.scores, np.ndarray):
        return "score() returned no Scored with an array; return Scored(np.asarray(..., np.float32))."
    if scored.scores.shape != (count,) or scored.scores.dtype != np.float32:
        found = f"{scored.scores.dtype} {scored.scores.shape}"
        return f"score() returned {found} for {count} pairs; return float32 ({count},)."
    return "" if np.isfinite(scored.scores).all() else "score() returned NaN or infinity; fix the reranker."


def _reordered(hits: Hits, own: NDArray[np.float64]) -> Hits:
    floor = float(own.min()) if len(own) else 0.0
    # Steps that are large enough not to be lost to rounding.
    below = floor - max(1.0, abs(floor)) * np.arange(1, len(hits.rows) - len(own) + 1)
    scores = np.concatenate([own, below])
    order = np.argsort(-scores, kind="stable")
    return Hits(hits.rows[order], scores[order])
