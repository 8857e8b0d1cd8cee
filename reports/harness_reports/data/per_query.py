"""Per-query scores of a leaderboard's cells, read from their ``per_query.parquet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.clusters import Codes
from harness.results.store import CLUSTER, ResultStore, Unreadable, read_columns
from harness.storage.atomic import sha256_file
from harness_reports.data.clusters import ClusterIndex
from harness_reports.data.leaderboard import MEASURE, Cell, Leaderboard, some

FILE = "per_query.parquet"
TOLERANCE = 1e-6
"""Tolerance between the mean over the queries and the stored score."""


class QueryScores(NamedTuple):
    """One measure of one cell."""

    ids: list[str]
    """Judged queries; cells with the same queries share one list."""
    values: NDArray[np.float64]
    """[queries]"""


class Evidence:
    """Per-query scores of a leaderboard's cells. Files are read when asked for, only the columns needed, and once."""

    def __init__(self, board: Leaderboard, home: Path | None = None) -> None:
        self.board = board
        self.clusters = ClusterIndex(self, home)
        """Which queries are not independent."""
        self.skipped: dict[Path, Unreadable] = {}
        """Files that could not be used, so far, by path."""
        self.missing: dict[Path, None] = {}
        """Files that their results name and that are not there, so far."""
        self._store = ResultStore(board.root)
        self._intact: dict[Path, bool] = {}
        self._scores: dict[tuple[str, str, str], QueryScores | None] = {}
        self._ids: dict[str, list[list[str]]] = {}

    @property
    def lacking(self) -> str:
        """One sentence about all missing files; empty if there are none."""
        if not self.missing:
            return ""
        count, first = len(self.missing), next(iter(self.missing)).parent
        whose = f"{count} results lack" if count > 1 else "1 result lacks"
        return (
            f"{whose} {FILE} ({first}{' and others' if count > 1 else ''}); intervals, ranks and tests need the "
            f"queries' scores in it, means do not"
        )

    @property
    def unclustered(self) -> str:
        """One sentence about the datasets whose clusters are not known; empty if there are none."""
        if not self.clusters.unknown:
            return ""
        return (
            f"{some([*self.clusters.unknown])}: the results do not say which queries share relevant documents, and the "
            f"dataset is not on this machine, so every query is taken to be independent; intervals are too narrow "
            f"where it is not. Run harness benchmark --force for a result that says it"
        )

    def runs(self, model: str) -> tuple[str, ...]:
        """The models that a row stands for: its training runs where it is a mean over seeds."""
        return self.board.seeds.get(model, (model,))

    def cell(self, model: str, dataset: str) -> Cell | None:
        """The cell, whole or partial."""
        return self.board.cells.get((model, dataset)) or self.board.partial_cells.get((model, dataset))

    def file(self, model: str, dataset: str, name: str = FILE) -> Path:
        """The path of a file of the cell."""
        cell = self.cell(model, dataset)
        return (cell.folder if cell and cell.folder else self._store.folder(model, dataset)) / name

    def intact(self, model: str, dataset: str, name: str = FILE) -> bool:
        """Whether a file of the cell has the checksum that the result states; if not, it is added to `skipped`."""
        path, cell = self.file(model, dataset, name), self.cell(model, dataset)
        if path not in self._intact:
            stated = (cell.get("manifest", "files", name) if cell else None) or ""
            self._intact[path] = not stated or not path.is_file() or sha256_file(path) == stated
        if not self._intact[path]:
            reason = "its checksum is not that of the result: it is damaged, or was edited"
            self.skipped.setdefault(path, Unreadable(path, reason))
        return self._intact[path]

    def scores(self, model: str, dataset: str, measure: str = MEASURE) -> QueryScores | None:
        """Every judged query's value; None where the cell is missing, failed, without that measure or without the file.

        A corrupt file, or one whose mean differs from the stored score, gives None too and is added to `skipped`.
        """
        key = (model, dataset, measure)
        if key not in self._scores:
            cell = self.cell(model, dataset)
            figure = cell.get("measures", measure) if cell and cell.ok else None
            self._scores[key] = None if figure is None else self._read(model, dataset, measure, figure)
        return self._scores[key]

    def paired(
        self, models: Sequence[str], dataset: str, measure: str = MEASURE
    ) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        """The queries that all of the models have, in the first one's order, and each model's values on them.

        Values are [queries], or [runs, queries] of a row over seeds. Models without scores there, or without those of
        a run, are left out. The values of different models are in the same order.
        """
        found = {model: [self.scores(run, dataset, measure) for run in self.runs(model)] for model in models}
        known = {model: [each for each in scores if each] for model, scores in found.items() if all(scores)}
        every = [each for scores in known.values() for each in scores]
        if not every:
            return [], {}
        ids = every[0].ids
        if not all(scores.ids is ids for scores in every):
            common = reduce(set[str].intersection, [set(scores.ids) for scores in every])
            ids = [query for query in ids if query in common]
        values = {model: [_in_order(each, ids) for each in scores] for model, scores in known.items()}
        return ids, {model: np.stack(rows) if model in self.board.seeds else rows[0] for model, rows in values.items()}

    def measured(self, dataset: str) -> Iterator[tuple[Cell, list[str]]]:
        """Cells of the dataset with per-query values, and their queries."""
        for model in self.board.models:
            for run in self.runs(model):
                cell, scores = self.cell(run, dataset), self.scores(run, dataset)
                if cell and scores:
                    yield cell, scores.ids

    def codes(self, cell: Cell) -> Codes | None:
        """The column of clusters in the cell's per-query file; None if it cannot be read."""
        columns = self._columns(cell.model, cell.dataset, [CLUSTER])
        if columns is None:
            return None
        found = np.asarray(columns[CLUSTER])
        if found.dtype.kind not in "iu":
            self._skip(cell.model, cell.dataset, f"its {CLUSTER} is not of whole numbers")
            return None
        return found.astype(np.int64)

    def texts(self, dataset: str) -> dict[str, str]:
        """Query id -> text of every query that any model was judged on; empty if no file has texts."""
        texts: dict[str, str] = {}
        seen: set[int] = set()
        for model in (run for row in self.board.models for run in self.runs(row)):
            scores = self.scores(model, dataset)
            if scores and id(scores.ids) not in seen:
                seen.add(id(scores.ids))
                columns = self._columns(model, dataset, ["query_id", "query"])
                if columns:
                    texts |= dict(zip(columns["query_id"], columns["query"], strict=True))
        return texts

    def _read(self, model: str, dataset: str, measure: str, figure: float) -> QueryScores | None:
        columns = self._columns(model, dataset, ["query_id", measure])
        if columns is None:
            return None
        ids, values = columns["query_id"], np.asarray(columns[measure], dtype=np.float64)
        fault = ""
        if not ids or len({*ids}) < len(ids) or not np.isfinite(values).all():
            fault = "it has no query, one twice, or a value that is no finite number"
        elif abs(float(values.mean()) - figure) > TOLERANCE * max(1.0, abs(figure)):
            fault = f"its {measure} has a mean of {values.mean():.6f}, but the result says {figure:.6f}"
        if fault:
            self._skip(model, dataset, fault)
            return None
        return QueryScores(self._shared(dataset, ids), values)

    def _columns(self, model: str, dataset: str, names: list[str]) -> Mapping[str, Any] | None:
        import pyarrow

        path, cell = self.file(model, dataset), self.cell(model, dataset)
        if not self.intact(model, dataset):
            return None
        try:
            table = read_columns(path, names)
            columns = {name: table[name].combine_chunks() for name in names}
            return {
                name: column.to_pylist() if column.type == pyarrow.string() else np.from_dlpack(column)
                for name, column in columns.items()
            }
        except FileNotFoundError:
            if cell and FILE in (cell.get("manifest", "files") or ()):
                self.missing[self.file(model, dataset)] = None
        except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, BufferError, MemoryError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._skip(model, dataset, f"it cannot be read ({' '.join(why.split())})")
        return None

    def _skip(self, model: str, dataset: str, reason: str) -> None:
        path = self.file(model, dataset)
        self.skipped.setdefault(path, Unreadable(path, reason))

    def _shared(self, dataset: str, ids: list[str]) -> list[str]:
        """The same list for the same queries: a list per cell would take most of the memory."""
        lists = self._ids.setdefault(dataset, [])
        for known in lists:
            if known == ids:
                return known
        lists.append(ids)
        return ids


def _in_order(scores: QueryScores, ids: Sequence[str]) -> NDArray[np.float64]:
    if scores.ids is ids:
        return scores.values
    places = {query: place for place, query in enumerate(scores.ids)}
    return scores.values[[places[query] for query in ids]]
