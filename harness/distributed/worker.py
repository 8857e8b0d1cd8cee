"""A worker's side of a distributed benchmark: a stretch of documents encoded, a part searched, a cell finished.

It opens models and datasets itself, when a task first needs them, and keeps them. What it makes goes where a benchmark
in one process puts it, under the same keys.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness.datasets.beir import Dataset, open_dataset
from harness.embeddings.encode import encode_collection
from harness.embeddings.store import Shard, Vectors
from harness.evaluation.pipeline import Cell, Settings, cells
from harness.metrics.moments import aligned, joined, parts
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.registry.model_ref import ModelRef
from harness.search.exact import search
from harness.search.partial_results import Searched
from harness.storage.regular_files import regular
from harness.types import ModelError, PluginError, Role, Similarity, UserError


@dataclass(frozen=True, slots=True)
class Opened:
    """How to open a dataset as the master has it."""

    folder: Path
    name: str
    usual_split: str
    usual_exclude_self: bool | None
    split: str
    exclude_self: bool
    limit: int | None
    source: str
    fingerprint: dict[str, Any]

    @classmethod
    def of(cls, dataset: Dataset) -> Opened:
        """How this one is opened."""
        return cls(
            folder=dataset.folder.resolve(),
            name=dataset.name,
            usual_split=dataset.usual_split,
            usual_exclude_self=dataset.usual_exclude_self,
            split=dataset.split,
            exclude_self=dataset.exclude_self,
            limit=dataset.limit,
            source=dataset.source,
            fingerprint=dataset.fingerprint,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must know."""

    settings: Settings
    models: tuple[ModelRef, ...]
    keys: tuple[str, ...]
    """Of the models."""
    datasets: tuple[Opened, ...]
    plugins: tuple[tuple[Path, bytes], ...]
    """Files given with --plugin, and what they hold: other machines may not have them."""
    version: str


@dataclass(frozen=True, slots=True)
class Encode:
    """Brings some shards into the store; answers `Encoded`."""

    label: str
    model: int
    base: int
    """Which of the model's `bases`."""
    dataset: int
    role: Role
    start: int
    stop: int
    keys: tuple[str, ...]
    """Of the shards that texts ``start`` to ``stop`` make up."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The shards of a stretch, in order, and how the model compares vectors."""

    shards: list[Shard]
    similarity: Similarity


@dataclass(frozen=True, slots=True)
class Search:
    """Searches some documents and collects their geometry, and keeps the part."""

    label: str
    model: int
    dataset: int
    start: int
    stop: int
    keys: tuple[str, ...]
    """Of the shards that documents ``start`` to ``stop`` lie in."""
    skipped: int
    """Documents of the first shard that are before ``start``."""
    similarity: Similarity


@dataclass(frozen=True, slots=True)
class Finish:
    """Does whatever is left of a cell (and of its approximate indexes); answers the list of `Cell`."""

    label: str
    model: int
    dataset: int
    fault: str = ""
    trace: str = ""


def texts(dataset: Dataset, role: Role, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """The texts of a collection as they are encoded, or of a stretch of it."""
    if role == "query":
        return (query.text for query in dataset.queries[start:stop])
    return (document.content for document in dataset.corpus.iter(start, stop))


class Worker:
    """Performs the tasks of one job. UserError where it cannot be the same job here."""

    def __init__(self, job: Job) -> None:
        if job.version != harness.__version__:
            raise UserError(
                f"A worker has version {harness.__version__} of the harness, the command {job.version}; install one "
                f"version everywhere."
            )
        self._job, self._settings = job, job.settings
        if job.plugins:
            load_registry(_here(*plugin) for plugin in job.plugins)
        self._model, self._dataset = cache(self._open_model), cache(self._open_dataset)

    def perform(self, task: Encode | Search | Finish) -> Any:
        """Does it."""
        try:
            if isinstance(task, Encode):
                return self._encode(task)
            return self._search(task) if isinstance(task, Search) else self._finish(task)
        except ModelError as error:
            if self._settings.sole:  # as in one process
                raise UserError(str(error)) from error
            raise

    def _open_model(self, number: int) -> Prepared:
        model = Prepared(
            self._job.models[number], self._settings.home, offline=self._settings.offline, shared=self._settings.shared
        )
        if model.ref.key != self._job.keys[number]:
            raise UserError(f"A worker has another {model.label} than the command; install one version everywhere.")
        return model

    def _open_dataset(self, number: int) -> Dataset:
        stated = self._job.datasets[number]
        dataset = open_dataset(
            stated.folder,
            cache=self._settings.home / "corpora",
            name=stated.name,
            usual_split=stated.usual_split,
            usual_exclude_self=stated.usual_exclude_self,
            split=stated.split,
            exclude_self=stated.exclude_self,
            limit=stated.limit,
            source=stated.source,
        )
        if dataset.fingerprint != stated.fingerprint:
            raise UserError(f"A worker finds another dataset in {stated.folder} than the command; share one folder.")
        return dataset

    def _encode(self, task: Encode) -> Encoded:
        model, dataset = self._model(task.model).bases[task.base], self._dataset(task.dataset)
        stretch = texts(dataset, task.role, task.start, task.stop)
        store, total = model.store(task.role), task.stop - task.start
        shards = encode_collection(model.dense, model.label, stretch, total, store, task.role, model.progress)
        if tuple(shard.key for shard in shards) != task.keys:
            raise UserError(f"{dataset.corpus.path} was changed while it was in use; run the same command again.")
        return Encoded(shards, model.similarity)

    def _search(self, task: Search) -> None:
        model, dataset = self._model(task.model), self._dataset(task.dataset)
        store = model.store("document")
        found = [shard for shard in map(store.get, task.keys) if shard is not None]
        if len(found) < len(task.keys):
            raise PluginError(
                f"{len(task.keys) - len(found)} shards in {store.folder} are damaged; they are made anew."
            )
        opened = Vectors.open(store, found, normalise=task.similarity == "cosine")
        documents = opened.part(task.skipped, task.skipped + task.stop - task.start)
        queries, _ = model.vectors(
            dataset.fingerprint["queries"], lambda: texts(dataset, "query"), len(dataset.queries), "query"
        )
        asked = queries.gather(np.arange(len(queries)))
        centre = documents.gather(np.arange(min(len(documents), 1024))).mean(axis=0, dtype=np.float64)
        depth = self._settings.k + dataset.exclude_self
        limits = self._settings.limits
        hits = search(asked, documents, centre, depth, task.similarity, limits=limits)
        blocks = documents.blocks(aligned(limits.rows(documents.dim)))
        geometry = joined(parts(blocks, len(dataset.corpus), task.start))
        Searched(model, dataset, depth).put(task.start, task.stop, hits, geometry)

    def _finish(self, task: Finish) -> list[Cell]:
        model, dataset = self._model(task.model), self._dataset(task.dataset)
        found = list(cells(model, dataset, self._settings, task.fault, task.trace))
        Searched(model, dataset, self._settings.k + dataset.exclude_self).forget()
        return found


def _here(file: Path, content: bytes) -> Path:
    """The plug-in file where it is the same here, else a copy of it."""
    if file.is_file() and regular(file).read_bytes() == content:
        return file
    copy = Path(tempfile.mkdtemp(prefix="harness-plugin-")) / file.name
    copy.write_bytes(content)
    return copy
