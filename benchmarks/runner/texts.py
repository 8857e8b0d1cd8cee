"""Text collections of the benchmarks: a folder in BEIR format if available, else the embedded dataset."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks.runner.contest import Answer, Plan
from harness.cli.main import State
from harness.datasets.beir import Dataset, open_dataset
from harness.evaluation.open_datasets import open_named
from harness.metrics.measures import measure
from harness.metrics.ranking import rank
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.types import Document, Qrels, Query

SEED = 0
T = TypeVar("T")


class Texts(NamedTuple):
    """A collection in memory."""

    name: str
    documents: list[Document]
    queries: list[Query]
    qrels: Qrels

    def part(self, documents: int, queries: int) -> Texts:
        """A seeded sample of queries with their judged documents, padded with other documents."""
        chance = random.Random(SEED)
        asked = _drawn(chance, self.queries, queries)
        qrels = {query.id: self.qrels[query.id] for query in asked}
        judged = {document for found in qrels.values() for document in found}
        others = [document.id for document in self.documents if document.id not in judged]
        kept = judged | {*chance.sample(others, max(0, min(len(others), documents - len(judged))))}
        found = [document for document in self.documents if document.id in kept]
        return Texts(f"{len(found):,} documents of {self.name}", found, asked, qrels)

    def sample(self, documents: int) -> list[str]:
        """Contents of a seeded sample of documents, in corpus order."""
        return [document.content for document in _drawn(random.Random(SEED), self.documents, documents)]

    def write(self, folder: Path) -> Path:
        """Write a folder in BEIR format."""
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        records = [{"_id": d.id, "title": d.title, "text": d.text} for d in self.documents]
        _lines(folder / "corpus.jsonl", map(json.dumps, records))
        _lines(folder / "queries.jsonl", (json.dumps({"_id": q.id, "text": q.text}) for q in self.queries))
        judged = (f"{q}\t{d}\t{grade}" for q, grades in self.qrels.items() for d, grade in grades.items())
        _lines(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judged])
        return folder

    def ndcg(self, answer: Answer) -> float:
        """nDCG@10 of ``rows`` and ``scores`` [queries, k], where rows below 0 are missing documents."""
        rankings = (
            rank(query.id, [self.documents[row].id for row in rows[rows >= 0].tolist()], scores[rows >= 0], 10)
            for query, rows, scores in zip(self.queries, answer["rows"], answer["scores"], strict=True)
        )
        return measure(self.qrels, rankings, ("nDCG@10",)).mean()["nDCG@10"]


def collection(plan: Plan, name: str, split: str = "test") -> Texts | None:
    """A dataset of ``--data``; None where it does not exist."""
    folder = plan.folder(name)
    if folder is None:
        return None
    with open_dataset(folder, cache=plan.work / "corpora", name=name, split=split) as dataset:
        return _texts(dataset)


def embedded() -> Texts:
    """The embedded dataset, built on first use."""
    with open_named("pydocs", load_registry(), State().made_home) as dataset:
        return _texts(dataset)


def scifact(plan: Plan) -> tuple[Texts, list[str]]:
    """SciFact, or its substitute with a note."""
    found = collection(plan, "scifact")
    absent = f"scifact is not in {plan.data.name}/, so the texts are those of the embedded dataset, pydocs"
    return (found, []) if found else (embedded(), [absent])


@cache
def weights(model: str) -> Path:
    """The folder of a model's weights, downloaded if necessary."""
    return Path(str(Prepared(load_registry().model(model), State().made_home).ref.options["path"]))


def _texts(dataset: Dataset) -> Texts:
    return Texts(dataset.name, list(dataset.corpus.iter()), list(dataset.queries), dataset.qrels)


def _drawn(chance: random.Random, things: list[T], count: int) -> list[T]:
    """A seeded sample, in the original order."""
    return [things[at] for at in sorted(chance.sample(range(len(things)), min(count, len(things))))]


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
