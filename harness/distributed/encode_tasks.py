"""A collection of texts, cut into stretches that workers encode: those of its shards that are not stored yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock

from harness.datasets.beir import Dataset
from harness.distributed.executor import Answer
from harness.distributed.worker import Encode, Encoded, texts
from harness.embeddings.sharding import SHARD_BYTES, Chunk, chunks
from harness.embeddings.store import Shard
from harness.models.runner import Prepared
from harness.types import Role, Similarity

STRETCHES = 16
"""Stretches of a collection per worker, about: enough for all workers to end together."""
LONGEST = 8
"""Shards of a stretch at the most. They lie side by side: the next is tokenised while one is computed."""


@dataclass(slots=True, eq=False)
class Collection:
    """One dataset's documents or queries, to be encoded by one model."""

    base: Prepared
    place: tuple[int, int]
    """Number of the model, and of the base in it."""
    dataset: Dataset
    number: int
    """Of the dataset."""
    role: Role
    name: str
    """By its content."""
    rows: int
    label: str
    done: int = 0
    """Texts that were stored already or have been encoded."""
    shards: dict[int, list[Shard]] = field(default_factory=dict)
    """By the row where they start."""
    open: int = 0
    """Stretches not yet answered."""
    begun: bool = False
    read: bool = False
    """Whether all stretches are known."""
    stored: bool = False
    """Whether it is there, and its list."""
    similarity: Similarity | None = None
    fault: str = ""
    trace: str = ""
    """The traceback of the fault."""
    _lock: Lock = field(default_factory=Lock)

    @property
    def complete(self) -> bool:
        """Whether every stretch is answered, well or not."""
        return self.read and not self.open

    def task(self, stop: int, stretch: Sequence[Chunk]) -> Encode:
        """For the shards before row ``stop``."""
        start = stop - sum(len(chunk.texts) for chunk in stretch)
        label, keys = f"encoding {self.role} texts {start} to {stop} of {self.label}", tuple(c.key for c in stretch)
        return Encode(label, *self.place, self.number, self.role, start, stop, keys)

    def in_order(self) -> list[Shard]:
        """Those that are there."""
        return [shard for start in sorted(self.shards) for shard in self.shards[start]]

    def stretches(self, workers: int, halts: Event) -> Iterator[Encode]:
        """What is still to be encoded, cut as every benchmark cuts; ends early where a stretch has failed."""
        store = self.base.store(self.role)
        found = store.read_list(self.name)
        if found is not None and sum(shard.rows for shard in found[0]) == self.rows:
            (shards, self.similarity), self.stored = found, True
            self._add(0, shards)
            return
        longest = self._longest(workers)
        at, pending = 0, list[Chunk]()
        for chunk in chunks(texts(self.dataset, self.role)):
            if self.fault or halts.is_set():
                return
            shard = store.get(chunk.key)
            if pending and (shard is not None or len(pending) == longest):
                yield self.task(at, pending)
                pending = []
            if shard is None:
                pending.append(chunk)
            else:
                self._add(at, [shard])
            at += len(chunk.texts)
        if pending:
            yield self.task(at, pending)

    def _longest(self, workers: int) -> int:
        shards = self.dataset.corpus.path.stat().st_size // SHARD_BYTES if self.role == "document" else 0
        return max(1, min(LONGEST, shards // (STRETCHES * workers)))

    def _add(self, start: int, shards: list[Shard]) -> None:
        with self._lock:  # one thread reads, another takes answers
            self.shards[start] = shards
            self.done += sum(shard.rows for shard in shards)

    def answered(self, task: Encode, answer: Answer) -> None:
        """Takes a stretch's shards, or why it failed."""
        self.open -= 1
        if answer.fault:
            if not self.fault:
                self.fault, self.trace = answer.fault, answer.trace
            return
        encoded: Encoded = answer.value
        self.similarity = encoded.similarity
        self._add(task.start, encoded.shards)

    def conclude(self) -> None:
        """Lists the shards in the store once all of them are there."""
        if not self.fault and not self.stored:
            similarity = self.similarity or self.base.similarity
            self.base.store(self.role).write_list(self.name, self.in_order(), similarity)
            self.stored = True
