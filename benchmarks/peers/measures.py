"""pytrec_eval, ir_measures and ranx, each with its preferred input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TREC = ("ndcg_cut_10", "recall_100", "recall_1000", "map_cut_1000", "recip_rank")
IR = ("nDCG@10", "R@100", "R@1000", "AP@1000", "RR@10")
RANX = ("ndcg@10", "recall@100", "recall@1000", "map@1000", "mrr@10")

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]


def _read(path: str) -> tuple[Qrels, Run]:
    with np.load(path, allow_pickle=False) as found:
        documents, scores = found["documents"].tolist(), found["scores"].astype(float).tolist()
        judged, grades = found["judged"].tolist(), found["grades"].tolist()
    names = [f"d{number}" for number in range(50_000)]  # intern the document ids
    qrels = {f"q{n}": {names[row]: g for row, g in zip(judged[n], grades[n], strict=True)} for n in range(len(judged))}
    run = {
        f"q{n}": {names[row]: s for row, s in zip(documents[n], scores[n], strict=True)} for n in range(len(documents))
    }
    return qrels, run


class PytrecEval:
    """trec_eval 9."""

    def __init__(self, runs: str) -> None:
        import pytrec_eval

        self.qrels, self.run = _read(runs)
        asked = {"ndcg_cut.10", "recall.100", "recall.1000", "map_cut.1000", "recip_rank"}
        self.evaluator = pytrec_eval.RelevanceEvaluator(self.qrels, asked)

    def work(self) -> None:
        """Evaluate all queries."""
        self.found = self.evaluator.evaluate(self.run)

    def answer(self) -> dict[str, Any]:
        """Values [queries, measures]; trec_eval's reciprocal rank has no cutoff, so it is applied here."""
        values = np.array([[self.found[query][name] for name in TREC] for query in self.qrels])
        values[values[:, 4] < 0.1, 4] = 0
        return {"values": values}


class IrMeasures:
    """ir_measures with its default providers."""

    def __init__(self, runs: str) -> None:
        import ir_measures

        self.qrels, self.run = _read(runs)
        self.measures = [ir_measures.parse_measure(name) for name in IR]
        self.evaluator = ir_measures.evaluator(self.measures, self.qrels)

    def work(self) -> None:
        """Evaluate all queries."""
        self.found = list(self.evaluator.iter_calc(self.run))

    def answer(self) -> dict[str, Any]:
        """Values [queries, measures]."""
        places, columns = {query: at for at, query in enumerate(self.qrels)}, {name: at for at, name in enumerate(IR)}
        values = np.zeros((len(places), len(columns)))
        for one in self.found:
            values[places[one.query_id], columns[str(one.measure)]] = one.value
        return {"values": values}


class Ranx:
    """ranx, compiled by numba in the warm-up round."""

    def __init__(self, runs: str) -> None:
        from ranx import Qrels, Run

        qrels, run = _read(runs)
        self.order, self.qrels, self.run = list(qrels), Qrels(qrels), Run(run)

    def work(self) -> None:
        """Evaluate all queries."""
        from ranx import evaluate

        self.found = evaluate(self.qrels, self.run, list(RANX), return_mean=False)

    def answer(self) -> dict[str, Any]:
        """Values [queries, measures], in the order of the queries: ranx sorts its own by name."""
        values: NDArray[np.float64] = np.stack([np.asarray(self.found[name]) for name in RANX], axis=1)
        place = {name: at for at, name in enumerate(sorted(self.order))}
        return {"values": values[[place[name] for name in self.order]]}
