"""BM25, from texts to the 1,000 best documents of every query: the harness against bm25s and Pyserini."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.texts import SEED, Texts, collection, embedded

K = 1000
REFERENCE = "Pyserini"
DATASETS = (("scifact", "test"), ("squad-train", "train"))


def contests(plan: Plan) -> Iterator[Contest]:
    """One per available dataset; the embedded dataset where none is available."""
    absent = [name for name, _ in DATASETS if plan.folder(name) is None]
    notes = [f"not measured, being absent from {plan.data.name}/: {', '.join(absent)}"] if absent else []
    for name, split in DATASETS:
        if (texts := collection(plan, name, split)) is not None:
            yield _contest(plan, texts, notes)
    if len(absent) == len(DATASETS):
        yield _contest(plan, embedded(), notes)


def _contest(plan: Plan, texts: Texts, notes: list[str]) -> Contest:
    asked = plan.pick(50, 1000, len(texts.queries))
    documents = plan.pick(500, len(texts.documents), len(texts.documents))
    if asked < len(texts.queries) or documents < len(texts.documents):
        texts = texts.part(documents, asked)
        notes = [*notes, f"the queries are drawn with seed {SEED}, their judged documents among the documents"]
    file = plan.work / f"bm25-{texts.name.split()[-1]}.json"
    content = {"documents": [list(d) for d in texts.documents], "queries": [list(q) for q in texts.queries]}
    file.write_text(json.dumps(content))
    given = {"texts": str(file), "k": K}
    peers = "benchmarks.peers.lexical"
    return Contest(
        title=f"{texts.name}: {len(texts.documents):,} documents, {len(texts.queries):,} queries, k = {K:,}",
        competitors=[
            Competitor("harness", "benchmarks.contests.bm25:Ours", given),
            Competitor("bm25s", f"{peers}:Bm25s", {**given, "threads": plan.threads}, packages=("bm25s", "numpy")),
            Competitor(REFERENCE, f"{peers}:Pyserini", {**given, "threads": plan.threads}, packages=("pyserini",)),
        ],
        quality=partial(_quality, texts),
        notes=[
            *notes,
            f"difference: of nDCG@10 from {REFERENCE}'s; k1 = 0.9 and b = 0.4 throughout",
            f"{REFERENCE} puts Lucene's ties in the order of their ids as text, rising, and lowers the later ones; "
            f"trec_eval (9 and 10.0), and the harness with it, lets them fall. Ties alike: the difference with all "
            f"ties as {REFERENCE} has them; same lists: the queries whose list is then {REFERENCE}'s from first to "
            f"last",
            f"bm25s has its own tokenizer, English stop words and no stemmer; {REFERENCE}'s Java is started while "
            f"loading, and its index goes to disk, as the harness's does",
        ],
    )


class Ours:
    """The harness's BM25."""

    def __init__(self, texts: str, k: int) -> None:
        from harness.registry.manager import load_registry
        from harness.types import Document, Query

        given = json.loads(Path(texts).read_text())
        self.documents = [Document(*each) for each in given["documents"]]
        self.queries = [Query(*each) for each in given["queries"]]
        self.k, self.model = k, load_registry().model("bm25").load()

    def work(self) -> None:
        """Index and search."""
        with tempfile.TemporaryDirectory() as folder:
            self.model.build(iter(self.documents), Path(folder))
            self.hits = list(self.model.search(Path(folder), self.queries, self.k))

    def answer(self) -> dict[str, Any]:
        """Rows and scores [queries, k or more], including ties with the k-th."""
        from benchmarks.peers.lexical import padded

        return padded(self.hits, max(self.k, *(len(hits.rows) for hits in self.hits)))


def _quality(texts: Texts, answers: Mapping[str, Answer]) -> Quality:
    ndcg = {name: texts.ndcg(answer) for name, answer in answers.items()}
    quality = {name: {"nDCG@10": f"{value:.5f}"} for name, value in ndcg.items()}
    if REFERENCE not in answers:
        return quality
    alike = {name: _ties_alike(answer) for name, answer in answers.items()}
    exact, lists = texts.ndcg(alike[REFERENCE]), alike[REFERENCE]["rows"]
    for name, answer in alike.items():
        pairs = zip(answer["rows"], lists, strict=True)
        same = sum(np.array_equal(found[found >= 0], theirs[theirs >= 0]) for found, theirs in pairs)
        quality[name] |= {
            "difference": figure(ndcg[name] - ndcg[REFERENCE], 5),
            "ties alike": figure(texts.ndcg(answer) - exact, 5),
            "same lists": f"{same:,} of {len(lists):,}",
        }
    return quality


def _ties_alike(answer: Answer) -> Answer:
    """The first `K` with ties in Pyserini's order, then made distinct; its ids are the rows as strings."""
    order = np.lexsort((answer["rows"].astype(str), -answer["scores"]), axis=1)[:, :K]
    rows = np.take_along_axis(answer["rows"], order, axis=1)
    return {"rows": rows, "scores": np.broadcast_to(-np.arange(rows.shape[1]), rows.shape)}
