"""Makes training rows from a query's candidates: filtering, counting and selection.

All counts but ``queries`` and ``positives`` are per row: the candidates of a query with two relevant documents count
twice, because each row filters and selects separately.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import numpy as np

from harness.datasets.beir import Dataset
from harness.types import Query
from harness_training.data.formats import Row
from harness_training.data.miners import interleave

COUNTS = {
    "queries": "queries examined",
    "positives": "relevant documents of theirs",
    "no_positive": "of those, not in the corpus or without text",
    "candidates": "candidates for the rows, each once",
    "judged": "removed: judged relevant",
    "duplicate": "removed: no text, or that of the query, a positive or a better candidate",
    "positive_aware": "removed: too near the query beside the positive",
    "cross_encoder": "removed: too relevant to the cross-encoder",
    "left": "left to choose from",
    "short": "rows left out: fewer candidates than negatives",
    "rows": "rows",
}
"""Counter -> description. ``candidates of MODEL`` is added for each miner."""
REMEMBERED = 1 << 16
"""Size of the cache of document texts."""


class Choice(NamedTuple):
    """How negatives are selected from the remaining candidates."""

    negatives: int
    pick: Literal["random", "top"]
    """At random, or the highest ranked."""
    seed: int


class Passage(NamedTuple):
    """A candidate negative."""

    row: int
    id: str
    text: str


class Filter(Protocol):
    """Detects false negatives."""

    name: str
    """A key of `COUNTS`."""

    def begin(self, queries: Sequence[Query]) -> None:
        """Prepare for the queries of the next part."""
        ...

    def keep(self, query: Query, positive: Passage, candidates: Sequence[Passage]) -> list[bool]:
        """Whether to keep each candidate for this positive."""
        ...


class Selection:
    """Makes the rows of a dataset's queries."""

    def __init__(self, dataset: Dataset, choice: Choice, filters: Sequence[Filter]) -> None:
        self._dataset, self._choice, self._filters = dataset, choice, filters
        self._text = lru_cache(REMEMBERED)(lambda row: dataset.corpus[row].content)
        asked: dict[str, list[str]] = {}
        for query in dataset.queries:
            asked.setdefault(plain(query.text), []).append(query.id)
        self._duplicates = {text: ids for text, ids in asked.items() if len(ids) > 1}

    def rows(self, query: Query, found: Mapping[str, Sequence[int]]) -> tuple[list[Row], dict[str, int]]:
        """The query's rows and counts, given each miner's results (corpus rows, best first)."""
        relevant = self._relevant(query.id)
        same = [query.id, *self._duplicates.get(plain(query.text), ())]  # ids of queries with this text
        answers = dict.fromkeys(doc_id for query_id in same for doc_id in self._relevant(query_id))
        known = self._texts(list(answers))
        positives = [one for one in known if one.id in relevant]
        pool = interleave(list(found.values()))
        candidates, judged = self._candidates(query, pool, set(answers), known)
        times = len(positives)
        counts = Counter(queries=1, positives=len(relevant), no_positive=len(relevant) - times)
        counts.update(candidates=len(pool) * times, judged=judged * times)
        counts["duplicate"] = (len(pool) - judged - len(candidates)) * times
        counts.update({f"candidates of {name}": len(rows) * times for name, rows in found.items()})
        made = [row for positive in positives if (row := self._row(query, positive, candidates, counts))]
        counts["rows"] = len(made)
        return made, dict(counts)

    def _relevant(self, query_id: str) -> list[str]:
        return [doc_id for doc_id, grade in self._dataset.qrels[query_id].items() if grade > 0]

    def _texts(self, relevant: list[str]) -> list[Passage]:
        """Those documents that are in the corpus and have a text."""
        rows = self._dataset.corpus.rows(relevant).tolist()
        named = [Passage(row, doc_id, self._text(row)) for row, doc_id in zip(rows, relevant, strict=True) if row >= 0]
        return [positive for positive in named if positive.text.strip()]

    def _candidates(
        self, query: Query, pool: list[int], relevant: set[str], positives: list[Passage]
    ) -> tuple[list[Passage], int]:
        """Candidates with distinct texts that are not judged relevant, and the number judged relevant."""
        seen = {"", plain(query.text), *(plain(positive.text) for positive in positives)}
        kept, judged = [], 0
        for row, doc_id in zip(pool, self._dataset.corpus.ids(np.array(pool, np.int64)), strict=True):
            if doc_id in relevant:
                judged += 1
            elif (text := plain(self._text(row))) not in seen:
                seen.add(text)
                kept.append(Passage(row, doc_id, self._text(row)))
        return kept, judged

    def _row(self, query: Query, positive: Passage, left: list[Passage], counts: Counter[str]) -> Row | None:
        for each in self._filters if left else ():
            before = len(left)
            left = [one for one, stays in zip(left, each.keep(query, positive, left), strict=True) if stays]
            counts[each.name] += before - len(left)
            if not left:
                break
        counts["left"] += len(left)
        negatives, pick, seed = self._choice
        if len(left) < negatives or not query.text.strip():
            counts["short"] += 1
            return None
        if pick == "random":
            left = sorted(left, key=lambda one: draw(seed, query.id, positive.id, one.id))
        return (query.text, positive.text, *(one.text for one in left[:negatives]))


def plain(text: str) -> str:
    """Collapse white space; texts that are equal afterwards count as duplicates."""
    return " ".join(text.split())


def draw(seed: int, *parts: str) -> bytes:
    """A pseudo-random value that depends only on the seed and the ids."""
    return hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=16).digest()
