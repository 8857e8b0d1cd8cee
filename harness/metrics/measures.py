"""Compute retrieval metrics of rankings as defined by trec_eval 10.0.

Common metrics, and those that trec_eval 10.0 changed, are computed by `harness.metrics.fast_measures`, all others by
ir_measures. It gets the number of documents below as the score, so no provider can break ties differently and all
metrics use the same order. (ir_measures computes RR@k with a program that breaks ties by ascending id: RR@10 of a
constant scorer would contradict its nDCG@10.) Only providers that need just qrels and an order are used: pytrec_eval
(trec_eval 9, which agrees with 10.0 on the remaining metrics), and those of RR@k, Judged and Compat.

ir_measures is imported in the functions (about 25 ms), so that the command line starts quickly.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.fast_measures import JudgedRanks, computes
from harness.metrics.ranking import Ranking
from harness.types import Qrels, UserError

MEASURES = ("nDCG@10", "R@100", "R@1000", "AP@1000", "RR@10", "Judged@10")
PROVIDERS = ("pytrec_eval", "msmarco", "judged", "compat")
TREC_NAMES = {
    "ndcg_cut": "nDCG",
    "ndcg": "nDCG",
    "recall": "R",
    "map_cut": "AP",
    "map": "AP",
    "recip_rank": "RR",
    "P": "P",
}
"""Names of trec_eval, for suggestions."""
SUBTOPICS = "it needs judgements of subtopics, and qrels have one relevance for each document"
ELSEWHERE = "only the package cwl_eval computes it, which is not used here"
REASONS = {
    **dict.fromkeys(("alpha_DCG", "alpha_nDCG", "AP_IA", "P_IA", "ERR_IA", "nERR_IA", "NRBP", "nNRBP"), SUBTOPICS),
    "StRecall": SUBTOPICS,
    **dict.fromkeys(("BPM", "SDCG", "NERR8", "NERR9", "NERR10", "NERR11", "INST", "INSQ"), ELSEWHERE),
    "Accuracy": "ir_measures, which alone computes it, fails where every document found is relevant",
    "RBP": "it needs the grade from which a document is relevant",
}
"""Why a metric of ir_measures is not available (with these parameters)."""
CHUNK = 256
"""Queries evaluated at a time: about 30 MB with 1,000 documents each."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Values of all metrics on all judged queries."""

    query_ids: list[str]
    """Judged queries in the order of the qrels."""
    measures: tuple[str, ...]
    """Canonical names, as ir_measures prints them."""
    values: NDArray[np.float64]
    """[n_queries, n_measures]; a query without documents in the run has 0."""
    missing: int
    """Number of judged queries without documents in the run."""
    unjudged: int
    """Number of queries of the run without qrels; they are ignored."""
    dropped: int
    """Number of queries with an empty entry in the qrels; they count as unjudged."""

    @property
    def judged(self) -> int:
        """Number of queries in the means."""
        return len(self.query_ids)

    def mean(self) -> dict[str, float]:
        """Arithmetic mean of each metric over the judged queries (also of counts such as NumRet)."""
        return dict(zip(self.measures, self.values.mean(axis=0).tolist(), strict=True))


class Evaluator:
    """Evaluates rankings one by one, in bounded memory.

    Metrics that ir_measures computes are evaluated for `CHUNK` queries at a time.
    """

    def __init__(
        self, qrels: Qrels, measures: Sequence[str] = MEASURES, judged: NDArray[np.int64] | None = None
    ) -> None:
        """Prepares the evaluation.

        Args:
            qrels: The judgements. A query whose judgements are all 0 or below is judged and has 0, as in trec_eval.
            measures: Names as in ir_measures.
            judged: [judgements] the corpus's rows of the judged documents, in the order of the qrels, -1 for one that
                it lacks. With it, rankings that have rows are looked up by number and not by id.

        Raises:
            UserError: For an unknown measure, and for qrels without any judgement.
        """
        self._qrels, parsed = qrels, _parse(measures)
        self._names = tuple(map(str, parsed))
        self._rows = {query_id: row for row, query_id in enumerate(query_id for query_id in qrels if qrels[query_id])}
        if not self._rows:
            raise UserError("The qrels judge no document at all; name a qrels file with judgements.")
        self._values = np.zeros((len(self._rows), len(self._names)))
        self._own, self._others = [m for m in parsed if computes(m)], [m for m in parsed if not computes(m)]
        self._places = JudgedRanks(qrels, self._rows, judged)
        self._seen: set[str] = set()
        self._run: dict[str, dict[str, float]] = {}
        self._missing, self._unjudged = len(self._rows), 0

    def add(self, ranking: Ranking) -> None:
        """Adds one query's ranking; ValueError for a query ranked twice and a document twice in a judged ranking."""
        query_id, doc_ids = ranking[:2]
        if query_id in self._seen:
            raise ValueError(f"query {query_id} is ranked twice")
        self._seen.add(query_id)
        self._unjudged += query_id not in self._rows
        if query_id not in self._rows or not doc_ids:
            return
        self._missing -= 1
        self._places.add(self._rows[query_id], ranking)
        if self._others:
            self._run[query_id] = {doc_id: float(len(doc_ids) - place) for place, doc_id in enumerate(doc_ids)}
            if len(self._run) == CHUNK:
                self._evaluate_chunk()

    def scores(self) -> Scores:
        """The scores of every judged query; those without a ranking have 0."""
        self._evaluate_chunk()
        columns = [self._names.index(str(one)) for one in self._own]
        self._values[:, columns] = self._places.values(self._own)
        unranked = len(self._qrels) - len(self._rows)
        return Scores(list(self._rows), self._names, self._values, self._missing, self._unjudged, unranked)

    def _evaluate_chunk(self) -> None:
        judged = {query_id: _readable(self._qrels[query_id]) for query_id in self._run}
        for metric in _evaluate(self._others, judged, self._run):
            self._values[self._rows[metric.query_id], self._names.index(str(metric.measure))] = metric.value
        self._run = {}


def measure(
    qrels: Qrels,
    rankings: Iterable[Ranking],
    measures: Sequence[str] = MEASURES,
    judged: NDArray[np.int64] | None = None,
) -> Scores:
    """Evaluates rankings with an `Evaluator`, which takes the same arguments and raises the same errors."""
    evaluator = Evaluator(qrels, measures, judged)
    for ranking in rankings:
        evaluator.add(ranking)
    return evaluator.scores()


def _readable(judgements: dict[str, int]) -> dict[str, int]:
    """Replace negative grades by 0 if all are negative: trec_eval would read invalid memory."""
    return judgements if max(judgements.values()) >= 0 else dict.fromkeys(judgements, 0)


def measure_names(text: str) -> tuple[str, ...]:
    """Parse a list such as ``"nDCG@20 P(rel=2)@5, RR@10"`` to canonical names. UserError for an unknown one."""
    names = re.findall(r"(?:[^\s,(]|\([^)]*\)?)+", text)
    if not names:
        raise UserError(f"No measure is named; type some, as in --measures {' '.join(MEASURES[:2])!r}.")
    return tuple(map(str, _parse(names)))


def _parse(names: Sequence[str]) -> list[Any]:
    """Measure objects of ir_measures in order, without duplicates."""
    return list({str(one): one for one in map(_parsed, names)}.values())


@lru_cache(256)  # pytrec_eval leaks about 200 bytes per evaluator
def _parsed(name: str) -> Any:
    """Parse a measure and compute it once on a toy example."""
    import ir_measures

    try:
        one = ir_measures.parse_measure(name)
        one.validate_params()  # type: ignore[no-untyped-call]
        # trec_eval exits the process on a cutoff of 0
        if one.params.get("cutoff", 1) < 1:
            raise ValueError("the cutoff must be 1 or more")
        if not computes(one) or _provider(one):
            list(_evaluate([one], {"q": {"d": 1}}, {"q": {"d": 1.0}}))
    except NameError:
        raise UserError(f"There is no measure {name!r}; {_suggestion(name)}") from None
    except (ValueError, AssertionError, KeyError, TypeError) as error:
        reason = re.sub("<object.*>", "nothing", str(error).strip("'\"")) or "wrong parameters"
        raise UserError(f"The measure {name!r} cannot be computed ({reason}); {_correction(name, reason)}") from error
    return one


def _correction(name: str, reason: str) -> str:
    """Suggest a correction: a float where ir_measures rejects an integer, else an example."""
    import ir_measures

    if wrong := re.fullmatch(r"invalid param (\w+)=(-?\d+)", reason):
        typed = re.sub(rf"(@|\b{wrong[1]}=){wrong[2]}\b", rf"\g<1>{wrong[2]}.0", name)
        with contextlib.suppress(Exception):
            ir_measures.parse_measure(typed).validate_params()  # type: ignore[no-untyped-call]
            return f"type {typed}."
    if name.startswith("RBP"):
        return "type RBP(rel=1), or with the persistence of trec_eval RBP(rel=1,p=0.9)."
    return "leave it out." if reason in REASONS.values() else "type it as in nDCG@10 or P(rel=2)@5."


def _provider(one: Any) -> str | None:
    import ir_measures

    registry = ir_measures.providers.registry
    return next((name for name in PROVIDERS if registry[name].supports(one)), None)


def _evaluate(measures: Sequence[Any], qrels: Qrels, run: dict[str, dict[str, float]]) -> Iterator[Any]:
    """Compute metrics with ir_measures.

    A measure with parameters is computed separately: its gains or judged_only would affect others in the call (0.4.3).
    """
    import ir_measures

    registry = ir_measures.providers.registry
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in measures:
        if (provider := _provider(one)) is None:
            raise ValueError(REASONS.get(one.NAME, "ir_measures does not compute it with these parameters"))
        groups.setdefault((provider, str(one) if one.params.keys() - {"cutoff"} else ""), []).append(one)
    for (provider, _), group in groups.items():
        yield from registry[provider].evaluator(group, qrels).iter_calc(run)


def _suggestion(name: str) -> str:
    import ir_measures

    stem, _, cutoff = name.partition("@")
    if trec := re.fullmatch(f"({'|'.join(TREC_NAMES)})_?([0-9]*)", stem):
        stem, cutoff = TREC_NAMES[trec[1]], trec[2] or cutoff
    known = {alias.lower(): str(one.NAME) for alias, one in ir_measures.measures.registry.items()}
    close = difflib.get_close_matches(stem.lower(), known, 1)
    if not close:
        return "type names as in nDCG@10, R@100, AP@1000, RR@10 or P@5."
    return f"did you mean {known[close[0]]}{'@' if cutoff else ''}{cutoff}?"
