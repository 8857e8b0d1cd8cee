"""The worker side of a distributed benchmark: encodes shards, searches ranges of documents, finishes cells.

A worker opens models and datasets when a task first needs them and keeps them open. Its results are stored where a
benchmark in one process stores them, under the same keys.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness.datasets.beir import Dataset, open_dataset
from harness.embeddings.encode import encode_collection
from harness.embeddings.store import Shard
from harness.evaluation.pipeline import Cell, Settings, cells
from harness.metrics.moments import aligned, joined, parts
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.registry.model_ref import ModelRef
from harness.search.exact import search
from harness.search.partial_results import PartialResults
from harness.storage.regular_files import regular
from harness.types import ModelError, PluginError, Role, Similarity, UserError


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """How to open a dataset exactly as the main process did."""

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
    def of(cls, dataset: Dataset) -> DatasetSource:
        """The source of an open dataset."""
        stated = {field.name: getattr(dataset, field.name) for field in fields(cls)}
        return cls(**stated | {"folder": dataset.folder.resolve()})


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """What all workers of a benchmark are given."""

    settings: Settings
    models: tuple[ModelRef, ...]
    keys: tuple[str, ...]
    """Keys of the models."""
    datasets: tuple[DatasetSource, ...]
    plugins: tuple[tuple[Path, bytes], ...]
    """Plug-in files (--plugin) and their content, as other machines may not have them."""
    version: str


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """Encode and store some shards; returns `EncodeResult`."""

    label: str
    model: int
    base: int
    """Index in the model's `bases`."""
    dataset: int
    role: Role
    start: int
    stop: int
    keys: tuple[str, ...]
    """Keys of the shards of texts ``start`` to ``stop``."""


@dataclass(frozen=True, slots=True)
class EncodeResult:
    """The shards of an `EncodeTask`, in order, and the model's similarity."""

    shards: list[Shard]
    similarity: Similarity


@dataclass(frozen=True, slots=True)
class SearchTask:
    """Search a range of documents, compute its moments and store both as a partial result."""

    label: str
    model: int
    dataset: int
    start: int
    stop: int
    keys: tuple[str, ...]
    """Keys of the shards that hold documents ``start`` to ``stop``."""
    skipped: int
    """Number of documents of the first shard before ``start``."""
    similarity: Similarity


@dataclass(frozen=True, slots=True)
class FinishTask:
    """Compute what is left of a cell (and of its approximate indexes); returns a list of `Cell`."""

    label: str
    model: int
    dataset: int
    fault: str = ""
    trace: str = ""


def collection_texts(dataset: Dataset, role: Role, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """The texts of a collection from ``start`` to ``stop``, as they are encoded."""
    if role == "query":
        return (query.text for query in dataset.queries[start:stop])
    return (document.content for document in dataset.corpus.iter(start, stop))


class Worker:
    """Runs the tasks of one job."""

    def __init__(self, job: WorkerJob) -> None:
        if job.version != harness.__version__:
            raise UserError(
                f"A worker has version {harness.__version__} of the harness, the command has {job.version}; "
                f"install one version everywhere."
            )
        self._job, self._settings = job, job.settings
        if job.plugins:
            load_registry(_local_plugin(*plugin) for plugin in job.plugins)
        self._model, self._dataset = cache(self._open_model), cache(self._open_dataset)

    def perform(self, task: EncodeTask | SearchTask | FinishTask) -> Any:
        """Run a task.

        Raises:
            UserError: this machine has another model or dataset, or the only model of a benchmark cannot be used.
        """
        try:
            if isinstance(task, EncodeTask):
                return self._encode(task)
            return self._search(task) if isinstance(task, SearchTask) else self._finish(task)
        except ModelError as error:
            if self._settings.sole:  # as in one process
                raise UserError(str(error)) from error
            raise

    def _open_model(self, number: int) -> Prepared:
        model = Prepared(
            self._job.models[number], self._settings.home, offline=self._settings.offline, shared=self._settings.shared
        )
        if model.ref.key != self._job.keys[number]:
            raise UserError(f"A worker has another version of {model.label} than the command; install the same one.")
        return model

    def _open_dataset(self, number: int) -> Dataset:
        source = self._job.datasets[number]
        stated = {field.name: getattr(source, field.name) for field in fields(source)}
        del stated["fingerprint"]
        dataset = open_dataset(cache=self._settings.home / "corpora", **stated)
        if dataset.fingerprint != source.fingerprint:
            raise UserError(f"A worker found different data in {source.folder} than the command; share one folder.")
        return dataset

    def _encode(self, task: EncodeTask) -> EncodeResult:
        model, dataset = self._model(task.model).bases[task.base], self._dataset(task.dataset)
        texts = collection_texts(dataset, task.role, task.start, task.stop)
        store, total = model.store(task.role), task.stop - task.start
        shards = encode_collection(model.encoder, model.label, texts, total, store, task.role, model.progress)
        if tuple(shard.key for shard in shards) != task.keys:
            raise UserError(f"{dataset.corpus.path} changed while it was in use; run the same command again.")
        return EncodeResult(shards, model.similarity)

    def _search(self, task: SearchTask) -> None:
        model, dataset = self._model(task.model), self._dataset(task.dataset)
        store = model.store("document")
        found = [shard for shard in map(store.get, task.keys) if shard is not None]
        if len(found) < len(task.keys):
            raise PluginError(
                f"{len(task.keys) - len(found)} shards in {store.folder} are corrupt; they will be encoded again."
            )
        opened = model.opened(store, found, task.similarity)
        documents = opened.part(task.skipped, task.skipped + task.stop - task.start)
        queries, _ = model.vectors(
            dataset.fingerprint["queries"], lambda: collection_texts(dataset, "query"), len(dataset.queries), "query"
        )
        query_vectors = queries.gather(np.arange(len(queries)))
        centre = documents.gather(np.arange(min(len(documents), 1024))).mean(axis=0, dtype=np.float64)
        depth = self._settings.k + dataset.exclude_self
        limits = self._settings.limits
        hits = search(query_vectors, documents, centre, depth, task.similarity, limits=limits)
        blocks = documents.blocks(aligned(limits.rows(documents.dim)))
        geometry = joined(parts(blocks, len(dataset.corpus), task.start))
        PartialResults(model, dataset, depth).put(task.start, task.stop, hits, geometry)

    def _finish(self, task: FinishTask) -> list[Cell]:
        model, dataset = self._model(task.model), self._dataset(task.dataset)
        found = list(cells(model, dataset, self._settings, task.fault, task.trace))
        PartialResults(model, dataset, self._settings.k + dataset.exclude_self).forget()
        return found


def _local_plugin(file: Path, content: bytes) -> Path:
    """The plug-in file if this machine has the same one, else a copy of it in a temporary folder."""
    if file.is_file() and regular(file).read_bytes() == content:
        return file
    copy = Path(tempfile.mkdtemp(prefix="harness-plugin-")) / file.name
    copy.write_bytes(content)
    return copy
