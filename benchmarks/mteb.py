"""SciFact with MPNet end to end, from the start of a process to its end: the harness against mteb and beir."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest import Answer, Contest, Contestant, Plan, Quality, figure
from benchmarks.texts import Texts, scifact, weights

MODEL = "mpnet"
TARGET = "benchmarks.command:Command"
PACKAGES = ("mteb", "beir", "sentence-transformers", "transformers", "torch")
EVALUATE = "mteb.evaluate"


def contests(plan: Plan) -> list[Contest]:
    """With nothing stored, then with everything."""
    texts, notes = scifact(plan)
    if plan.size != "whole" or plan.sample is not None:
        documents = plan.sample or plan.pick(6, 96, 0)
        texts = texts.part(documents, max(2, documents // 3))
        notes = [*notes, "the queries are drawn with seed 0, their judged documents among the documents"]
    folder = texts.write(plan.work / "mteb" / f"{len(texts.documents)}-documents")
    what = f"{texts.name}, {len(texts.queries)} queries"
    started = "every round is a process from its start to its end: its imports and the loading of the model are in it"
    return [
        Contest(f"{what}, cold", _cold(plan, folder, texts), _quality, notes=[*notes, started]),
        Contest(
            f"{what}, again",
            _again(plan, folder, texts),
            _quality,
            notes=[
                *notes,
                f"{started}; the first run, which stores everything, is what loading takes",
                "results stored: nothing is left to do; vectors stored: results are taken away before every round "
                "(mteb: CachedEmbeddingWrapper)",
            ],
        ),
    ]


def _ours(plan: Plan, folder: Path, model: str, home: str, **settings: Any) -> dict[str, Any]:
    """A run in a home of its own that has the weights and nothing else."""
    place = plan.work / "mteb" / home
    words = ["{python}", "-m", "harness", "benchmark", "-m", model, "-d", str(folder)]
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


def _cold(plan: Plan, folder: Path, texts: Texts) -> list[Contestant]:
    ours = [
        Contestant(f"harness, {dtype}", TARGET, _ours(plan, folder, f"{MODEL}:dtype={dtype}", f"cold-{dtype}"))
        for dtype in ("bfloat16", "float32")
    ]
    beir = "beir, DenseRetrievalExactSearch"
    return [
        *ours,
        Contestant(EVALUATE, TARGET, {"words": _theirs(folder, "mteb")}, "mteb", PACKAGES),
        Contestant(beir, TARGET, {"words": _theirs(folder, "beir")}, "mteb", ()),
    ]


def _again(plan: Plan, folder: Path, texts: Texts) -> list[Contestant]:
    place, model = plan.work / "mteb", f"{MODEL}:dtype=bfloat16"
    stored, kept = str(place / "stored-results"), str(place / "stored-vectors")
    results, vectors = ["--results", stored], ["--embeddings", kept]
    return [
        Contestant("harness, results stored", TARGET, _ours(plan, folder, model, "again", fresh=[], first=True)),
        Contestant(
            "harness, vectors stored",
            TARGET,
            _ours(plan, folder, model, "vectors", fresh=[str(place / "vectors" / "results")], first=True),
        ),
        Contestant(
            f"{EVALUATE}, results stored",
            TARGET,
            {"words": _theirs(folder, "mteb", *results), "first": True},
            "mteb",
            PACKAGES,
        ),
        Contestant(
            f"{EVALUATE}, vectors stored",
            TARGET,
            {"words": _theirs(folder, "mteb", *vectors), "first": True},
            "mteb",
            (),
        ),
    ]


def _quality(answers: Mapping[str, Answer]) -> Quality:
    """The difference is from mteb's nDCG@10."""
    ndcg = {name: float(answer["ndcg"]) for name, answer in answers.items() if "ndcg" in answer}
    exact = next((value for name, value in ndcg.items() if name.startswith(EVALUATE)), None)
    return {
        name: {"nDCG@10": f"{value:.5f}"}
        | ({} if exact is None else {"difference from mteb": figure(value - exact, 5)})
        for name, value in ndcg.items()
    }
