"""Cells: one model on one dataset, what decides its result, and whether that result is stored already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.datasets.beir import Dataset
from harness.metrics.depth import DEPTH, depth_label, fits
from harness.metrics.measures import MEASURES
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.results.schema import Result
from harness.results.store import ResultStore
from harness.search.exact import Limits
from harness.search.index_config import IndexConfig
from harness.storage.atomic import content_key
from harness.storage.remote import RemoteCache
from harness.types import Progress

ZERO_VECTORS = "cosine 0 with everything"
REVISION = 2
"""Part of every cell's key. Raised when a change to the harness can change a number."""

REDEFINED = re.compile(r"(IPrec|NumRel|NumQ)\b")
"""Metrics that version 0.2 computes as trec_eval 10.0 does, and version 0.1 did not."""


@dataclass(slots=True)
class Settings:
    """The settings of a benchmark, besides its models and datasets."""

    home: Path
    results: ResultStore
    measures: tuple[str, ...] = MEASURES
    k: int = DEPTH
    """Depth of the runs."""
    limits: Limits = Limits()  # noqa: RUF009 (immutable)
    indexes: tuple[IndexConfig, ...] = ()
    """Each adds a row to every dense model, compared with its exact one."""
    force: bool = False
    offline: bool = False
    shared: RemoteCache | None = None
    """The remote cache; None for none."""
    command: str = ""
    progress: Progress = lambda *_: None
    sole: bool = False
    """Whether there is only one model: if it cannot be loaded, nothing is left to do."""


@dataclass(slots=True)
class Cell:
    """How one model on one dataset ended."""

    model: str
    dataset: str
    status: str
    """``ok``; ``cached``: nothing was left to do; ``measured``: metrics were added from the stored run; ``failed``."""
    result: Result | None = None
    reason: str = ""
    trace: str = ""
    """The traceback of a failure."""
    replaced: str = ""
    """What has changed since the result that this one replaces; empty if it replaces none."""


@dataclass(frozen=True)
class CellTask:
    """One cell to compute: a model on a dataset, searched exactly or with an index."""

    model: Prepared
    dataset: Dataset
    settings: Settings
    index: IndexConfig | None = None

    @cached_property
    def label(self) -> str:
        """Name of the row."""
        return row_label(self.model.ref, self.index, self.settings)

    @cached_property
    def key(self) -> str:
        """Identifies the finished cell, see `cell_key`."""
        return cell_key(self.model, self.dataset, self.settings, self.index)

    @property
    def folder(self) -> Path:
        """Where its result is stored."""
        return self.settings.results.folder(self.label, self.dataset.label)

    def stored(self) -> Result | None:
        """The stored result with any metrics, if it is complete and nothing that it depends on has changed."""
        return None if self.settings.force else self._valid()

    def finished(self) -> Cell | None:
        """The stored cell, if it has every metric that is asked for."""
        stored = self.stored()
        complete = stored is not None and not lacking(stored, self.settings.measures)
        return Cell(self.label, self.dataset.label, "cached", stored) if complete else None

    def metrics(self) -> tuple[str, ...]:
        """The metrics to compute: those asked for, and those of the stored result that is computed again."""
        before = self._valid()
        documents, depth = len(self.dataset.corpus) - self.dataset.exclude_self, self.settings.k
        held = [name for name in before["measures"] if fits(name, depth, documents)] if before else []
        return tuple(dict.fromkeys([*held, *self.settings.measures]))

    def _valid(self) -> Result | None:
        def older(result: Result) -> str:
            measures = list(result["measures"])
            return cell_key(self.model, self.dataset, self.settings, self.index, measures=measures)

        found = self.settings.results.finished(self.label, self.dataset.label, self.key, older)
        return None if found is None or _ranks_zero_vectors_wrongly(found) else found


def lacking(result: Result, measures: Sequence[str]) -> list[str]:
    """The metrics that a stored result lacks, or holds as an earlier version defined them."""
    run = result["manifest"].get("run") or {}
    old = str((run.get("versions") or {}).get("retrieval-harness", "")).startswith("0.1")
    added = {name for entry in run.get("measured") or () for name in entry["measures"]}
    held = {name for name in result["measures"] if name in added or not (old and REDEFINED.match(name))}
    return [name for name in measures if name not in held]


def tasks(model: Prepared, dataset: Dataset, settings: Settings) -> list[CellTask]:
    """The cells of a model on a dataset: exact search, then every index."""
    return [CellTask(model, dataset, settings, index) for index in searches(model.ref, settings)]


def searches(ref: ModelRef, settings: Settings) -> tuple[IndexConfig | None, ...]:
    """How a model is searched: None for exact search, then every index of its kind of vectors."""
    return (None, *(index for index in settings.indexes if index.vectors == ref.vectors))


def row_label(ref: ModelRef, index: IndexConfig | None, settings: Settings) -> str:
    """Name of the row of a model searched so."""
    return depth_label(index.label(ref.label) if index else ref.label, settings.k)


def stored(model: Prepared, dataset: Dataset, settings: Settings) -> list[Cell] | None:
    """The cells of a model on a dataset, if all of them are finished."""
    found = [task.finished() for task in tasks(model, dataset, settings)]
    finished = [cell for cell in found if cell]
    return finished if len(finished) == len(found) else None


def searched(model: Prepared, dataset: Dataset, settings: Settings) -> bool:
    """Whether nothing is left to encode and to search: at most metrics of stored runs are missing."""
    return all(task.stored() for task in tasks(model, dataset, settings))


def finished(model: Prepared, dataset: Dataset, settings: Settings) -> Result | None:
    """The stored result of exact search, with any metrics."""
    return CellTask(model, dataset, settings).stored()


def cell_key(
    model: Prepared, dataset: Dataset, settings: Settings, index: IndexConfig | None = None, **more: Any
) -> str:
    """The key of a finished cell. Metrics are not part of it: they are added to the cell.

    Args:
        model: Its key is part of it.
        dataset: Its fingerprint and limit are part of it.
        settings: The depth is part of it.
        index: An approximate index, if the cell is searched with one.
        more: ``measures``, a list, gives the key under which version 0.1 stored a cell with these metrics.
    """
    parts = {"model": model.ref.key, "dataset": dataset.fingerprint, "limit": dataset.limit}
    if model.ref.spec.kind == "reranker" and any(member.has_vectors for member in model.ref.members):
        parts["zero_vectors"] = ZERO_VECTORS  # the first stage's geometry, which counts them, is not in the cell
    config = {"index": [index.factory, index.search]} if index else {}
    return content_key({**parts, "revision": REVISION, "k": settings.k, **more, **config})


def _ranks_zero_vectors_wrongly(result: Result) -> bool:
    """Whether zero vectors were ranked as if their cosine were 0.5, as version 0.1 did."""
    cosine = result["manifest"]["model"].get("similarity") == "cosine"
    sides = (result["geometry"].get(side) or {} for side in ("documents", "queries"))
    zeros = any(side.get("definitions", {}).get("zero_vectors") for side in sides)
    return cosine and zeros and "zero_vectors" not in result["manifest"]
