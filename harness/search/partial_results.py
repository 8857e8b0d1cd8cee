"""Partial results of exact search and geometry: one per range of documents, stored until all ranges are merged.

A partial result holds the k nearest documents of its range for every query, and all that tie with the k-th. Every score
is computed in float64 from one query and one document, so the merged hits are bit for bit those of one search, however
the documents were divided. The merged moments are those of one pass bit for bit if the ranges are those of
`harness.metrics.moments.PART`.

$HARNESS_HOME/searched/KEY/START-STOP/ holds `FILES` and record.json (what the range belongs to, and checksums).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.datasets.beir import Dataset
from harness.metrics.moments import Moments, Part, joined
from harness.models.runner import Prepared
from harness.storage.atomic import content_key, sha256_file, whole_folder, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields, map_array
from harness.storage.temporary_files import remove
from harness.types import Hits

HITS = ("rows.npy", "scores.npy", "ends.npy")
FILES = (*HITS, "moments.npy", "sample.npy")


class _Part(NamedTuple):
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    ends: NDArray[np.int64]
    """End of each query's hits."""

    def of(self, query: int) -> slice:
        return slice(int(self.ends[query - 1]) if query else 0, int(self.ends[query]))


class PartialResults:
    """The stored partial results of one model on one dataset."""

    def __init__(self, model: Prepared, dataset: Dataset, depth: int) -> None:
        self._key = [model.ref.key, dataset.corpus.sha256, dataset.fingerprint["queries"], depth]
        self.folder = model.home / "searched" / content_key(self._key)[:32]
        self.depth, self.documents, self.queries = depth, len(dataset.corpus), len(dataset.queries)

    def put(self, start: int, stop: int, found: Iterable[Hits], geometry: Part) -> None:
        """Store one partial result.

        Args:
            start: first document of the range.
            stop: end of the range.
            found: hits of every query, with rows counted from ``start``.
            geometry: moments and sample of these documents.
        """
        hits = list(found)
        part = _Part(
            np.concatenate([h.rows for h in hits]) + start,
            np.concatenate([h.scores for h in hits]),
            np.cumsum([len(h.rows) for h in hits]),
        )
        with whole_folder(self._place(start, stop)) as folder:
            arrays: list[NDArray[Any]] = [*part, geometry[0].packed(), geometry[1]]
            for name, array in zip(FILES, arrays, strict=True):
                np.save(folder / name, array, allow_pickle=False)
            files = {name: sha256_file(folder / name) for name in FILES}
            write_json(folder / "record.json", seal({"of": [*self._key, start, stop], "files": files}))

    def has(self, start: int, stop: int) -> bool:
        """Whether the result of this range is stored and valid."""
        folder = self._place(start, stop)
        try:
            stated = fields(read_sealed(folder / "record.json"), files=dict)
            whole = all(sha256_file(folder / name) == stated["files"].get(name) for name in FILES)
            return whole and bool(stated.get("of") == [*self._key, start, stop])
        except (OSError, ValueError):
            return False

    def merged(self) -> tuple[Iterator[Hits], Part] | None:
        """The hits of every query and the geometry over all documents; None unless all ranges are stored and valid."""
        if not (spans := self._complete()):
            return None
        folders = [self._place(*span) for span in spans]
        arrays = ((map_array(folder / "moments.npy"), map_array(folder / "sample.npy")) for folder in folders)
        return self._merge(folders), joined((Moments.unpacked(numbers), sample) for numbers, sample in arrays)

    def _complete(self) -> list[tuple[int, int]]:
        """The ranges that cover all documents, in order; empty if one is missing."""
        spans, at = [], 0
        for start, stop in sorted(self._spans()):
            if start == at and self.has(start, stop):
                spans.append((start, stop))
                at = stop
        return spans if at == self.documents else []

    def forget(self) -> None:
        """Remove all partial results."""
        remove(self.folder)

    def _place(self, start: int, stop: int) -> Path:
        return self.folder / f"{start}-{stop}"

    def _spans(self) -> Iterator[tuple[int, int]]:
        for folder in self.folder.glob("[0-9]*-[0-9]*"):
            start, _, stop = folder.name.partition("-")
            if start.isdecimal() and stop.isdecimal():
                yield int(start), int(stop)

    def _merge(self, folders: list[Path]) -> Iterator[Hits]:
        parts = [_Part(*(map_array(folder / name) for name in HITS)) for folder in folders]
        for query in range(self.queries):
            rows = np.concatenate([part.rows[part.of(query)] for part in parts])
            scores = np.concatenate([part.scores[part.of(query)] for part in parts])
            order = np.lexsort((rows, -scores))
            falling = scores[order]
            k = min(self.depth, len(falling))
            kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
            yield Hits(rows[order[:kept]], falling[:kept])
