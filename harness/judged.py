"""Measures by array operations over the places of judged documents, equal to trec_eval's to the last digit.

A measure looks at nothing but where in a ranking the judged documents stand, some few per query. Their places are
collected query by query; every sum then runs over all queries at once, in the order of places in which trec_eval adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

    def __init__(self, qrels: Qrels, rows: Mapping[str, int]) -> None:
        """``rows`` says which row of the values a query has."""
        self._qrels, self._count = qrels, len(rows)
        # Plain numbers in flat lists: a tuple for each would have the garbage collector look through all rankings.
        self._rows: list[int] = []
        self._sizes: list[int] = []
        self._places: list[int] = []
        self._grades: list[int] = []
        sizes = [len(qrels[query]) for query in rows]
        grades = np.array([grade for query in rows for grade in qrels[query].values()], np.int64)
        owners = np.repeat(np.array(list(rows.values()), np.int64), sizes)
        order = np.lexsort((-grades, owners))
        first = np.searchsorted(owners[order], owners[order])
        self._ideal = Marks(owners[order], np.arange(len(order)) - first, grades[order])

    def add(self, row: int, query: str, places: Mapping[str, int]) -> None:
        """One ranking: document -> place, from 0."""
        judged = self._qrels[query]
        found = judged.keys() & places.keys()
        self._rows.append(row)
        self._sizes.append(len(found))
        self._places += map(places.__getitem__, found)
        self._grades += map(judged.__getitem__, found)

    def _found(self) -> Marks:
        rows = np.repeat(np.array(self._rows, np.int64), self._sizes)
        places, grades = np.array(self._places, np.int64), np.array(self._grades, np.int64)
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
