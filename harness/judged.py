"""Measures by array operations over the places of judged documents, equal to trec_eval's to the last digit.

A measure looks at nothing but where in a ranking the judged documents stand, some few per query. Their places are
collected query by query; every sum then runs over all queries at once, in the order of places in which trec_eval adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.run import Ranking
from harness.spec import Qrels

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


class Marks(NamedTuple):
    """Judged documents of several queries, by query and place."""

    row: Ints
    """Of the query."""
    place: Ints
    """From 0."""
    grade: Ints

    def upto(self, cutoff: int, least: int) -> Marks:
        """Those in the first ``cutoff`` places, of this grade at least."""
        kept = (self.place < cutoff) & (self.grade >= least)
        return Marks(self.row[kept], self.place[kept], self.grade[kept])


class Places:
    """Where the judged documents of rankings stand."""

    def __init__(self, qrels: Qrels, rows: Mapping[str, int], judged: Ints | None = None) -> None:
        """``rows`` says which row of the values a query has; ``judged`` as in `harness.measure.measure`."""
        self._qrels, self._count, self._judged = qrels, len(rows), judged
        self._rows: list[int] = []
        self._places: list[Ints] = []
        self._grades: list[Ints] = []
        sizes = [len(qrels[query]) for query in rows]
        self._edges = [0, *accumulate(sizes)]
        self._grade = np.array([grade for query in rows for grade in qrels[query].values()], np.int64)
        self._place_of = np.zeros(0, np.int32)
        """By row in the corpus: the document's place in the last ranking that had it."""
        owners = np.repeat(np.array(list(rows.values()), np.int64), sizes)
        order = np.lexsort((-self._grade, owners))
        first = np.searchsorted(owners[order], owners[order])
        self._ideal = Marks(owners[order], np.arange(len(order)) - first, self._grade[order])

    def add(self, row: int, ranking: Ranking) -> None:
        """A ranking of one document or more, of the query with this row. ValueError where it has a document twice."""
        if self._judged is None or ranking.rows is None:
            places, grades = self._by_name(ranking)
        else:
            places, grades = self._by_number(row, ranking.query_id, ranking.rows)
        self._rows.append(row)
        self._places.append(places)
        self._grades.append(grades)

    def _by_name(self, ranking: Ranking) -> tuple[Ints, Ints]:
        judged, place_of = self._qrels[ranking.query_id], {doc_id: at for at, doc_id in enumerate(ranking.doc_ids)}
        if len(place_of) < len(ranking.doc_ids):
            raise _twice(ranking.query_id)
        found = judged.keys() & place_of.keys()
        places, grades = (np.fromiter(map(of.__getitem__, found), np.int64, len(found)) for of in (place_of, judged))
        return places, grades

    def _by_number(self, row: int, query: str, ranked: Ints) -> tuple[Ints, Ints]:
        assert self._judged is not None
        if (most := int(ranked.max())) >= len(self._place_of):
            self._place_of = np.zeros(2 * most + 1, np.int32)
        numbers = np.arange(len(ranked), dtype=np.int32)
        self._place_of[ranked] = numbers
        if (self._place_of[ranked] != numbers).any():
            raise _twice(query)
        own = slice(self._edges[row], self._edges[row + 1])
        judged = self._judged[own]
        # What this ranking has not may hold a place in an earlier one, or none: another document stands there now.
        places = self._place_of[np.minimum(judged, len(self._place_of) - 1)].clip(max=len(ranked) - 1)
        found = ranked[places] == judged
        return places[found].astype(np.int64), self._grade[own][found]

    def _found(self) -> Marks:
        rows = np.repeat(np.array(self._rows, np.int64), list(map(len, self._places)))
        nothing = np.empty(0, np.int64)
        places, grades = (np.concatenate([nothing, *parts]) for parts in (self._places, self._grades))
        order = np.lexsort((places, rows))
        return Marks(rows[order], places[order], grades[order])

    def values(self, measures: Sequence[Any]) -> Doubles:
        """[rows, measures] of measures of ir_measures that this module `computes`."""
        found, values = self._found(), np.zeros((self._count, len(measures)))
        for column, one in enumerate(measures):
            cutoff, least = int(one.params.get("cutoff", 1 << 60)), int(one.params.get("rel", 1))
            values[:, column] = FORMULAE[one.NAME](self, found, cutoff, least)
        return values

    def relevant(self, least: int) -> Doubles:
        """How many documents are judged so high, [rows]."""
        return self.sums(self._ideal.upto(1 << 60, least))

    def ideal(self, cutoff: int) -> Doubles:
        """DCG of the best ranking there can be, [rows]."""
        return self.gain(self._ideal, cutoff)

    def gain(self, marks: Marks, cutoff: int) -> Doubles:
        """DCG: grades over log2(2 + place), [rows] (K. Jarvelin and J. Kekalainen, 2002, as trec_eval has it)."""
        kept = marks.upto(cutoff, 1)
        # The C library's logarithm, which trec_eval takes; numpy's may differ in the last digit.
        logarithms = np.array([math.log2(2 + place) for place in range(int(kept.place.max(initial=-1)) + 1)])
        return self.sums(kept, kept.grade / logarithms[kept.place])

    def sums(self, marks: Marks, weights: Doubles | None = None) -> Doubles:
        """Of the weights (1 each) per query [rows], added in the order of places."""
        return np.bincount(marks.row, weights, self._count).astype(np.float64)


def computes(measure: Any) -> bool:
    """Whether the measure, and each parameter that it is given, is known here."""
    allowed = {"cutoff"} if measure.NAME == "nDCG" else {"cutoff", "rel"}
    return measure.NAME in FORMULAE and measure.params.keys() <= allowed


def _twice(query: str) -> ValueError:
    return ValueError(f"query {query} has a document twice")


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    """0 where there is nothing to be found."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _ndcg(places: Places, found: Marks, cutoff: int, rel: int) -> Doubles:
    return _ratio(places.gain(found, cutoff), places.ideal(cutoff))


def _recall(places: Places, found: Marks, cutoff: int, rel: int) -> Doubles:
    return _ratio(places.sums(found.upto(cutoff, rel)), places.relevant(rel))


def _precision(places: Places, found: Marks, cutoff: int, rel: int) -> Doubles:
    return places.sums(found.upto(cutoff, rel)) / cutoff


def _average_precision(places: Places, found: Marks, cutoff: int, rel: int) -> Doubles:
    kept = found.upto(cutoff, rel)
    first = np.searchsorted(kept.row, kept.row)  # where the query's own begin
    precision = (np.arange(1, len(kept.row) + 1) - first) / (kept.place + 1)
    return _ratio(places.sums(kept, precision), places.relevant(rel))


def _reciprocal_rank(places: Places, found: Marks, cutoff: int, rel: int) -> Doubles:
    kept = found.upto(cutoff, rel)
    rows, first = np.unique(kept.row, return_index=True)
    values = np.zeros_like(places.relevant(rel))
    values[rows] = 1 / (kept.place[first] + 1)
    return values


FORMULAE: Mapping[str, Callable[[Places, Marks, int, int], Doubles]] = {
    "nDCG": _ndcg,
    "R": _recall,
    "P": _precision,
    "AP": _average_precision,
    "RR": _reciprocal_rank,
}
"""ir_measures' name -> its value, by trec_eval's definition."""
