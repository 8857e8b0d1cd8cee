"""Measures vectors in memory: exact search, metrics and geometry, as the pipeline does, and nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.metrics.geometry import Figures, panel
from harness.metrics.measures import measure
from harness.metrics.moments import collect
from harness.metrics.ranking import rank
from harness.search.exact import search
from harness.types import Qrels, Similarity


def measure_vectors(
    documents: NDArray[np.float32],
    queries: NDArray[np.float32],
    *,
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    qrels: Qrels,
    metrics: Sequence[str],
    similarity: Similarity = "euclidean",
    depth: int,
    exclude_self: bool = False,
) -> tuple[dict[str, float], Figures]:
    """Searches the documents for every query and evaluates the rankings.

    Args:
        documents: float32 [n, d], finite.
        queries: float32 [q, d], finite.
        document_ids: [n].
        query_ids: [q].
        qrels: The judgements.
        metrics: Names as in ir_measures.
        similarity: How vectors are compared.
        depth: Documents per query.
        exclude_self: Whether a query's own id is left out of its ranking.

    Returns:
        Metric -> mean, and the geometry of the document vectors as they are compared.
    """
    if similarity == "cosine":
        documents, queries = (
            Vectors.of(array, normalise=True).gather(np.arange(len(array))) for array in (documents, queries)
        )
    moments, sample = collect(iter([documents]), len(documents))
    hits = search(queries, Vectors.of(documents), moments.mean, depth + exclude_self, similarity)
    rankings = (
        rank(
            query,
            [document_ids[row] for row in found.rows.tolist()],
            found.scores,
            depth,
            exclude=query if exclude_self else None,
        )
        for query, found in zip(query_ids, hits, strict=True)
    )
    return measure(qrels, rankings, metrics).mean(), panel(moments, sample)
