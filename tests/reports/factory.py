"""Results folders made through the store, for tests of what is reported from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from harness.metrics.clusters import query_clusters
from harness.metrics.measures import Scores
from harness.metrics.ranking import rank
from harness.metrics.run_writer import write_run
from harness.results.schema import SCHEMA, find_fault
from harness.results.store import ResultStore, write_per_query
from harness.storage.atomic import write_json
from harness.storage.records import seal
from harness.types import Query
from harness_reports.data.leaderboard import Leaderboard, read_leaderboard

PANEL = {
    "n": 7302, "d": 384, "isotropy": -0.71284, "isotropy_ceiling": 0.770663, "isotropy_debiased": -0.68951,
    "participation_ratio": 97.63812, "isoscore": 0.252319, "one_minus_mean_cosine": 0.913377, "uniformity": -3.41226,
    "effective_rank": 211.48719, "top1_share": 0.0384471, "eigenvalues": [3.0, 2.0], "definitions": {"sample": 2000},
}  # fmt: skip
HUBNESS = {"k": 10, "queries": 50, "documents": 7302, "skewness": 4.56789, "largest_share": None}


class Results:
    """A results folder under way."""

    def __init__(self, root: Path) -> None:
        self.store = ResultStore(root)

    def add(
        self,
        model: str,
        dataset: str,
        score: float | None = None,
        queries: Mapping[str, float] | None = None,
        run: Mapping[str, Sequence[str]] | None = None,
        groups: Mapping[str, str] | None = None,
        **changed: Any,
    ) -> None:
        """One cell; without a score it failed. ``manifest`` and the other sections are merged into the usual ones.

        ``queries``: query id -> nDCG@10, kept in a file (a mean is then the score); ``run``: query id -> documents;
        ``groups``: query id -> group of queries that are not independent.
        """
        score = score if score is not None or not queries else fsum(queries.values()) / len(queries)
        dense, name = not model.startswith("bm25"), dataset.partition(":")[0]
        geometry = {"documents": PANEL, "queries": {"n": 50, "d": 384, "isotropy": 0.12349}} if dense else {}
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "model": model,
            "dataset": dataset,
            "split": "test",
            "status": "failed" if score is None else "ok",
            "partial": ":limit=" in dataset,
            "in_domain": False,
            "command": "harness benchmark ...",
            "measures": {} if score is None else {"nDCG@10": score, "R@100": 2 / 3},
            "geometry": {} if score is None else geometry | {"hubness": HUBNESS},
            "seconds": {"encode_documents": 14.5, "encode_queries": 0.256, "search": 1.5, "geometry": 0.75}
            if dense
            else {"index": 2.5, "search": 0.125},
            "counts": {"documents": 7302, "queries": 50, "judged": 123, "document_tokens": 1234567 if dense else 0},
            "manifest": {
                "k": 1000,
                "model": {"kind": "dense", "fingerprint": {"dtype": "bfloat16"} if dense else {"k1": 0.9}},
                "dataset": {"name": name, "fingerprint": {"corpus": name}, "notes": [], "exclude_self": False}
                | {"clusters": {"rule": "document", "clusters": 10**6, "largest": 1, "linked": 1}},  # all single
                "ties": "score descending, then document id descending",
                "run": {"peak_memory_bytes": 3 << 29, "machine": {"processor": "Xeon(R) @ 2.60GHz", "gpus": []}},
            },
        }
        for key, value in changed.items():
            if isinstance(value, dict) and key == "manifest":
                result[key] = {
                    k: {**v, **value.get(k, {})} if isinstance(v, dict) else value.get(k, v)
                    for k, v in result[key].items()
                }
            else:
                both = isinstance(result.get(key), dict) and isinstance(value, dict)
                result[key] = {**result[key], **value} if both else value

        with self.store.writing(model, dataset) as new:
            if queries:
                values = np.array(list(queries.values()))
                scores = Scores(list(queries), ("nDCG@10", "R@100"), np.stack([values, values * 0 + 2 / 3], 1), 0, 0, 0)
                texts = [Query(query, f"text of {query}") for query in queries]
                qrels = {query: {f"of {query}": 1} for query in queries}
                clusters = query_clusters(qrels, [*queries], groups)
                if "clusters" not in changed.get("manifest", {}).get("dataset", {}):
                    result["manifest"]["dataset"]["clusters"] = clusters.record()
                write_per_query(new.folder / "per_query.parquet", texts, qrels, scores, groups)
            if run:
                rankings = (rank(query, ids, np.arange(len(ids), 0, -1), 1000) for query, ids in run.items())
                write_run(new.folder / "run.trec.gz", rankings, "test")
            if find_fault(result):  # a file that the harness does not write
                write_json(new.folder / "result.json", seal(result))
            else:
                new.finish(result)

    def add_queries(self, model: str, dataset: str, values: Sequence[float], **changed: Any) -> None:
        """One cell with its ``per_query.parquet``: ``values`` are the nDCG@10 of queries q0, q1 ..."""
        queries = {f"q{n}": value for n, value in enumerate(values)}
        self.add(model, dataset, fsum(values) / len(values), queries=queries, **changed)

    def read(self, suite: str | None = None, *, seeds: bool = False) -> Leaderboard:
        return read_leaderboard(self.store.root, suite, seeds=seeds)
