"""Exact search and geometry in parts: each a range of documents by itself, kept until all are put together.

A part holds, of its documents, every query's k best and all that tie with the k-th. The k best of all documents are
among them, and every score was decided in float64 from one query and one document alone, so the whole is bit for bit
what one search gives, however the documents were divided. The geometry's sums are those of one pass bit for bit where
the documents were divided as one pass divides them (`harness.metrics.moments.PART`).

$HARNESS_HOME/searched/KEY/ holds START-STOP/ per part: the `FILES` and record.json (whose they are, and checksums).
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
    """Where each query's stop."""

    def of(self, query: int) -> slice:
        return slice(int(self.ends[query - 1]) if query else 0, int(self.ends[query]))


class Searched:
    """The parts of one model's search of one dataset, as far as they are there."""

    def __init__(self, model: Prepared, dataset: Dataset, depth: int) -> None:
        self._asked = [model.ref.key, dataset.corpus.sha256, dataset.fingerprint["queries"], depth]
        self.folder = model.home / "searched" / content_key(self._asked)[:32]
        self.depth, self.documents, self.queries = depth, len(dataset.corpus), len(dataset.queries)

    def put(self, start: int, stop: int, found: Iterable[Hits], geometry: Part) -> None:
        """Keeps one part: the hits of every query among documents start to stop, rows counted from ``start``, and these
        documents' geometry."""
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
            write_json(folder / "record.json", seal({"of": [*self._asked, start, stop], "files": files}))

    def has(self, start: int, stop: int) -> bool:
        """Whether that part is there, undamaged."""
        folder = self._place(start, stop)
        try:
            stated = fields(read_sealed(folder / "record.json"), files=dict)
            whole = all(sha256_file(folder / name) == stated["files"].get(name) for name in FILES)
            return whole and bool(stated.get("of") == [*self._asked, start, stop])
        except (OSError, ValueError):
            return False

    def merged(self) -> Iterator[Hits] | None:
        """What one search of all documents gives, query by query; None unless parts of all of them are there."""
        return self._merge(spans) if (spans := self._whole()) else None

    def geometry(self) -> Part | None:
        """What one pass over all documents gives; None unless parts of all of them are there."""
        places = [self._place(*span) for span in self._whole()]
        kept = ((map_array(each / "moments.npy"), map_array(each / "sample.npy")) for each in places)
        return joined((Moments.unpacked(numbers), sample) for numbers, sample in kept) if places else None

    def _whole(self) -> list[tuple[int, int]]:
        """The parts that make up all documents, in order; empty unless they are there."""
        spans, at = [], 0
        for start, stop in sorted(self._spans()):
            if start == at and self.has(start, stop):
                spans.append((start, stop))
                at = stop
        return spans if at == self.documents else []

    def forget(self) -> None:
        """Removes all parts."""
        remove(self.folder)

    def _place(self, start: int, stop: int) -> Path:
        return self.folder / f"{start}-{stop}"

    def _spans(self) -> Iterator[tuple[int, int]]:
        for folder in self.folder.glob("[0-9]*-[0-9]*"):
            start, _, stop = folder.name.partition("-")
            if start.isdecimal() and stop.isdecimal():
                yield int(start), int(stop)

    def _merge(self, spans: list[tuple[int, int]]) -> Iterator[Hits]:
        parts = [_Part(*(map_array(self._place(*span) / name) for name in HITS)) for span in spans]
        for query in range(self.queries):
            rows = np.concatenate([part.rows[part.of(query)] for part in parts])
            scores = np.concatenate([part.scores[part.of(query)] for part in parts])
            order = np.lexsort((rows, -scores))
            falling = scores[order]
            k = min(self.depth, len(falling))
            kept = int(np.searchsorted(-falling, -falling[k - 1], side="right")) if k else 0
            yield Hits(rows[order[:kept]], falling[:kept])
