"""Evaluate approximate indexes against exact search: recall, metrics, speed and size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from harness.datasets.beir import Dataset
from harness.metrics.measures import measure
from harness.metrics.ranking import rank
from harness.models.runner import Prepared
from harness.search.ann_engines import ENGINES, IndexEngine
from harness.search.exact import Limits
from harness.search.index_config import IndexConfig
from harness.search.retrieve import Retrieval
from harness.system.timer import Clock
from harness.types import Hits

SERVING_DEPTH = 10
"""Depth of the second search, as in serving. A graph searches more widely for a larger k, so a depth of 1,000 alone
would overestimate its recall."""
CUTS = (10, 100, 1000)
"""Depths at which recall is reported."""
SERVING_MEASURE = "nDCG@10"
MAX_ROUNDS, ENOUGH_SECONDS, LONG_SECONDS = 100, 2.0, 30.0
"""Largest number of timed rounds; seconds after which no further round starts; seconds of a first round after which
there is no second one."""
Work = TypeVar("Work")


class ExactReference(NamedTuple):
    """The result of exact search, against which approximate ones are evaluated."""

    hits: list[Hits]
    seconds: float
    """For all queries at full depth."""
    served_seconds: float
    """For all queries at the depth of `SERVING_DEPTH`."""


@dataclass
class IndexEvaluation:
    """Evaluates indexes of one model on one dataset; what they share is computed once, on first use.

    Memory: the exact hits of all queries, 16 bytes per hit.
    """

    model: Prepared
    dataset: Dataset
    k: int
    limits: Limits
    """Limits of exact search."""

    @property
    def depth(self) -> int:
        """Depth of the run, plus one if the query's own document will be excluded."""
        return self.k + self.dataset.exclude_self

    @cached_property
    def _engine(self) -> IndexEngine:
        return ENGINES[self.model.ref.vectors](self.model, self.dataset, self.limits)

    @cached_property
    def _exact(self) -> ExactReference:
        spent = []
        for depth in (SERVING_DEPTH + self.dataset.exclude_self, self.depth):
            self.model.progress(f"exact search of {self.dataset.label} with {self.model.label}", 0, 0)
            hits, seconds = _timed(partial(self._engine.exact, depth))
            spent.append(seconds)
        return ExactReference(hits, spent[1], spent[0])

    def retrieve(self, config: IndexConfig, clock: Clock) -> Retrieval:
        """Search with an index, which is built first if it is not stored, and compare it with exact search.

        Returns:
            The hits; ``index`` holds the measurements that docs/indexes.md describes.
        """
        engine = self._engine
        costs = engine.costs
        clock.add("encode_documents", costs["document"].seconds)
        clock.add("encode_queries", costs["query"].seconds)
        built = engine.build(config)
        clock.add("index", built.record.build_seconds)
        exact = self._exact
        index = engine.load(built, config)
        shallow = SERVING_DEPTH + self.dataset.exclude_self
        result, served_seconds = _timed(lambda: engine.search(index, shallow, config))
        served = engine.hits(result, index)
        result, seconds = _timed(lambda: engine.search(index, self.depth, config))
        found = engine.hits(result, index)
        clock.add("search", seconds)
        total = len(self.dataset.queries)
        record = asdict(built.record)  # type: ignore[call-overload]  # every record is a dataclass
        figures = {
            "factory": config.factory,
            "search": config.search,
            **{f"recall@{cut}": recall(found, exact.hits, cut) for cut in CUTS if cut <= self.k},
            "queries_per_second": _speeds(total, seconds, exact.seconds),
            "served": {
                "k": SERVING_DEPTH,
                f"recall@{SERVING_DEPTH}": recall(served, exact.hits, SERVING_DEPTH),
                SERVING_MEASURE: self._served_score(served),
                "queries_per_second": _speeds(total, served_seconds, exact.served_seconds),
            },
            "bytes": built.record.bytes,
            "vectors_bytes": engine.vectors_bytes,
            "train_seconds": record.get("train_seconds", 0.0),
            "build_seconds": built.record.build_seconds,
            "build_threads": built.record.threads,
            "train_sample": record.get("train_rows", 0),
        }
        named = ("vectors", "train_rows", "seed", engine.library, "threads", "sha256")
        stored = {key: record[key] for key in named if key in record}
        manifest = {"factory": config.factory, "search": config.search, "key": built.folder.name, **stored}
        counts = {"document_tokens": costs["document"].tokens, "query_tokens": costs["query"].tokens}
        counts["index_bytes"] = built.record.bytes
        return Retrieval(
            iter(found), counts, {}, self.model.similarity, index={"figures": figures, "manifest": manifest}
        )

    def _served_score(self, served: Sequence[Hits]) -> float:
        paired = zip(self.dataset.queries, served, strict=True)
        exclude = self.dataset.exclude_self
        rankings = (
            rank(q.id, self.dataset.corpus.lazy_ids(h.rows), h.scores, SERVING_DEPTH, exclude=q.id if exclude else None)
            for q, h in paired
        )
        return measure(self.dataset.qrels, rankings, (SERVING_MEASURE,)).mean()[SERVING_MEASURE]


def recall(found: Sequence[Hits], exact: Sequence[Hits], k: int) -> float:
    """Mean over queries of the share of the k exact nearest documents among the k found.

    A document that ties with the exact k-th counts as one of them. If there are fewer than k documents, all
    count; queries without any are left out.
    """
    shares = []
    for got, true in zip(found, exact, strict=True):
        wanted = min(k, len(true.rows))
        if wanted:  # a sparse query may share a term with no document
            good = true.rows[true.scores >= true.scores[wanted - 1]]
            shares.append(np.isin(got.rows[:k], good).sum() / wanted)
    return float(np.mean(shares)) if shares else 1.0


def index_costs(figures: dict[str, Any], approximated: dict[str, float], exact: dict[str, float]) -> dict[str, Any]:
    """Add the metrics of exact search and the cost of the index: exact minus approximate.

    Args:
        figures: the measurements of an index, possibly with costs from an earlier call.
        approximated: metrics of the index.
        exact: metrics of exact search; those that ``approximated`` lacks are ignored.
    """
    served = dict(figures["served"])
    if SERVING_MEASURE in exact:
        served["cost"] = {SERVING_MEASURE: _less(exact[SERVING_MEASURE], served[SERVING_MEASURE])}
    both = {name: value for name, value in exact.items() if name in approximated}
    cost = {name: _less(value, approximated[name]) for name, value in both.items()}
    return {**figures, "served": served, "exact": both, "cost": cost}


def _less(exact: float, approximated: float) -> float:
    return round(exact - approximated, 12) + 0.0  # removes rounding errors of summation and -0


def _timed(work: Callable[[], Work]) -> tuple[Work, float]:
    """The result of the work and the seconds of its fastest round, which other load on the machine affects least."""
    rounds: list[float] = []
    while len(rounds) < 2 or (sum(rounds) < ENOUGH_SECONDS and len(rounds) < MAX_ROUNDS):
        start = time.perf_counter()
        done = work()
        rounds.append(time.perf_counter() - start)
        if rounds[0] > LONG_SECONDS:
            break
    return done, min(rounds)


def _speeds(queries: int, approximated: float, exact: float) -> dict[str, float]:
    return {"approximate": round(queries / approximated, 1), "exact": round(queries / exact, 1)}
