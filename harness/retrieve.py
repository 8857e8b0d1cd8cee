"""One model's candidates for every query of one dataset, with what finding them cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.clock import Clock
from harness.dataset import Dataset
from harness.geometry import collect, panel
from harness.index import search
from harness.lexical import lexical_index
from harness.prepared import Prepared, dataset_vectors
from harness.spec import Hits, Similarity


@dataclass(slots=True)
class Retrieval:
    """The hits of one model on one dataset. Everything but ``hits`` is settled before the first is taken."""

    hits: Iterator[Hits] = field(default_factory=lambda: iter(()))
    """One per query, in order, at least as deep as asked for; searched as they are taken."""
    counts: dict[str, int] = field(default_factory=dict)
    geometry: dict[str, Any] = field(default_factory=dict)
    similarity: Similarity | None = None
    index: dict[str, Any] = field(default_factory=dict)
    """Of an approximate index: its figures, and what the manifest says of it."""


def retrieve(model: Prepared, dataset: Dataset, k: int, clock: Clock) -> Retrieval:
    """Searches a dataset with a model of any kind.

    Args:
        model: whose vectors or index are made first if they are not stored.
        dataset: every query of it is searched.
        k: depth of the ranking; one more is found where a query's own document will be left out.
        clock: gets the seconds of each phase, the search's as hits are taken.
    """
    depth = k + dataset.exclude_self
    found = (_dense if model.ref.spec.kind == "dense" else _lexical)(model, dataset, depth, clock)
    found.hits = clock.timed_each("search", found.hits)
    return found


def _dense(model: Prepared, dataset: Dataset, depth: int, clock: Clock) -> Retrieval:
    both = dataset_vectors(model, dataset)
    (documents, document_cost), (queries, query_cost) = both["document"], both["query"]
    clock.add("encode_documents", document_cost.seconds)
    clock.add("encode_queries", query_cost.seconds)
    found = Retrieval(counts={"document_tokens": document_cost.tokens, "query_tokens": query_cost.tokens})
    with clock.timed("geometry"):
        model.progress(f"geometry of {model.label} on {dataset.label}", 0, 0)
        moments, sample = collect(documents.blocks(), len(documents))
        found.geometry["documents"] = panel(moments, sample)
        found.geometry["queries"] = panel(*collect(queries.blocks(), len(queries)))
    found.similarity = model.similarity
    asked = queries.gather(np.arange(len(queries)))
    found.hits = search(asked, documents, moments.mean, depth, found.similarity)
    return found


def _lexical(model: Prepared, dataset: Dataset, depth: int, clock: Clock) -> Retrieval:
    model.progress(f"indexing {dataset.label} with {model.label}", 0, 0)
    folder, seconds = lexical_index(model, dataset.corpus, model.home)
    clock.add("index", seconds)
    return Retrieval(iter(model.lexical.search(folder, dataset.queries, depth)))
