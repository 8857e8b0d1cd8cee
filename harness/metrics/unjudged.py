"""What documents without a judgement could do to the difference of two models in nDCG@k.

Only documents in the first k of one of the two models are considered: each of them may turn out to have any grade. A
document that neither model found would change both scores through the ideal ranking alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from harness.types import Qrels

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_GRADES = 4
"""Grades that an unjudged document may have; where the judgements use more, so many of them are tried."""


def usual_grade(qrels: Qrels) -> int:
    """The most frequent grade above 0, the smaller of two; 1 if no document is relevant."""
    counts = Counter(grade for judged in qrels.values() for grade in judged.values() if grade > 0)
    return min(counts, key=lambda grade: (-counts[grade], grade), default=1)


@dataclass(frozen=True, slots=True)
class PairedTopK:
    """The first k documents of two models on some queries, as far as nDCG@k depends on them."""

    base: Doubles
    """DCG of the first model minus that of the second, of judged documents, [queries]."""
    weights: Doubles
    """Discount at the first model minus that at the second of each unjudged document, descending, 0 after the last
    one, [queries, 2 k]."""
    unjudged: Ints
    """Number of unjudged documents, [queries]."""
    grades: Ints
    """The grades that an unjudged document may have, ascending, [grades]."""
    at_least: Ints
    """Number of judged documents with at least each grade of ``steps``, [queries, steps]."""
    steps: Ints
    """Every grade above 0 of the judgements, ascending, [steps]."""
    k: int

    def difference(self, grade: int = 0) -> Doubles:
        """The difference [queries] if every unjudged document has this grade."""
        return self._value(self.weights.sum(axis=1) * grade, [(self.unjudged, grade)] if grade > 0 else [])

    def bounds(self) -> tuple[Doubles, Doubles]:
        """The smallest and the greatest difference [queries] over all grades of the unjudged documents."""
        places = self.unjudged[:, None] - 1 - np.arange(self.weights.shape[1])
        ascending = np.where(places >= 0, np.take_along_axis(self.weights, np.maximum(places, 0), axis=1), 0.0)
        return -replace(self, base=-self.base, weights=-ascending)._greatest(), self._greatest()

    def _greatest(self) -> Doubles:
        """The numbers of documents of each grade decide the ideal ranking.

        Given them, the largest weights should have the highest grades, so that only the numbers are tried.
        """
        prefix = np.pad(np.cumsum(self.weights, axis=1), ((0, 0), (1, 0)))
        rows, most = np.arange(len(self.base)), int(self.unjudged.max(initial=0))
        found = np.full(len(self.base), -np.inf)
        for ascending in combinations_with_replacement(range(most + 1), len(self.grades)):
            numbers = ascending[::-1]  # of documents with at least each grade
            gained = prefix[:, 0] * 0.0
            for number, step in zip(numbers, np.diff(self.grades, prepend=0), strict=True):
                gained = gained + step * prefix[rows, number]
            added = [
                (np.full(len(rows), number - above), int(grade))
                for number, above, grade in zip(numbers, [*numbers[1:], 0], self.grades, strict=True)
            ]
            possible = numbers[0] <= self.unjudged if numbers else np.full(len(rows), True)
            found = np.where(possible, np.maximum(found, self._value(gained, added)), found)
        return found

    def _value(self, gained: Doubles, added: Sequence[tuple[Ints, int]]) -> Doubles:
        """The difference where the unjudged documents gain so much, and so many of them have each grade."""
        at_least = self.at_least.copy()
        for number, grade in added:
            at_least += number[:, None] * (self.steps <= grade)
        discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(2 + np.arange(self.k)))])
        ideal: Doubles = discounts[np.minimum(at_least, self.k)] @ np.diff(self.steps, prepend=0)
        values: Doubles = np.divide(self.base + gained, ideal, out=np.zeros(len(ideal)), where=ideal > 0)
        return values


def pair(
    qrels: Qrels,
    queries: Sequence[str],
    first: Mapping[str, Sequence[str]],
    second: Mapping[str, Sequence[str]],
    k: int,
) -> PairedTopK:
    """Collects what `PairedTopK` holds.

    Args:
        qrels: The judgements.
        queries: Judged queries.
        first: Query -> the first model's documents, best first.
        second: The same of the second model.
        k: The cutoff.
    """
    steps = np.array(sorted({g for judged in qrels.values() for g in judged.values() if g > 0} or {1}), np.int64)
    grades = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_GRADES)).round().astype(int))]
    discounts = [1 / np.log2(2 + place) for place in range(k)]
    base, weights = np.zeros(len(queries)), np.zeros((len(queries), 2 * k))
    unjudged, at_least = np.zeros(len(queries), np.int64), np.zeros((len(queries), len(steps)), np.int64)
    for row, query in enumerate(queries):
        judged, open_weights = qrels[query], dict[str, float]()
        for ranking, sign in ((first, 1.0), (second, -1.0)):
            for doc_id, discount in zip(ranking.get(query, ())[:k], discounts, strict=False):
                if doc_id in judged:
                    base[row] += sign * discount * max(judged[doc_id], 0)
                else:
                    open_weights[doc_id] = open_weights.get(doc_id, 0.0) + sign * discount
        unjudged[row] = len(open_weights)
        weights[row, : len(open_weights)] = sorted(open_weights.values(), reverse=True)
        at_least[row] = (np.array([*judged.values()])[:, None] >= steps).sum(axis=0)
    return PairedTopK(base, weights, unjudged, grades, at_least, steps, k)
