"""A small results folder of which pages are made: names that try to break out, gaps, failures, facts of models."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from harness.metrics.measures import Scores
from harness.results.store import write_per_query
from harness.types import Query
from harness_reports.data.leaderboard import Leaderboard
from tests.reports.factory import Results

EVIL = "<img src=x onerror=window.struck=1></script><script>window.struck=1</script>{{data}}"
HOSTILE = f"evil{EVIL}"
DATASETS = ("alpha", "beta", "gamma")
MODELS = {"bm25": 0.2, "minilm": 0.35, "mpnet:dtype=float32": 0.4, HOSTILE: 0.3}
QUERIES = 60
MPNET = "mpnet:dtype=float32"
FACTS: dict[str, dict[str, Any]] = {
    "bm25": {"kind": "lexical"},
    "minilm": {
        "facts": {"parameters": 22_713_216, "dim": 384, "max_tokens": 256, "licence": "apache-2.0"},
        "trained_on": ["alpha", "msmarco", "nq"],
    },
    MPNET: {"facts": {"parameters": 109_486_464, "max_tokens": 384, "licence": "apache-2.0"}},
    HOSTILE: {"facts": {"parameters": 7_000_000_000, "licence": EVIL}, "trained_on": [EVIL]},
}
SECONDS = {"bm25": 1.0, "minilm": 14.5, MPNET: 60.0, HOSTILE: 30.0}
"""Of encoding: models in the order of their cost."""


def values(model: str, dataset: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores with ties at 0 and 1, as real ones have."""
    seed = int.from_bytes(hashlib.sha256(f"{model}/{dataset}".encode()).digest()[:4])
    drawn: np.ndarray[Any, np.dtype[np.float64]] = np.random.default_rng(seed).normal(MODELS[model], 0.4, QUERIES)
    return drawn.clip(0, 1)


def fill(results: Results) -> Leaderboard:
    """Four models on three datasets, one cell missing, one failed, one in-domain; a run on some queries only."""
    for model in MODELS:
        for dataset in DATASETS:
            if (model, dataset) == ("minilm", "gamma"):
                continue
            if (model, dataset) == ("bm25", "gamma"):
                results.add(model, dataset, None, reason=f"no luck {EVIL}", manifest={"model": FACTS[model]})
                continue
            found = values(model, dataset)
            trained = (model, dataset) == ("minilm", "alpha")
            more: dict[str, Any] = {
                "manifest": {"model": FACTS[model]},
                "seconds": {"encode_documents": SECONDS[model]},
            }
            results.add(model, dataset, float(found.mean()), in_domain=trained, **more)
            write(results, model, dataset, found)
    results.add("minilm", "alpha:limit=5", 0.125)
    return results.read()


def write(results: Results, model: str, dataset: str, found: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    ids = [f"q{place}" for place in range(len(found))]
    queries = [Query(query, f"text of {query} {EVIL if query == 'q3' else 'x' * 300}") for query in ids]
    file = results.store.folder(model, dataset) / "per_query.parquet"
    qrels = {query: {query: 1} for query in ids}
    write_per_query(file, queries, qrels, Scores(ids, ("nDCG@10",), found[:, None], 0, 0, 0))
