"""The cluster of every query on a leaderboard: as stored with results, or recomputed from a dataset on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from harness.datasets import catalog
from harness.metrics.clusters import FINER, Clusters, Codes, cluster_sentence, query_clusters
from harness.metrics.qrels import read_qrels
from harness.storage.atomic import content_key
from harness.types import UserError
from harness_reports.data.cells import Cell


class Reader(Protocol):
    """What reads the per-query files."""

    def measured(self, dataset: str) -> Iterator[tuple[Cell, list[str]]]:
        """Cells of the dataset with per-query values, and their queries."""
        ...

    def codes(self, cell: Cell) -> Codes | None:
        """The column of clusters in the cell's per-query file; None if it cannot be read."""
        ...


class ClusterIndex:
    """Clusters by dataset; nothing is read before it is asked for, and nothing twice.

    Args:
        reader: Reads the per-query files.
        home: $HARNESS_HOME, where registered datasets are; None: only folders are looked for.
    """

    def __init__(self, reader: Reader, home: Path | None) -> None:
        self.unknown: dict[str, None] = {}
        """Datasets whose results do not say which queries are independent, so far."""
        self._reader, self._home = reader, home
        self._known: dict[str, tuple[dict[str, int], str, bool]] = {}
        self._codes: dict[tuple[str, tuple[str, ...]], Codes | None] = {}

    def codes(self, dataset: str, ids: Sequence[str]) -> Codes | None:
        """The cluster of each of these queries; None if each is its own."""
        by_query = self._clusters(dataset)[0]
        if not by_query:
            return None
        key = (dataset, tuple(ids))
        if key not in self._codes:
            names = [by_query.get(query, -1 - place) for place, query in enumerate(ids)]
            _, codes = np.unique(np.array(names, np.int64), return_inverse=True)
            self._codes[key] = codes.astype(np.int64) if codes.max(initial=-1) + 1 < len(ids) else None
        return self._codes[key]

    def sentence(self, dataset: str) -> str:
        """``DATASET: what its clusters say about it``; empty if all queries are independent."""
        _, told, _ = self._clusters(dataset)
        return f"{dataset}: {told}" if told else ""

    def known(self, dataset: str) -> bool:
        """Whether some queries of the dataset are one cluster."""
        return bool(self._clusters(dataset)[0])

    def finer(self, dataset: str) -> bool:
        """Whether its clusters share documents, so that its intervals may be too narrow."""
        return self._clusters(dataset)[2]

    def _clusters(self, dataset: str) -> tuple[dict[str, int], str, bool]:
        """Query -> cluster ({}: each is its own), the sentence, and whether sharing is left between clusters."""
        if dataset not in self._known:
            self._known[dataset] = self._find(dataset)
        return self._known[dataset]

    def _find(self, dataset: str) -> tuple[dict[str, int], str, bool]:
        cells: list[tuple[Cell, list[str]]] = []
        for cell, ids in self._reader.measured(dataset):
            cells.append((cell, ids))
            record = cell.get("manifest", "dataset", "clusters")
            if not isinstance(record, dict) or not isinstance(record.get("clusters"), int):
                continue
            told = cluster_sentence(record, len(ids)), record.get("rule") in FINER
            if record["clusters"] >= len(ids):
                return {}, *told
            if (codes := self._reader.codes(cell)) is not None:
                return dict(zip(ids, codes.tolist(), strict=True)), *told
        for cell, ids in cells:
            if clusters := recomputed(cell, ids, self._home):
                by_query = {} if clusters.trivial else dict(zip(ids, clusters.codes.tolist(), strict=True))
                return by_query, clusters.sentence(), clusters.rule in FINER
        if cells:
            self.unknown[dataset] = None
        return {}, "", False


def recomputed(cell: Cell, ids: Sequence[str], home: Path | None) -> Clusters | None:
    """The clusters of a result that does not state them, from the judgements that it was measured with.

    None unless these very judgements are on this machine.
    """
    record = cell.get("manifest", "dataset") or {}
    stated, source = (record.get("fingerprint") or {}).get("qrels"), str(record.get("source") or record.get("name"))
    spec = catalog.catalogue().datasets.get(source)
    folder = catalog.place(spec, home) if spec and home else Path(source)
    if not stated or not folder.is_absolute():
        return None
    with suppress(UserError, OSError, KeyError):
        found = read_qrels(folder / "qrels" / f"{cell.get('split')}.tsv")
        qrels = {query: found[query] for query in ids}
        return query_clusters(qrels, ids) if content_key(qrels) == stated else None
    return None
