"""Which unjudged documents to judge first: those that could take most of the lead of one model over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.unjudged import usual_grade
from harness.types import Qrels

Doubles = NDArray[np.float64]
TIE = 1e-12
"""A lead below this is none."""


class PoolCandidate(NamedTuple):
    """An unjudged document in the first k of a model."""

    query_id: str
    doc_id: str
    places: Mapping[str, int]
    """Model -> its rank there, from 1, of the models that have it in their first k."""
    share: float
    """The largest share of a lead that it would take if it were relevant; negative if it would only add to leads."""
    change: float
    """The largest change of a mean difference of nDCG@k if it were relevant."""


def choose(qrels: Qrels, first: Mapping[str, Mapping[str, Sequence[str]]], k: int) -> list[PoolCandidate]:
    """Orders the unjudged documents in the first k of the models.

    Every pair of models has a lead, the mean difference of their nDCG@k. First are the documents that would take the
    largest share of a lead if they were relevant (had the most frequent grade above 0): if all of them turn out not
    to be relevant, no lead can be lost. The documents that could only add to leads follow, by the size of the change.

    Args:
        qrels: The judgements, of the queries compared.
        first: Model -> query -> its documents, best first.
        k: The cutoff.
    """
    grade, models = usual_grade(qrels), [*first]
    discounts = 1 / np.log2(2 + np.arange(k))
    scores = np.array([[_ndcg(judged, first[m].get(q, ()), discounts) for m in models] for q, judged in qrels.items()])
    leads = _pairs(scores.mean(axis=0))
    found = []
    for query, judged in qrels.items():
        rankings = {model: list(first[model].get(query, ()))[:k] for model in models}
        for doc_id in dict.fromkeys(doc for ranking in rankings.values() for doc in ranking if doc not in judged):
            filled = {**judged, doc_id: grade}
            changed = [_ndcg(filled, rankings[m], discounts) - _ndcg(judged, rankings[m], discounts) for m in models]
            changes = _pairs(np.array(changed)) / len(qrels)
            opposed = np.where(np.abs(leads) < TIE, np.abs(changes), -np.sign(leads) * changes)
            shares = opposed / np.maximum(np.abs(leads), TIE)
            places = {model: ranking.index(doc_id) + 1 for model, ranking in rankings.items() if doc_id in ranking}
            found.append(PoolCandidate(query, doc_id, places, float(shares.max()), float(np.abs(changes).max())))
    return sorted(found, key=lambda each: (each.share <= 0, -each.share if each.share > 0 else -each.change))


def _ndcg(judged: Mapping[str, int], ranking: Sequence[str], discounts: Doubles) -> float:
    """Returns nDCG of one ranking, with the gains of trec_eval."""
    gains = [max(judged.get(doc_id, 0), 0) for doc_id in ranking[: len(discounts)]]
    ideal = sorted((max(grade, 0) for grade in judged.values()), reverse=True)[: len(discounts)]
    best = float(np.dot(ideal, discounts[: len(ideal)]))
    return float(np.dot(gains, discounts[: len(gains)])) / best if best else 0.0


def _pairs(values: Doubles) -> Doubles:
    """The differences of all pairs, a later value minus an earlier one."""
    return np.array([values[late] - values[early] for early, late in combinations(range(len(values)), 2)])
