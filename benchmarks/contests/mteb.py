"""SciFact with MPNet end to end, from the start of a process to its end: the harness against mteb and beir."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.texts import scifact, weights

MODEL, DTYPE = "mpnet", "bfloat16"
TARGET = "benchmarks.runner.command:Command"
PACKAGES = ("mteb", "beir", "sentence-transformers", "transformers", "torch")
EVALUATE = "mteb.evaluate"


def contests(plan: Plan) -> list[Contest]:
    """With nothing stored, then with stored results or vectors."""
    texts, notes = scifact(plan)
    if plan.size != "whole" or plan.sample is not None:
        documents = plan.sample or plan.pick(6, 64, 0)
        texts = texts.part(documents, max(2, documents // 3))
        notes = [*notes, "the queries are drawn with seed 0, their judged documents among the documents"]
    shutil.rmtree(plan.work / "mteb", ignore_errors=True)  # mteb knows a stored result by its names alone
    folder = texts.write(plan.work / "mteb" / f"{len(texts.documents)}-documents")
    small = texts.part(6, 2).write(plan.work / "mteb" / "warm-up")
    what = f"{texts.name}, {len(texts.queries)} queries"
    started = "every round is a process from its start to its end: its imports and the loading of the model are in it"
    return [
        Contest(f"{what}, cold", _cold(plan, folder, small), _quality, notes=[*notes, started]),
        Contest(
            f"{what}, again",
            _again(plan, folder),
            _quality,
            notes=[
                *notes,
                f"{started}; the first run, which stores everything, is what loading takes",
                "results stored: nothing is left to do; vectors stored: results are taken away before every round "
                "(mteb: CachedEmbeddingWrapper)",
            ],
        ),
    ]


def _ours(plan: Plan, folder: Path, home: str, **settings: Any) -> dict[str, Any]:
    """A run in a separate home that contains only the weights."""
    place = plan.work / "mteb" / home
    words = ["{python}", "-m", "harness", "benchmark", "-m", f"{MODEL}:dtype={DTYPE}", "-d", str(folder)]
    return {
        "words": [*words, "--results", str(place / "results"), "--json"],
        "variables": {"HARNESS_HOME": str(place)},
        "links": {str(place / "models"): str(weights(MODEL).parent)},
        "fresh": [str(place)],
        **settings,
    }


def _theirs(folder: Path, which: str, *words: str) -> list[str]:
    start = ["{python}", "-m", "benchmarks.peers.retrieval", which]
    return [*start, "--folder", str(folder), "--weights", str(weights(MODEL)), *words]


def _cold(plan: Plan, folder: Path, small: Path) -> list[Competitor]:
    """The warm-up round uses a few documents; it brings the programs into the page cache."""
    beir = "beir, DenseRetrievalExactSearch"
    ours = _ours(plan, folder, "cold")
    ours["warm"] = _ours(plan, small, "cold")["words"]
    mteb, exact = ({"words": _theirs(folder, which), "warm": _theirs(small, which)} for which in ("mteb", "beir"))
    return [
        Competitor(f"harness, {DTYPE}", TARGET, ours),
        Competitor(f"{EVALUATE}, float32", TARGET, mteb, "mteb", PACKAGES),
        Competitor(f"{beir}, float32", TARGET, exact, "mteb"),
    ]


def _again(plan: Plan, folder: Path) -> list[Competitor]:
    place = plan.work / "mteb"
    stored, kept = str(place / "stored-results"), str(place / "stored-vectors")
    results, vectors = ["--results", stored], ["--embeddings", kept]
    return [
        Competitor("harness, results stored", TARGET, _ours(plan, folder, "again", fresh=[], first=True)),
        Competitor(
            "harness, vectors stored",
            TARGET,
            _ours(plan, folder, "vectors", fresh=[str(place / "vectors" / "results")], first=True),
        ),
        Competitor(
            f"{EVALUATE}, results stored",
            TARGET,
            {"words": _theirs(folder, "mteb", *results), "first": True},
            "mteb",
            PACKAGES,
        ),
        Competitor(
            f"{EVALUATE}, vectors stored",
            TARGET,
            {"words": _theirs(folder, "mteb", *vectors), "first": True},
            "mteb",
            (),
        ),
    ]


def _quality(answers: Mapping[str, Answer]) -> Quality:
    """nDCG@10 and its difference from mteb's."""
    ndcg = {name: float(answer["ndcg"]) for name, answer in answers.items() if "ndcg" in answer}
    exact = next((value for name, value in ndcg.items() if name.startswith(EVALUATE)), None)
    return {
        name: {"nDCG@10": f"{value:.5f}"}
        | ({} if exact is None else {"difference from mteb": figure(value - exact, 5)})
        for name, value in ndcg.items()
    }
