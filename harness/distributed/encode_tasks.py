"""Splits a collection of texts into encode tasks: ranges of shards that are not stored yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock

from harness.datasets.beir import Dataset
from harness.distributed.executor import TaskResult
from harness.distributed.worker import EncodeResult, EncodeTask, collection_texts
from harness.embeddings.sharding import SHARD_BYTES, Chunk, chunks
from harness.embeddings.store import Shard
from harness.models.runner import Prepared
from harness.types import Role, Similarity

TASKS_PER_WORKER = 16
"""Approximate number of encode tasks of a collection per worker: enough for all workers to end at the same time."""
MAX_TASK_SHARDS = 8
"""Shards per task. They are consecutive: the next one is tokenised while one is encoded."""


@dataclass(slots=True, eq=False)
class EncodePlan:
    """The documents or queries of one dataset, to be encoded with one model."""

    base: Prepared
    place: tuple[int, int]
    """Index of the model, and of ``base`` in the model's `bases`."""
    dataset: Dataset
    number: int
    """Index of the dataset."""
    role: Role
    name: str
    """Content key of the collection."""
    rows: int
    label: str
    done: int = 0
    """Number of texts stored before or encoded since."""
    shards: dict[int, list[Shard]] = field(default_factory=dict)
    """First row -> shards."""
    running: int = 0
    """Number of tasks without a result."""
    started: bool = False
    split: bool = False
    """Whether all tasks have been created."""
    stored: bool = False
    """Whether all shards and the shard list are stored."""
    similarity: Similarity | None = None
    fault: str = ""
    trace: str = ""
    """Traceback of the fault."""
    _lock: Lock = field(default_factory=Lock)

    @property
    def complete(self) -> bool:
        """Whether every task has a result, successful or not."""
        return self.split and not self.running

    def task(self, stop: int, pending: Sequence[Chunk]) -> EncodeTask:
        """The task for consecutive shards that end at row ``stop``."""
        start = stop - sum(len(chunk.texts) for chunk in pending)
        label, keys = f"encoding {self.role} texts {start} to {stop} of {self.label}", tuple(c.key for c in pending)
        return EncodeTask(label, *self.place, self.number, self.role, start, stop, keys)

    def in_order(self) -> list[Shard]:
        """The stored shards, in row order."""
        return [shard for start in sorted(self.shards) for shard in self.shards[start]]

    def tasks(self, workers: int, stop: Event) -> Iterator[EncodeTask]:
        """The tasks for all missing shards; ends early after a fault or when ``stop`` is set."""
        store = self.base.store(self.role)
        found = store.read_list(self.name)
        if found is not None and sum(shard.rows for shard in found[0]) == self.rows:
            (shards, self.similarity), self.stored = found, True
            self._add(0, shards)
            return
        most = self._shards_per_task(workers)
        row, pending = 0, list[Chunk]()
        for chunk in chunks(collection_texts(self.dataset, self.role)):
            if self.fault or stop.is_set():
                return
            shard = store.get(chunk.key)
            if pending and (shard is not None or len(pending) == most):
                yield self.task(row, pending)
                pending = []
            if shard is None:
                pending.append(chunk)
            else:
                self._add(row, [shard])
            row += len(chunk.texts)
        if pending:
            yield self.task(row, pending)

    def _shards_per_task(self, workers: int) -> int:
        shards = self.dataset.corpus.path.stat().st_size // SHARD_BYTES if self.role == "document" else 0
        return max(1, min(MAX_TASK_SHARDS, shards // (TASKS_PER_WORKER * workers)))

    def _add(self, start: int, shards: list[Shard]) -> None:
        with self._lock:  # tasks are created in one thread, results arrive in another
            self.shards[start] = shards
            self.done += sum(shard.rows for shard in shards)

    def task_done(self, task: EncodeTask, result: TaskResult) -> None:
        """Record the shards of a task, or its fault."""
        self.running -= 1
        if result.fault:
            if not self.fault:
                self.fault, self.trace = result.fault, result.trace
            return
        encoded: EncodeResult = result.value
        self.similarity = encoded.similarity
        self._add(task.start, encoded.shards)

    def write_list(self) -> None:
        """Write the shard list to the store once all shards are there."""
        if not self.fault and not self.stored:
            similarity = self.similarity or self.base.similarity
            self.base.store(self.role).write_list(self.name, self.in_order(), similarity)
            self.stored = True
