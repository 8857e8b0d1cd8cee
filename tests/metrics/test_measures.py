"""Measures against trec_eval itself (pytrec_eval called directly) and against plain arithmetic."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import harness.metrics.measures as module
from harness.metrics.fast_measures import JudgedRanks
from harness.metrics.measures import CHUNK, MEASURES, measure, measure_names
from harness.metrics.ranking import Ranking, rank
from harness.types import Qrels, UserError

TREC = {
    "nDCG@10": "ndcg_cut_10",
    "R@100": "recall_100",
    "R@1000": "recall_1000",
    "AP@1000": "map_cut_1000",
    "P@5": "P_5",
    "RR": "recip_rank",
    "Rprec": "Rprec",
    "Success@3": "success_3",
    "Bpref": "bpref",
}


def collection(seed: int, queries: int = 300) -> tuple[Qrels, dict[str, dict[str, float]]]:
    """Graded and negative judgements, heavy ties, unjudged documents, missing queries, empty and unjudged ones."""
    rng = np.random.default_rng(seed)
    qrels: Qrels = {}
    run: dict[str, dict[str, float]] = {}
    for query in range(queries):
        judged = rng.choice(200, rng.integers(1, 30), replace=False)
        grades = rng.choice([-2, -1, 0, 1, 2, 3], len(judged)) if query % 7 else np.zeros(len(judged), int)
        qrels[f"q{query}"] = {f"d{doc}": int(grade) for doc, grade in zip(judged, grades, strict=True)}
        if query % 4 == 0:
            qrels[f"q{query}"]["gone"] = 2
        if query % 5 == 0:
            continue
        retrieved = rng.choice(250, rng.integers(0, 150), replace=False)
        levels = 1 if query % 11 == 0 else 12
        scores = rng.integers(-levels // 2, levels // 2 + 1, len(retrieved)) / 4
        run[f"q{query}"] = {f"d{doc}": float(score) for doc, score in zip(retrieved, scores, strict=True)}
    run["unjudged"] = {"d1": 1.0}
    return qrels, run


def rankings(run: dict[str, dict[str, float]], corpus: Sequence[str] = ()) -> list[Ranking]:
    """Where there is a corpus, with its rows."""
    row = {doc_id: row for row, doc_id in enumerate(corpus)}
    return [
        rank(query, list(docs), np.array(list(docs.values())), 1000, rows=np.array([row[d] for d in docs], np.int64))
        if corpus
        else rank(query, list(docs), np.array(list(docs.values())), 1000)
        for query, docs in run.items()
    ]


def numbered(qrels: Qrels, run: dict[str, dict[str, float]], seed: int) -> tuple[list[Ranking], NDArray[np.int64]]:
    """Rankings with rows of a shuffled corpus, and the rows of the judged documents."""
    corpus = [f"d{doc}" for doc in np.random.default_rng(seed).permutation(250)]
    judged = [corpus.index(doc) if doc in corpus else -1 for docs in qrels.values() for doc in docs]
    return rankings(run, corpus), np.array(judged, np.int64)


@pytest.mark.parametrize("by", ["name", "number"])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_trec_eval_on_every_query(seed: int, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    qrels, run = collection(seed)
    monkeypatch.delattr(JudgedRanks, "_by_name" if by == "number" else "_by_number")
    given, judged = numbered(qrels, run, seed) if by == "number" else (rankings(run), None)
    scores = measure(qrels, iter(given), tuple(TREC), judged)
    readable = {query: docs for query, docs in qrels.items() if max(docs.values()) >= 0}
    expected = pytrec_eval.RelevanceEvaluator(readable, set(TREC.values())).evaluate(run)
    assert scores.query_ids == list(qrels)
    for query, row in zip(scores.query_ids, scores.values, strict=True):
        for name, value in zip(scores.measures, row, strict=True):
            reference = expected[query][TREC[name]] if run.get(query) and query in readable else 0
            assert value == (reference if name in EXACT else pytest.approx(reference, abs=1e-6)), (query, name)


EXACT = {"nDCG@10", "R@100", "R@1000", "AP@1000", "P@5", "RR"}
"""Those of our own, equal to the last digit."""


@given(
    near=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    grades=st.lists(st.integers(-1, 3), min_size=1, max_size=60),
    unit=st.sampled_from([0.0, 1e-9, 2e-8, 1e-7, 1e-3]),
)
@settings(max_examples=150, deadline=None)
def test_scores_that_float32_cannot_tell_apart(near: list[int], grades: list[int], unit: float) -> None:
    """trec_eval compares float32: fed with our file it sees our order, fed with the doubles it sees the cast ones'."""
    names = {name: trec for name, trec in TREC.items() if name in EXACT}
    scores = 1 + np.array(near) * unit
    run = {f"d{place * 7 % 61}": float(score) for place, score in enumerate(scores)}
    qrels: Qrels = {"q": {f"d{doc}": grade for doc, grade in enumerate(grades)} | {"d60": 1}}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(names.values()))
    ours = rank("q", list(run), scores, 1000)
    written = dict(zip(ours.doc_ids, map(float, ours.scores), strict=True))
    cast = rank("q", list(run), scores.astype(np.float32), 1000)
    for ranking, fed in ((ours, written), (cast, run)):
        expected = evaluator.evaluate({"q": fed})["q"]
        values = measure(qrels, [ranking], tuple(names)).values[0]
        assert values.tolist() == [expected[trec] for trec in names.values()]


@pytest.mark.parametrize("seed", range(3))
def test_our_own_measures_are_those_of_ir_measures(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["nDCG@10", "nDCG", "nDCG@3", "P(rel=2)@5", "R(rel=3)@20", "AP(rel=2)", "AP@7", "RR(rel=2)", "RR@10", "P@1"]
    names += ["Judged@10", "Judged@3", "Judged", "nDCG(judged_only=True)@10", "nDCG(judged_only=True)"]
    qrels, run = collection(seed)
    mixed = rankings(run)
    np.random.default_rng(seed).shuffle(mixed)  # type: ignore[arg-type]
    ours = measure(qrels, mixed, [*names, "Success@3"])
    monkeypatch.setattr("harness.metrics.measures.computes", lambda one: False)
    theirs = measure(qrels, mixed, [*names, "Success@3"])
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert (ours.query_ids, ours.missing, ours.unjudged) == (theirs.query_ids, theirs.missing, theirs.unjudged)


def graded(qrels: Qrels, run: dict[str, dict[str, float]], query: str) -> list[int]:
    """The grades of a query's documents, best first."""
    ordered = sorted(run.get(query, {}).items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
    return [qrels[query].get(doc, 0) for doc, _ in ordered]


def iprec(grades: list[int], relevant: int, recall: float) -> float:
    """The greatest precision of any prefix that holds at least ``recall`` of the relevant documents, which share is
    rounded to whole documents, halves up."""
    wanted = int(Decimal(recall * relevant).quantize(Decimal(1), ROUND_HALF_UP))
    cuts = [(sum(grade > 0 for grade in grades[:cut]), cut) for cut in range(1, len(grades) + 1)]
    return max((found / cut for found, cut in cuts if found >= wanted), default=0.0)


def err(grades: list[int]) -> float:
    """By its definition: 1 / r times the chance that the reader stops at place r."""
    stop = [(2 ** max(grade, 0) - 1) / 16 for grade in grades]
    return sum(math.prod(1 - each for each in stop[:r]) * stop[r] / (r + 1) for r in range(len(stop)))


def exponential_ndcg(grades: list[int], judged: list[int], cutoff: int) -> float:
    def dcg(gains: list[int]) -> float:
        return sum((2 ** max(g, 0) - 1) / math.log2(place + 2) for place, g in enumerate(gains[:cutoff]))

    ideal = dcg(sorted(judged, reverse=True))
    return dcg(grades) / ideal if ideal else 0.0


def compat(grades: list[int], order: list[str], judged: dict[str, int], p: float) -> float:
    """Rank-biased overlap with the ideal ranking that agrees most with the run, over that of the ideal with itself."""
    wanted = sorted((doc for doc in judged if judged[doc] > 0), key=lambda d: (-judged[d], (*order, d).index(d)))
    depth = max(len(order), len(wanted))

    def overlap(left: list[str]) -> float:
        return sum(p**i * len({*left[: i + 1]} & {*wanted[: i + 1]}) / (i + 1) for i in range(depth))

    return overlap(order) / overlap(wanted) if wanted else 0.0


@pytest.mark.parametrize("seed", range(2))
def test_measures_against_their_definitions(seed: int) -> None:
    """Those that trec_eval 9 has not, or has otherwise than 10.0; a query that the run lacks included."""
    qrels, run = collection(seed)
    levels = [0.0, 0.1, 0.14, 0.25, 0.5, 0.6, 0.75, 1.0]
    names = [f"IPrec@{level}" for level in levels]
    names += ["RBP(rel=1)", "RBP(rel=2,p=0.95)", "RBP(p=0.5,rel=1)@5", "ERR", "ERR@7", "nDCG(dcg='exp-log2')@10"]
    names += ["NumRel", "NumRel(rel=2)", "NumQ", "Compat(p=0.9)"]
    scores = measure(qrels, rankings(run), names)
    rbp = [(0.8, 1, 10**6), (0.95, 2, 10**6), (0.5, 1, 5)]
    for query, values in zip(scores.query_ids, scores.values.tolist(), strict=True):
        grades, judged = graded(qrels, run, query), qrels[query]
        order = sorted(run.get(query, {}), key=lambda doc: (run[query][doc], doc), reverse=True)
        relevant = sum(grade > 0 for grade in judged.values())
        expected = [iprec(grades, relevant, level) for level in levels]
        expected += [(1 - p) * sum(p**i for i, g in enumerate(grades[:cut]) if g >= rel) for p, rel, cut in rbp]
        expected += [err(grades), err(grades[:7]), exponential_ndcg(grades, [*judged.values()], 10)]
        expected += [relevant, sum(grade > 1 for grade in judged.values()), 1]
        expected += [compat(grades, order, judged, 0.9)]
        assert values == pytest.approx(expected, abs=1e-12), query


def test_iprec_by_hand() -> None:
    """Of 3 relevant documents 0.4 is 1.2: one document for trec_eval 10.0, two for trec_eval 9 (1.2 + 0.9, cut)."""
    qrels = {"q": {"a": 1, "b": 1, "c": 1}, "none": {"a": 0}, "lost": {"a": 1}}
    ranking = rank("q", ["a", "x", "b", "y"], np.array([4.0, 3.0, 2.0, 1.0]), 4)
    others = [rank(query, ["x", "y"], np.array([2.0, 1.0]), 2) for query in ("none", "lost")]
    scores = measure(qrels, [ranking, *others], ["IPrec@0.4", "IPrec@0.5", "IPrec@1.0", "IPrec@0.0"])
    assert scores.values.tolist() == [[1, 2 / 3, 0, 1], [0] * 4, [0] * 4]
    old = pytrec_eval.RelevanceEvaluator(qrels, {"iprec_at_recall.0.4"}).evaluate({"q": {"a": 3.0, "x": 2.0, "b": 1.0}})
    assert old["q"]["iprec_at_recall_0.40"] == 2 / 3


def test_iprec_of_judged_documents_alone() -> None:
    """Documents without a judgement, or with a negative grade, leave the ranking first."""
    qrels = {"q": {"a": 1, "b": 0, "c": 2, "d": -1}}
    ranking = rank("q", ["x", "a", "d", "b", "y", "c"], np.arange(6, 0, -1.0), 6)
    plain, judged, strict = measure(
        qrels, [ranking], ["IPrec@1.0", "IPrec(judged_only=True)@1.0", "IPrec(rel=2)@1.0"]
    ).values[0]
    assert (plain, judged, strict) == (2 / 6, 2 / 3, 1 / 6)


def test_grades_that_a_measure_is_not_defined_for() -> None:
    for name, grade in (("ERR@10", 5), ("nDCG(dcg='exp-log2')@10", 2000)):
        with pytest.raises(UserError, match=f"takes grades up to .* have the grade {grade}; leave that measure out"):
            measure({"q": {"d": grade}}, [Ranking("q", ["d"], np.ones(1, np.float32))], [name])


def test_judged_and_condensed_by_hand() -> None:
    """Of three documents that were found two are judged; without the unjudged ones the first is relevant."""
    qrels: Qrels = {"q": {"a": 1, "b": 0}, "absent": {"a": 1}}
    ranking = rank("q", ["x", "a", "b"], np.array([3.0, 2.0, 1.0]), 3)
    scores = measure(qrels, [ranking], ["Judged@10", "Judged@1", "nDCG(judged_only=True)@10", "nDCG@10"])
    assert scores.values.tolist() == [[2 / 3, 0, 1, 1 / math.log2(3)], [0] * 4]


def brute_force_rr(qrels: Qrels, run: dict[str, dict[str, float]], query: str, cutoff: int) -> float:
    ordered = sorted(run.get(query, {}).items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
    places = [place for place, (doc, _) in enumerate(ordered, 1) if qrels[query].get(doc, 0) > 0]
    return 1 / places[0] if places and places[0] <= cutoff else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_rr_at_10_has_trec_evals_ties(seed: int) -> None:
    qrels, run = collection(seed)
    values = measure(qrels, rankings(run), ["RR@10"]).values[:, 0]
    readable = {query: docs for query, docs in qrels.items() if max(docs.values()) >= 0}
    whole = pytrec_eval.RelevanceEvaluator(readable, {"recip_rank"}).evaluate(run)
    for query, value in zip(qrels, values, strict=True):
        assert value == pytest.approx(brute_force_rr(qrels, run, query, 10))
        uncut = whole.get(query, {}).get("recip_rank", 0.0)
        assert value == pytest.approx(uncut if uncut > 1 / 10.5 else 0.0)
    import ir_measures

    routed = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.RR @ 10], qrels, run)}
    assert any(abs(routed[query] - value) > 0.1 for query, value in zip(qrels, values, strict=True)), "no trap any more"


def test_a_constant_scorer_is_judged_alike_by_every_measure() -> None:
    """One relevant document, everything tied: all measures must see it at the place its id gives it."""
    ids = [f"d{i}" for i in range(10)]
    for relevant in ids:
        scores = measure({"q": {relevant: 1}}, [rank("q", ids, np.ones(10), 10)], MEASURES)
        place = 10 - int(relevant[1:])
        expected = {
            "nDCG@10": 1 / math.log2(place + 1),
            "R@100": 1,
            "R@1000": 1,
            "AP@1000": 1 / place,
            "RR@10": 1 / place,
            "Judged@10": 1 / 10,
        }
        assert scores.mean() == pytest.approx(expected)


def test_ndcg_by_hand() -> None:
    """Linear gains, log2 discounts, negative grades gain nothing, the ideal ranking over all judged documents."""
    qrels = {"q": {"a": 3, "b": 2, "c": 1, "d": -5}}
    ranking = rank("q", ["d", "b", "x", "a"], np.array([4.0, 3.0, 2.0, 1.0]), 10)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    expected = (2 / math.log2(3) + 3 / math.log2(5)) / ideal
    assert measure(qrels, [ranking], ["nDCG@10"]).values[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("extra", [0, 1, CHUNK + 1])
def test_missing_queries_count_0(extra: int) -> None:
    qrels: Qrels = {f"q{i}": {"d": 1} for i in range(10 + extra)}
    there = [Ranking(f"q{i}", ["d"], np.ones(1, np.float32)) for i in range(5)]
    empty = [Ranking("q5", [], np.empty(0, np.float32))]
    foreign = [Ranking("x", ["d"], np.ones(1, np.float32)), Ranking("y", [], np.empty(0, np.float32))]
    scores = measure(qrels, there + empty + foreign)
    assert (scores.judged, scores.missing, scores.unjudged) == (10 + extra, 5 + extra, 2)
    assert scores.mean() == pytest.approx(dict.fromkeys(MEASURES, 5 / (10 + extra)))
    assert measure(qrels, []).mean() == dict.fromkeys(MEASURES, 0.0)


def test_empty_qrels_entries_are_dropped_and_spoil_nothing() -> None:
    qrels: Qrels = {"a": {"d": 1}, "b": {}, "c": {"d": 1}, "e": {"d": 0}}
    scores = measure(qrels, [Ranking(query, ["d"], np.ones(1, np.float32)) for query in "abce"])
    assert (scores.query_ids, scores.dropped, scores.unjudged, scores.missing) == (["a", "c", "e"], 1, 1, 0)
    assert scores.values.tolist() == [[1.0] * 6, [1.0] * 6, [*[0.0] * 5, 1.0]]
    with pytest.raises(UserError, match="judge no document"):
        measure({"b": {}}, [])


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_queries_and_chunks_do_not_matter(seed: int) -> None:
    qrels, run = collection(seed, queries=2 * CHUNK + 10)
    forward, backward = measure(qrels, rankings(run)), measure(qrels, rankings(run)[::-1])
    assert np.array_equal(forward.values, backward.values)
    assert forward.missing == backward.missing
    some = list(qrels)[:: CHUNK // 2]
    alone = measure({query: qrels[query] for query in some}, rankings(run))
    assert np.array_equal(alone.values, forward.values[[forward.query_ids.index(query) for query in some]])


def test_measures_with_parameters_do_not_leak_into_others() -> None:
    qrels, run = collection(9, queries=40)
    names = [
        "nDCG(gains={1:5})@10",
        "nDCG@10",
        "P(judged_only=True)@5",
        "NumRet",
        "P(rel=2)@5",
        "P@5",
        "AP(rel=3)@1000",
    ]
    together = measure(qrels, rankings(run), names)
    assert together.measures == tuple(names)
    for column, name in enumerate(names):
        assert np.array_equal(together.values[:, column], measure(qrels, rankings(run), [name]).values[:, 0])
    regraded = {q: {d: 5 if grade == 1 else grade for d, grade in docs.items()} for q, docs in qrels.items()}
    assert np.array_equal(together.values[:, 0], measure(regraded, rankings(run), ["nDCG@10"]).values[:, 0])


@pytest.mark.parametrize("grades", [[-2], [-1, -1], [-5, -1, -3]])
def test_judgements_that_are_all_negative_count_0_and_spoil_nothing(grades: list[int]) -> None:
    """trec_eval walks out of its array here, and ends the process or takes the previous query's grades."""
    hated = {f"d{i}": grade for i, grade in enumerate(grades)}
    qrels: Qrels = {"zeros": {"d0": 0}, "hated": hated, "loved": {"d0": 3}, "hated too": hated}
    scores = measure(qrels, [rank(query, ["d0", "d1", "d2"], np.array([3.0, 2.0, 1.0]), 3) for query in qrels])
    assert scores.measures[-1] == "Judged@10"
    assert scores.values[:, :-1].tolist() == [[0.0] * 5, [0.0] * 5, [1.0] * 5, [0.0] * 5]


def test_a_query_or_document_ranked_twice_is_refused() -> None:
    once = Ranking("q", ["d"], np.ones(1, np.float32))
    with pytest.raises(ValueError, match="ranked twice"):
        measure({"q": {"d": 1}}, [once, once])
    twice = Ranking("q", ["d", "d"], np.ones(2, np.float32))
    with pytest.raises(ValueError, match="document twice"):
        measure({"q": {"d": 1}}, [twice])
    with pytest.raises(ValueError, match="document twice"):
        measure({"q": {"d": 1}}, [twice._replace(rows=np.array([7, 7]))], judged=np.array([7]))


def test_names_a_user_types() -> None:
    assert measure_names("nDCG@20 P@5,  RR(rel=2)@10 MRR@10 RR@10") == ("nDCG@20", "P@5", "RR(rel=2)@10", "RR@10")
    assert measure_names("nDCG(gains={0: 0, 1: 5})@10") == ("nDCG(gains={1:5})@10",)
    assert measure_names(" ".join(MEASURES)) == MEASURES


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ndcg@10", "did you mean nDCG@10"),
        ("NDGC@20", "did you mean nDCG@20"),
        ("ndcg_cut_10", "did you mean nDCG@10"),
        ("map", "did you mean AP"),
        ("recall_100", "did you mean R@100"),
        ("quality", "type names as in nDCG@10"),
        ("R@0", "cutoff must be 1 or more"),  # ends the process in trec_eval
        ("P", "cutoff=nothing"),
        ("nDCG@x", "cannot be computed"),
        ("nDCG(depth=3)", "depth"),
        ("alpha_nDCG@10", "judgements of subtopics.*; leave it out"),
        ("StRecall@10", "judgements of subtopics"),
        ("INSQ(max_rel=3)", "only the package cwl_eval"),
        ("Accuracy", "fails where every document found is relevant"),
        ("RBP", r"grade from which a document is relevant.*type RBP\(rel=1\)"),
        ("RBP(p=0.5)", r"type RBP\(rel=1\)"),
        ("IPrec@0", r"type IPrec@0\.0\."),
        ("IPrec@1", r"type IPrec@1\.0\."),
        ("IPrec(judged_only=True)@1", r"type IPrec\(judged_only=True\)@1\.0\."),
        ("SetF(beta=2)", r"type SetF\(beta=2\.0\)\."),
        ("RBP(rel=1,p=1)", r"type RBP\(rel=1,p=1\.0\)\."),
        ("nDCG(gains={1:5},dcg='exp-log2')@10", "does not compute it with these parameters"),
        ("", "No measure is named"),
    ],
)
def test_unknown_measures(typed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        measure_names(typed)


def test_importing_is_cheap() -> None:
    code = "import sys, harness.metrics.measures; print({'ir_measures', 'pandas', 'pytrec_eval'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_measures_name_is_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytrec_eval keeps memory of every evaluator: five for each cell would be megabytes in a day."""
    tried, evaluate = [], module._evaluate

    def counted(measures: Sequence[Any], *facts: Any) -> Any:
        tried.extend(measures)
        return evaluate(measures, *facts)

    monkeypatch.setattr(module, "_evaluate", counted)
    module._parsed.cache_clear()
    for _ in range(3):
        measure({"q": {"d": 1}}, [Ranking("q", ["d"], np.ones(1, np.float32))], ("nDCG@10", "R@100", "RBP(rel=1)"))
    assert len(tried) == 2  # no provider computes the third
