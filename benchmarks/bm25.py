"""Our BM25 (Lucene's analyser and scores) against bm25s with its own tokenizer: index and search, embedded dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import bm25s

from benchmarks.pydocs import pydocs
from harness.registry import load_registry


def contest() -> dict[str, Callable[[], object]]:
    """Contestant -> work."""
    dataset = pydocs()
    model = load_registry().model("bm25").load()
    texts = [document.content for document in dataset.corpus.iter()]
    queries = [query.text for query in dataset.queries]

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            model.build(dataset.corpus.iter(), Path(folder))
            for _ in model.search(Path(folder), dataset.queries, 1000):
                pass

    def peer() -> None:
        index = bm25s.BM25(k1=0.9, b=0.4)
        index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
        index.retrieve(bm25s.tokenize(queries, stopwords="en", show_progress=False), k=1000, show_progress=False)

    return {"harness": ours, "bm25s": peer}
