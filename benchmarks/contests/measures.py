"""Measures per query of synthetic runs: the harness against pytrec_eval, ranx and ir_measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import judged_runs

REFERENCE = "pytrec_eval"
MEASURES = ("nDCG@10", "R@100", "R@1000", "AP@1000", "RR@10")


def contests(plan: Plan) -> list[Contest]:
    """The only comparison."""
    queries, documents = plan.pick(200, 7000, 7000), 1000
    given = {"runs": str(judged_runs(plan, queries, documents))}
    folder = "benchmarks.peers.measures"
    return [
        Contest(
            title=f"{', '.join(MEASURES)} of {queries:,} queries x {documents:,} documents",
            competitors=[
                Competitor("harness", "benchmarks.contests.measures:Ours", {**given, "ranked": True}),
                Competitor(
                    "harness, ranking included", "benchmarks.contests.measures:Ours", {**given, "ranked": False}
                ),
                Competitor(REFERENCE, f"{folder}:PytrecEval", given, packages=("pytrec-eval-terrier",)),
                Competitor("ir_measures", f"{folder}:IrMeasures", given, packages=("ir-measures",)),
                Competitor("ranx", f"{folder}:Ranx", given, "mteb", ("ranx", "numba")),
            ],
            quality=_quality,
            rate=("queries", queries),
            notes=[
                "everyone begins with the structure that it asks for, made while loading: the harness with rankings "
                "and the documents' rows in the corpus, as its search gives them, the peers with nested dicts (ranx: "
                "its Qrels and Run); the second row begins with document ids, rows and scores in no order",
                f"largest difference from {REFERENCE} (trec_eval 9), over every query and measure; in a third of the "
                f"queries scores tie",
            ],
        )
    ]


class Ours:
    """Ranks and measures as the benchmark does."""

    def __init__(self, runs: str, ranked: bool) -> None:
        with np.load(runs, allow_pickle=False) as found:
            self.scores = found["scores"]
            names = [f"d{number}" for number in range(50_000)]  # intern the ids
            self.rows, self.judged = found["documents"], found["judged"].ravel()
            self.ids = [[names[row] for row in rows] for rows in self.rows.tolist()]
            judged = zip(found["judged"].tolist(), found["grades"].tolist(), strict=True)
            pairs = ((f"q{n}", zip(rows, grades, strict=True)) for n, (rows, grades) in enumerate(judged))
            self.qrels = {query: {names[row]: grade for row, grade in grades} for query, grades in pairs}
        self.given = list(self._rankings()) if ranked else None

    def work(self) -> dict[str, Any]:
        """Values [queries, measures]."""
        from harness.metrics.measures import measure

        return {"values": measure(self.qrels, self.given or self._rankings(), MEASURES, self.judged).values}

    def _rankings(self) -> Iterator[Any]:
        from harness.metrics.ranking import rank

        for query, ids, scores, rows in zip(self.qrels, self.ids, self.scores, self.rows, strict=True):
            yield rank(query, ids, scores, len(ids), rows=rows)


def _quality(answers: Mapping[str, Answer]) -> Quality:
    found = {name: {"mean nDCG@10": f"{answer['values'][:, 0].mean():.6f}"} for name, answer in answers.items()}
    if REFERENCE in answers:
        exact = answers[REFERENCE]["values"]
        for name, answer in answers.items():
            apart = np.abs(answer["values"] - exact).max(axis=1)
            found[name]["largest difference"] = figure(float(apart.max()), 6)
            found[name]["queries over 1e-6"] = f"{int((apart > 1e-6).sum()):,}"
    return found
