"""Stored rows of different lengths (sparse weights, token vectors), read from shards in blocks of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Shard, VectorStore


class StoredRows(ABC):
    """The rows of a collection in shards, of which one is in memory at a time."""

    def __init__(self, read: Callable[[int], Any], rows: Sequence[int], dim: int) -> None:
        """``read(i)`` returns the rows of shard i; ``rows[i]`` is their number."""
        self._read, self._rows, self.dim = read, rows, dim

    @classmethod
    def open(cls, store: VectorStore, shards: Sequence[Shard]) -> Self:
        """Open the vectors of shards."""
        rows, dim = [shard.rows for shard in shards], shards[0].dim if shards else 0
        return cls(lambda number: store.read(shards[number]), rows, dim)

    @classmethod
    def of(cls, *parts: Any) -> Self:
        """Wrap rows that are in memory."""
        return cls(parts.__getitem__, [part.shape[0] for part in parts], parts[0].shape[1])

    def __len__(self) -> int:
        return sum(self._rows)

    @abstractmethod
    def starts(self, rows: Any) -> NDArray[Any]:
        """Where the entries of each of some rows begin, and where the last ends."""

    @abstractmethod
    def joined(self, parts: Sequence[Any]) -> Any:
        """The rows of several parts, one after the other."""

    def shards(self) -> Iterator[Any]:
        """Yield the rows of every shard; the boundaries depend only on the texts."""
        yield from map(self._read, range(len(self._rows)))

    def blocks(self, rows: int, entries: int) -> Iterator[Any]:
        """Yield blocks of consecutive rows, each of at most ``rows`` rows and ``entries`` entries, or of one row."""
        held: list[Any] = []
        taken = np.zeros(2, np.int64)
        for shard in self.shards():
            start, starts = 0, self.starts(shard)
            while start < shard.shape[0]:
                free = rows - taken[0], entries - taken[1]
                fits = int(np.searchsorted(starts, starts[start] + free[1], side="right")) - 1
                stop = min(start + int(free[0]), fits, shard.shape[0])
                if stop <= start and held:
                    yield self.joined(held)
                    held, taken = [], np.zeros(2, np.int64)
                    continue
                stop = max(stop, start + 1)
                held.append(shard[start:stop])
                taken += (stop - start, starts[stop] - starts[start])
                start = stop
        if held:
            yield self.joined(held)

    def whole(self) -> Any:
        """All rows."""
        return self.joined([*self.shards()])
