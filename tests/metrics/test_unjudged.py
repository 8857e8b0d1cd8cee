"""Bounds that unjudged documents leave, against every assignment of grades."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from harness.metrics.measures import measure
from harness.metrics.ranking import Ranking
from harness.metrics.unjudged import pair, usual_grade
from harness.types import Qrels


def ndcg(qrels: Qrels, run: dict[str, list[str]], k: int) -> list[float]:
    """nDCG@k of every judged query, by `measure`."""
    rankings = [Ranking(query, ids, np.arange(len(ids), 0, -1, dtype=np.float32)) for query, ids in run.items()]
    return list(measure(qrels, rankings, [f"nDCG@{k}"]).values[:, 0])


def case(seed: int, grades: list[int]) -> tuple[Qrels, dict[str, list[str]], dict[str, list[str]]]:
    rng = np.random.default_rng(seed)
    qrels: Qrels = {}
    for query in range(4):
        docs = rng.choice(8, rng.integers(1, 6), replace=False)
        qrels[f"q{query}"] = {f"d{doc}": int(rng.choice(grades)) for doc in docs}
    qrels["q0"]["gone"] = max(grades)
    first, second = (
        {query: [f"d{doc}" for doc in rng.choice(8, rng.integers(0, 5), replace=False)] for query in [*qrels][:3]}
        for _ in range(2)
    )
    return qrels, first, second


@pytest.mark.parametrize("grades", [[0, 1], [-1, 0, 1, 2], [0, 1, 3]])
@pytest.mark.parametrize("seed", range(6))
def test_bounds_are_those_of_all_assignments(seed: int, grades: list[int]) -> None:
    k, (qrels, first, second) = 3, case(seed, grades)
    found = pair(qrels, [*qrels], first, second, k)
    low, high = found.bounds()
    used = sorted({grade for judged in qrels.values() for grade in judged.values() if grade > 0} or {1})
    for row, (query, judged) in enumerate(qrels.items()):
        own = [{query: run.get(query, [])} for run in (first, second)]
        unjudged = sorted({doc for run in own for doc in run[query][:k]} - judged.keys())
        values = []
        for given in product([0, *used], repeat=len(unjudged)):
            filled = {query: judged | dict(zip(unjudged, given, strict=True))}
            one, other = (ndcg(filled, run, k)[0] for run in own)
            values.append(one - other)
            if len({*given}) < 2:  # all of one grade
                alike = found.difference(given[0] if given else 0)[row]
                assert alike == pytest.approx(one - other, abs=1e-12)
        assert (low[row], high[row]) == pytest.approx((min(values), max(values)), abs=1e-12)


def test_the_usual_grade_is_the_most_frequent_one() -> None:
    assert usual_grade({"q": {"a": 2, "b": 2, "c": 1, "d": 0, "e": 0, "f": 0}}) == 2
    assert usual_grade({"q": {"a": 2, "b": 1}}) == 1
    assert usual_grade({"q": {"a": -1}}) == 1


def test_many_grades_are_thinned_out_with_both_ends_kept() -> None:
    found = pair({"q": {f"d{grade}": grade for grade in range(1, 12)}}, ["q"], {}, {}, 10)
    assert (len(found.grades), found.grades[0], found.grades[-1]) == (4, 1, 11)
