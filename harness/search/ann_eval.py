"""Approximate search beside exact search: what it finds of the same documents, and at what speed and size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.embeddings.store import Vectors
from harness.metrics.measures import measure
from harness.metrics.ranking import rank
from harness.models.runner import Cost, Prepared, dataset_vectors
from harness.search import faiss_index
from harness.search.exact import Limits, search
from harness.search.faiss_index import Contents
from harness.search.index_config import Recipe
from harness.search.retrieve import Retrieval
from harness.system.timer import Clock
from harness.types import Hits, Role

SERVED = 10
"""Depth of the second search: what a server asks for. A graph searches as widely as its k, so 1,000 hits flatter it."""
CUTS = (10, 100, 1000)
"""Depths at which recall is told."""
SERVED_MEASURE = "nDCG@10"
ROUNDS, ENOUGH_SECONDS, LONG_SECONDS = 100, 2.0, 30.0
"""A search is timed this many times, or until so many seconds have gone; one that takes long is timed once."""
Work = TypeVar("Work")


class Reference(NamedTuple):
    """Exact search's answer, which approximate ones are held against."""

    hits: list[Hits]
    seconds: float
    """For all queries at full depth."""
    served_seconds: float
    """For all queries at the depth of `SERVED`."""


@dataclass
class Indexed:
    """One dense model on one dataset, for any number of indexes: what they share is found once, when first needed.

    Memory: the exact hits of all queries, 16 bytes for each document of each.
    """

    model: Prepared
    dataset: Dataset
    k: int
    limits: Limits
    """Of the exact search."""

    @property
    def depth(self) -> int:
        """As deep as the run, and one for the query's own document where that will be left out."""
        return self.k + self.dataset.exclude_self

    @cached_property
    def _both(self) -> dict[Role, tuple[Vectors, Cost]]:
        return dataset_vectors(self.model, self.dataset)

    @cached_property
    def _documents(self) -> Contents:
        return faiss_index.contents(self._both["document"][0])

    @cached_property
    def _queries(self) -> NDArray[np.float32]:
        queries = self._both["query"][0]
        return queries.gather(np.arange(len(queries)))

    def _exactly(self, depth: int) -> list[Hits]:
        documents, mean = self._both["document"][0], self._documents.mean
        return list(search(self._queries, documents, mean, depth, self.model.similarity, limits=self.limits))

    @cached_property
    def _exact(self) -> Reference:
        spent = []
        for depth in (SERVED + self.dataset.exclude_self, self.depth):
            self.model.progress(f"exact search of {self.dataset.label} with {self.model.label}", 0, 0)
            hits, seconds = _timed(partial(self._exactly, depth))
            spent.append(seconds)
        return Reference(hits, spent[1], spent[0])

    def retrieve(self, recipe: Recipe, clock: Clock) -> Retrieval:
        """Searches with an index, which is built first if it is not stored, and holds it against exact search.

        ``index`` of what is returned has the figures: see docs/indexes.md for each.
        """
        (documents, document_cost), (_, query_cost) = self._both["document"], self._both["query"]
        clock.add("encode_documents", document_cost.seconds)
        clock.add("encode_queries", query_cost.seconds)
        similarity = self.model.similarity
        made = faiss_index.build(recipe, documents, self._documents, similarity, self.model.home, self.model.progress)
        clock.add("index", made.record.build_seconds)
        exact = self._exact
        index = faiss_index.load(made, recipe)
        shallow = SERVED + self.dataset.exclude_self
        answer, served_seconds = _timed(lambda: faiss_index.search(index, self._queries, shallow))
        served = faiss_index.hits(answer, similarity, self._queries, index)
        answer, seconds = _timed(lambda: faiss_index.search(index, self._queries, self.depth))
        found = faiss_index.hits(answer, similarity, self._queries, index)
        clock.add("search", seconds)
        total = len(self._queries)
        record = asdict(made.record)
        figures = {
            "factory": recipe.factory,
            "search": recipe.search,
            **{f"recall@{cut}": recall(found, exact.hits, cut) for cut in CUTS if cut <= self.k},
            "queries_per_second": _speeds(total, seconds, exact.seconds),
            "served": {
                "k": SERVED,
                f"recall@{SERVED}": recall(served, exact.hits, SERVED),
                SERVED_MEASURE: self._served_score(served),
                "queries_per_second": _speeds(total, served_seconds, exact.served_seconds),
            },
            "bytes": made.record.bytes,
            "vectors_bytes": made.record.documents * made.record.dim * np.dtype(self.model.ref.storage).itemsize,
            "train_seconds": made.record.train_seconds,
            "build_seconds": made.record.build_seconds,
            "build_threads": made.record.threads,
            "train_sample": made.record.train_rows,
        }
        stored = {key: record[key] for key in ("vectors", "train_rows", "seed", "faiss", "threads", "sha256")}
        manifest = {"factory": recipe.factory, "search": recipe.search, "key": made.folder.name, **stored}
        counts = {"document_tokens": document_cost.tokens, "query_tokens": query_cost.tokens}
        return Retrieval(iter(found), counts, {}, similarity, index={"figures": figures, "manifest": manifest})

    def _served_score(self, served: Sequence[Hits]) -> float:
        paired = zip(self.dataset.queries, served, strict=True)
        exclude = self.dataset.exclude_self
        rankings = (
            rank(q.id, self.dataset.corpus.ids(h.rows), h.scores, SERVED, exclude=q.id if exclude else None)
            for q, h in paired
        )
        return measure(self.dataset.qrels, rankings, (SERVED_MEASURE,)).mean()[SERVED_MEASURE]


def recall(found: Sequence[Hits], exact: Sequence[Hits], k: int) -> float:
    """Mean over queries of the share of the exact k best among the k found. A document that ties with the exact k-th
    is as good as it; fewer than k documents in all: of those there are."""
    shares = []
    for got, true in zip(found, exact, strict=True):
        wanted = min(k, len(true.rows))
        good = true.rows[true.scores >= true.scores[wanted - 1]]
        shares.append(np.isin(got.rows[:k], good).sum() / wanted)
    return float(np.mean(shares))


def costs(figures: dict[str, Any], approximated: dict[str, float], exact: dict[str, float]) -> dict[str, Any]:
    """The figures, with exact search's measures and what the index costs of each: exact minus approximate.

    Of the measures that both have; ``figures`` may hold what this gave before.
    """
    served = dict(figures["served"])
    if SERVED_MEASURE in exact:
        served["cost"] = {SERVED_MEASURE: _less(exact[SERVED_MEASURE], served[SERVED_MEASURE])}
    both = {name: value for name, value in exact.items() if name in approximated}
    cost = {name: _less(value, approximated[name]) for name, value in both.items()}
    return {**figures, "served": served, "exact": both, "cost": cost}


def _less(exact: float, approximated: float) -> float:
    return round(exact - approximated, 12) + 0.0  # what the order of summation left is no cost, nor is -0


def _timed(work: Callable[[], Work]) -> tuple[Work, float]:
    """What the work gives, and the seconds of its fastest round: others' work on the machine only ever adds some."""
    rounds: list[float] = []
    while len(rounds) < 2 or (sum(rounds) < ENOUGH_SECONDS and len(rounds) < ROUNDS):
        start = time.perf_counter()
        done = work()
        rounds.append(time.perf_counter() - start)
        if rounds[0] > LONG_SECONDS:
            break
    return done, min(rounds)


def _speeds(queries: int, approximated: float, exact: float) -> dict[str, float]:
    return {"approximate": round(queries / approximated, 1), "exact": round(queries / exact, 1)}
