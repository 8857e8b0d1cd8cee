"""Retrieve the candidates of every query of a dataset with a model of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.embeddings.store import Vectors
from harness.errors import plugin_code
from harness.metrics.geometry import Figures, panel
from harness.metrics.moments import aligned, collect
from harness.metrics.ranking import best
from harness.metrics.sparse_geometry import collect_sparse, sparse_panel
from harness.models.runner import Cost, Prepared, dataset_sparse_vectors, dataset_token_vectors, dataset_vectors
from harness.search.exact import Limits, search
from harness.search.lexical import lexical_hits, lexical_index
from harness.search.maxsim import search_multivector
from harness.search.partial_results import PartialResults
from harness.search.rerank import rerank
from harness.search.sparse import search_sparse
from harness.storage.bundles import MANIFEST
from harness.system.timer import Clock
from harness.types import Hits, Similarity


@dataclass(slots=True)
class Retrieval:
    """The hits of one model on one dataset. ``hits`` is lazy; all other fields are final before iteration starts."""

    hits: Iterator[Hits] = field(default_factory=lambda: iter(()))
    """One per query, in order, at least as deep as requested; computed on iteration."""
    counts: dict[str, int] = field(default_factory=dict)
    geometry: dict[str, Any] = field(default_factory=dict)
    similarity: Similarity | None = None
    members: dict[str, Retrieval] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)
    """For an approximate index: ``figures`` (its measurements) and ``manifest`` (its entry in the manifest)."""

    def cost(self) -> dict[str, int]:
        """The counts including those of the members, and each member's own as ``member/count``.

        Final only after all hits have been consumed. `Clock` does the same with seconds.
        """
        total = dict(self.counts)
        for label, member in self.members.items():
            for name, count in member.cost().items():
                total[f"{label}/{name}"] = count
                if "/" not in name:
                    total[name] = total.get(name, 0) + count
        return total


def retrieve(model: Prepared, dataset: Dataset, k: int, clock: Clock, limits: Limits) -> Retrieval:
    """Search all queries of a dataset with a model of any kind.

    Args:
        model: its vectors or index are computed first if they are not stored.
        dataset: all its queries are searched.
        k: depth of the ranking; one more hit is retrieved if a query's own document will be excluded.
        clock: records the seconds of each phase; those of the search while the hits are consumed.
        limits: limits of exact search.

    Returns:
        The hits, counts and geometry.
    """
    if (search_one := SEARCHES.get(model.ref.spec.kind)) is None:
        return _composite(model, dataset, k, clock, limits)
    found = search_one(model, dataset, k + dataset.exclude_self, clock, limits)
    found.hits = clock.timed_each("search", found.hits)
    return found


def _composite(model: Prepared, dataset: Dataset, k: int, clock: Clock, limits: Limits) -> Retrieval:
    """Fuse or rerank the rankings of the members. The geometry of their vectors is in their own cells only."""
    fuses = model.ref.spec.kind == "fusion"
    depth = model.depth if fuses else max(k, model.depth)
    members = {m.label: retrieve(m, dataset, depth, clock.part(m.label), limits) for m in model.members}
    found = Retrieval(members=members)
    lists = [_ranked(member.hits, dataset, depth) for member in members.values()]
    hits = _fused(model, lists) if fuses else rerank(model, dataset, lists[0], found.counts, clock)
    found.hits = clock.timed_each("fuse" if fuses else "rerank", hits)
    return found


def _fused(model: Prepared, members: list[Iterator[Hits]]) -> Iterator[Hits]:
    for lists in zip(*members, strict=True):
        with plugin_code(f"{model.label}: fuse() raised", type(model.fusion).__module__):
            hits = model.fusion.fuse(lists)
        yield hits


def _ranked(found: Iterator[Hits], dataset: Dataset, depth: int) -> Iterator[Hits]:
    """Sort hits by the ranking rule of the harness and cut them, without a query's own document."""
    for query, (rows, scores) in zip(dataset.queries, found, strict=True):
        exclude = query.id if dataset.exclude_self else None
        order = best(query.id, dataset.corpus.lazy_ids(rows), scores, depth, exclude=exclude)
        yield Hits(rows[order], np.asarray(scores, np.float64)[order])


def _dense(model: Prepared, dataset: Dataset, depth: int, clock: Clock, limits: Limits) -> Retrieval:
    both = dataset_vectors(model, dataset)
    (documents, document_cost), (queries, query_cost) = both["document"], both["query"]
    found = _encoded(document_cost, query_cost, clock)
    width = np.dtype("float32" if model.ref.spec.kind == "transform" else model.ref.storage).itemsize
    found.counts["index_bytes"] = len(documents) * documents.dim * width
    partial = PartialResults(model, dataset, depth).merged()
    with clock.timed("geometry"):
        model.progress(f"geometry of {model.label} on {dataset.label}", 0, 0)
        if partial is not None:
            moments, sample = partial[1]
            mean, figures = moments.mean, panel(moments, sample)
        else:
            mean, figures = _documents_geometry(documents, limits.rows(documents.dim))
        found.geometry["documents"] = dict(figures)
        found.geometry["queries"] = panel(*collect(queries.blocks(), len(queries)))
    found.similarity = model.similarity
    if partial is not None:
        found.hits = partial[0]
    else:
        query_vectors = queries.gather(np.arange(len(queries)))
        found.hits = search(query_vectors, documents, mean, depth, found.similarity, limits=limits)
    return found


@lru_cache(maxsize=1)
def _documents_geometry(documents: Vectors, rows: int) -> tuple[NDArray[np.float64], Figures]:
    """Mean and geometry of document vectors, read in blocks of ``rows``; cached for the next query set."""
    moments, sample = collect(documents.blocks(aligned(rows)), len(documents))
    return moments.mean, panel(moments, sample)


def _encoded(documents: Cost, queries: Cost, clock: Clock) -> Retrieval:
    clock.add("encode_documents", documents.seconds)
    clock.add("encode_queries", queries.seconds)
    return Retrieval(counts={"document_tokens": documents.tokens, "query_tokens": queries.tokens})


def _sparse(model: Prepared, dataset: Dataset, depth: int, clock: Clock, limits: Limits) -> Retrieval:
    both = dataset_sparse_vectors(model, dataset)
    (documents, document_cost), (queries, query_cost) = both["document"], both["query"]
    found = _encoded(document_cost, query_cost, clock)
    with clock.timed("geometry"):
        model.progress(f"geometry of {model.label} on {dataset.label}", 0, 0)
        stored, asked = (collect_sparse(side.shards(), side.dim) for side in (documents, queries))
        found.geometry = {"documents": sparse_panel(stored, asked), "queries": sparse_panel(asked)}
    found.counts["index_bytes"] = 8 * stored.active + 4 * stored.n
    found.similarity = model.similarity
    found.hits = search_sparse(queries.whole(), documents, depth, limits=limits)
    return found


def _multivector(model: Prepared, dataset: Dataset, depth: int, clock: Clock, limits: Limits) -> Retrieval:
    both = dataset_token_vectors(model, dataset)
    (documents, document_cost), (queries, query_cost) = both["document"], both["query"]
    found = _encoded(document_cost, query_cost, clock)
    kept = documents.summary()
    found.counts["index_bytes"] = documents.stored_bytes(kept.vectors, model.bases[0].ref.storage)
    found.counts["document_vectors"] = kept.vectors
    if kept.truncated is not None:
        found.counts["truncated_documents"] = kept.truncated
    found.similarity = model.similarity
    found.hits = search_multivector(queries.whole(), documents, depth, found.similarity, limits=limits)
    return found


def _lexical(model: Prepared, dataset: Dataset, depth: int, clock: Clock, limits: Limits) -> Retrieval:
    folder, seconds = lexical_index(model, dataset.corpus, model.home, dataset.label)
    clock.add("index", seconds)
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    size = sum(file.stat().st_size for file in files)
    return Retrieval(lexical_hits(model, folder, dataset.queries, depth), {"index_bytes": size})


class Search(Protocol):
    """Searches all queries of a dataset with a model of one kind, ``depth`` documents deep."""

    def __call__(self, model: Prepared, dataset: Dataset, depth: int, clock: Clock, limits: Limits) -> Retrieval:
        """The hits, counts and geometry."""
        ...


SEARCHES: Mapping[str, Search] = {
    **dict.fromkeys(("dense", "transform"), _dense),
    "sparse": _sparse,
    **dict.fromkeys(("multivector", "pooling"), _multivector),
    "lexical": _lexical,
}
"""Kind of a model -> how it is searched; the other kinds are made of models of these."""
