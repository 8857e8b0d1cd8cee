"""Vectorised metrics over the ranks of judged documents, equal to trec_eval 10.0 to the last digit.

A metric depends only on the ranks of the few judged documents of each query. These are collected query by query; then
sums are computed over all queries at once, in the order of ranks as in trec_eval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.ranking import Ranking
from harness.types import Qrels, UserError

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


class Marks(NamedTuple):
    """Retrieved judged documents of several queries, sorted by query and rank."""

    row: Ints
    """Row of the query in the values."""
    place: Ints
    """Rank from 0."""
    grade: Ints

    def upto(self, cutoff: int, least: int) -> Marks:
        """The documents in the first ``cutoff`` ranks with at least this grade."""
        kept = (self.place < cutoff) & (self.grade >= least)
        return Marks(self.row[kept], self.place[kept], self.grade[kept])

    def condensed(self) -> Marks:
        """The ranks without unjudged documents; a negative grade counts as unjudged, as in trec_eval."""
        kept = self.upto(ALL, 0)
        return kept._replace(place=_nth(kept) - 1)


class Parameters(NamedTuple):
    """Parameters of a metric."""

    cutoff: int
    rel: int
    """Minimum grade of a relevant document."""
    params: Mapping[str, Any]
    """All parameters as in ir_measures."""


class JudgedRanks:
    """Collects the ranks of judged documents and computes metrics from them."""

    def __init__(self, qrels: Qrels, rows: Mapping[str, int], judged: Ints | None = None) -> None:
        """``rows`` maps a query to its row in the values; ``judged`` as for `harness.metrics.measures.measure`."""
        self._qrels, self.count, self._judged = qrels, len(rows), judged
        self._rows: list[int] = []
        self._places: list[Ints] = []
        self._grades: list[Ints] = []
        self._lengths: list[int] = []
        sizes = [len(qrels[query]) for query in rows]
        self._edges = [0, *accumulate(sizes)]
        self._grade = np.array([grade for query in rows for grade in qrels[query].values()], np.int64)
        self._place_of = np.zeros(0, np.int32)
        """Corpus row -> rank of the document in the last ranking that contains it."""
        owners = np.repeat(np.array(list(rows.values()), np.int64), sizes)
        order = np.lexsort((-self._grade, owners))
        first = np.searchsorted(owners[order], owners[order])
        self._ideal = Marks(owners[order], np.arange(len(order)) - first, self._grade[order])

    def add(self, row: int, ranking: Ranking) -> None:
        """Add a non-empty ranking of the query with this row. ValueError if it has a document twice."""
        if self._judged is None or ranking.rows is None:
            places, grades = self._by_name(ranking)
        else:
            places, grades = self._by_number(row, ranking.query_id, ranking.rows)
        self._rows.append(row)
        self._places.append(places)
        self._grades.append(grades)
        self._lengths.append(len(ranking.doc_ids))

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
        # Documents that are not in this ranking may have a rank from an earlier one: check which document is there.
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
        found, values = self._found(), np.zeros((self.count, len(measures)))
        for column, one in enumerate(measures):
            asked = Parameters(int(one.params.get("cutoff", ALL)), int(one.params.get("rel", 1)), one.params)
            values[:, column] = FORMULAE[one.NAME](self, found, asked)
        return values

    @property
    def greatest(self) -> int:
        """The largest grade of all judgements."""
        return int(self._grade.max(initial=0))

    def relevant(self, least: int) -> Doubles:
        """Number of documents with at least this grade, [rows]."""
        return self.sums(self._ideal.upto(ALL, least))

    def retrieved(self, cutoff: int) -> Doubles:
        """Number of documents in the first ``cutoff`` ranks, [rows]."""
        counts = np.zeros(self.count)
        counts[self._rows] = np.minimum(self._lengths, cutoff)
        return counts

    def ideal(self, cutoff: int, *, exponential: bool = False) -> Doubles:
        """DCG of the ideal ranking, [rows]."""
        return self.gain(self._ideal, cutoff, exponential=exponential)

    def gain(self, marks: Marks, cutoff: int, *, exponential: bool = False) -> Doubles:
        """DCG: sum of grade / log2(2 + rank), [rows] (K. Jarvelin and J. Kekalainen, 2002, as in trec_eval).

        ``exponential``: with gains 2^grade - 1 (C. Burges et al., 2005, as in gdeval).
        """
        kept = marks.upto(cutoff, 1)
        # The logarithm of the C library as in trec_eval; numpy's may differ in the last digit.
        logarithms = np.array([math.log2(2 + place) for place in range(int(kept.place.max(initial=-1)) + 1)])
        gains = np.exp2(kept.grade) - 1 if exponential else kept.grade
        return self.sums(kept, gains / logarithms[kept.place])

    def sums(self, marks: Marks, weights: Doubles | None = None) -> Doubles:
        """Sums of the weights (default 1) per query [rows], in the order of ranks."""
        return np.bincount(marks.row, weights, self.count).astype(np.float64)


def computes(measure: Any) -> bool:
    """Whether the metric and all its parameters are supported here."""
    return (
        measure.NAME in FORMULAE
        and measure.params.keys() <= PARAMETERS.get(measure.NAME, {"cutoff", "rel"})
        and ("rel" in measure.params or measure.NAME != "RBP")
    )


def _twice(query: str) -> ValueError:
    return ValueError(f"query {query} has a document twice")


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    """The ratio; 0 if ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _nth(marks: Marks) -> Ints:
    """Ordinal of each mark within its query, from 1 [marks]."""
    return np.arange(1, len(marks.row) + 1) - np.searchsorted(marks.row, marks.row)


def _ndcg(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    if exponential := asked.params.get("dcg") == "exp-log2":
        _refuse_beyond(EXPONENT, places, "nDCG with exponential gains")
    if asked.params.get("judged_only"):
        found = found.condensed()
    gained = places.gain(found, asked.cutoff, exponential=exponential)
    return _ratio(gained, places.ideal(asked.cutoff, exponential=exponential))


def _recall(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    return _ratio(places.sums(found.upto(asked.cutoff, asked.rel)), places.relevant(asked.rel))


def _precision(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    return places.sums(found.upto(asked.cutoff, asked.rel)) / asked.cutoff


def _average_precision(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    kept = found.upto(asked.cutoff, asked.rel)
    return _ratio(places.sums(kept, _nth(kept) / (kept.place + 1)), places.relevant(asked.rel))


def _reciprocal_rank(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    kept = found.upto(asked.cutoff, asked.rel)
    rows, first = np.unique(kept.row, return_index=True)
    values = np.zeros_like(places.relevant(asked.rel))
    values[rows] = 1 / (kept.place[first] + 1)
    return values


def _interpolated_precision(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    """The largest precision at or below the rank at which that share of the relevant documents is retrieved.

    trec_eval 10.0 rounds the share to whole documents, halves up; trec_eval 9 and pytrec_eval add 0.9 and cut.
    """
    if asked.params.get("judged_only"):
        found = found.condensed()
    relevant = places.relevant(asked.rel)
    share = float(asked.params["recall"]) * relevant
    wanted = np.floor(share) + (share - np.floor(share) >= 0.5)
    kept = found.upto(ALL, asked.rel)
    enough = _nth(kept) >= wanted[kept.row]
    values = np.zeros_like(relevant)
    np.maximum.at(values, kept.row[enough], (_nth(kept) / (kept.place + 1))[enough])
    return values


def _rank_biased_precision(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    """A. Moffat and J. Zobel, 2008, with binary relevance."""
    kept, p = found.upto(asked.cutoff, asked.rel), float(asked.params.get("p", 0.8))
    return (1 - p) * places.sums(kept, np.power(p, kept.place.astype(np.float64)))


def _expected_reciprocal_rank(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    """O. Chapelle et al., 2009; a reader stops at a document with probability (2^grade - 1) / 16, as in gdeval."""
    _refuse_beyond(GDEVAL_GRADE, places, "ERR, which is defined as in gdeval,")
    kept = found.upto(asked.cutoff, 1)
    stop = (np.exp2(kept.grade) - 1) / 2**GDEVAL_GRADE
    values, reached = [0.0] * places.count, [1.0] * places.count
    for row, place, chance in zip(kept.row.tolist(), kept.place.tolist(), stop.tolist(), strict=True):
        values[row] += reached[row] * chance / (place + 1)
        reached[row] *= 1 - chance
    return np.array(values)


def _refuse_beyond(most: int, places: JudgedRanks, what: str) -> None:
    if places.greatest > most:
        raise UserError(
            f"{what} takes grades up to {most}, but the qrels have the grade {places.greatest}; leave that measure out."
        )


def _judged(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    """Share of judged documents of any grade, of those retrieved where they are fewer than the cutoff."""
    return _ratio(places.sums(found.upto(asked.cutoff, LEAST)), places.retrieved(asked.cutoff))


def _relevant(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    return places.relevant(asked.rel)


def _one(places: JudgedRanks, found: Marks, asked: Parameters) -> Doubles:
    return np.ones(places.count)


ALL = 1 << 60
"""The cutoff that stands for no cutoff."""
LEAST = -ALL
"""Below every grade."""
GDEVAL_GRADE = 4
EXPONENT = 500
"""Largest exponent of 2 for which sums do not overflow."""
FORMULAE: Mapping[str, Callable[[JudgedRanks, Marks, Parameters], Doubles]] = {
    "nDCG": _ndcg,
    "R": _recall,
    "P": _precision,
    "AP": _average_precision,
    "RR": _reciprocal_rank,
    "IPrec": _interpolated_precision,
    "RBP": _rank_biased_precision,
    "ERR": _expected_reciprocal_rank,
    "Judged": _judged,
    "NumRel": _relevant,
    "NumQ": _one,
}
"""ir_measures' name -> its value, as defined by trec_eval 10.0, or by gdeval if trec_eval lacks it.

`NumRel` and `NumQ` do not depend on the run and are defined for missing queries, too."""
PARAMETERS: Mapping[str, set[str]] = {
    "nDCG": {"cutoff", "dcg", "judged_only"},
    "Judged": {"cutoff"},
    "IPrec": {"recall", "rel", "judged_only"},
    "RBP": {"cutoff", "rel", "p"},
    "ERR": {"cutoff"},
    "NumRel": {"rel"},
    "NumQ": set(),
}
"""Supported parameters of a metric, if not cutoff and rel."""
