"""``python -m benchmarks.peers.retrieval mteb|beir --folder BEIR --weights FOLDER``: prints nDCG@10 as JSON.

SciFact's task of mteb with the folder's texts in place of the hub's; the model's entry in mteb's registry with the
local weights in place of the hub's, handed over as an entry so that nothing is loaded where a result is stored.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

NAME = "sentence-transformers/all-mpnet-base-v2"


def read(folder: Path) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, dict[str, int]]]:
    """Corpus, judged queries and judgements of a folder in BEIR format."""
    lines = (json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines())
    corpus = {record["_id"]: {"title": record["title"], "text": record["text"]} for record in lines}
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / "test.tsv").open() as stream:
        for query, document, grade in list(csv.reader(stream, delimiter="\t"))[1:]:
            qrels.setdefault(query, {})[document] = int(grade)
    asked = (json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines())
    return corpus, {record["_id"]: record["text"] for record in asked if record["_id"] in qrels}, qrels


def with_mteb(folder: Path, weights: str, results: str | None, embeddings: str | None) -> float:
    """Evaluate with ``mteb.evaluate``."""
    import mteb
    from mteb.cache import ResultCache
    from mteb.models import CachedEmbeddingWrapper, SentenceTransformerEncoderWrapper

    [original] = mteb.get_tasks(tasks=["SciFact"])

    class Local(type(original)):  # type: ignore[misc]
        """The task with texts read lazily from the folder."""

        def load_data(self, *given: Any, **settings: Any) -> None:
            """Load from the folder instead of the hub."""
            if not self.data_loaded:
                corpus, queries, qrels = read(folder)
                self.corpus, self.queries, self.relevant_docs = {"test": corpus}, {"test": queries}, {"test": qrels}
                self.convert_v1_dataset_format_to_v2(None)
                self.data_loaded = True

    def load(name: str, revision: str | None = None, **settings: Any) -> Any:
        return SentenceTransformerEncoderWrapper(weights, device="cpu")

    meta = mteb.get_model_meta(NAME)
    meta = meta.model_copy(update={"loader": load, "loader_kwargs": {}})
    model: Any = CachedEmbeddingWrapper(load(NAME), embeddings) if embeddings else meta
    cache = ResultCache(results) if results else None
    encode = {"show_progress_bar": False, "batch_size": 32}
    found = mteb.evaluate(model, Local(), cache=cache, encode_kwargs=encode, show_progress_bar=False)
    [scores] = found.task_results[0].scores["test"]
    return float(scores["ndcg_at_10"])


def with_beir(folder: Path, weights: str) -> float:
    """Evaluate with ``EvaluateRetrieval`` and ``DenseRetrievalExactSearch``."""
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.models import SentenceBERT
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    corpus, queries, qrels = read(folder)
    search = DenseRetrievalExactSearch(SentenceBERT(weights), batch_size=32)
    evaluation = EvaluateRetrieval(search, score_function="cos_sim")
    ndcg, *_ = evaluation.evaluate(qrels, evaluation.retrieve(corpus, queries), evaluation.k_values)
    return float(ndcg["NDCG@10"])


def main() -> None:
    """One evaluation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=["mteb", "beir"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--results")
    parser.add_argument("--embeddings")
    given = parser.parse_args()
    if given.which == "mteb":
        value = with_mteb(given.folder, given.weights, given.results, given.embeddings)
    else:
        value = with_beir(given.folder, given.weights)
    print(json.dumps({"nDCG@10": value}))


if __name__ == "__main__":
    main()
