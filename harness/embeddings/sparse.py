"""The sparse vectors of a collection, read from shards in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.embeddings.store import Shard, VectorStore


class SparseVectors:
    """Rows of term weights, scipy.sparse.csr_array float32 [n, dim], in shards of which one is in memory at a time."""

    def __init__(self, read: Callable[[int], Any], rows: Sequence[int], dim: int) -> None:
        """``read(i)`` returns the rows of shard i; ``rows[i]`` is their number."""
        self._read, self._rows, self.dim = read, rows, dim

    @classmethod
    def open(cls, store: VectorStore, shards: Sequence[Shard]) -> SparseVectors:
        """Open the vectors of shards."""
        rows, dim = [shard.rows for shard in shards], shards[0].dim if shards else 0
        return cls(lambda number: store.read(shards[number]), rows, dim)

    @classmethod
    def of(cls, *parts: Any) -> SparseVectors:
        """Wrap CSR arrays that are in memory."""
        return cls(parts.__getitem__, [part.shape[0] for part in parts], parts[0].shape[1])

    def __len__(self) -> int:
        return sum(self._rows)

    def shards(self) -> Iterator[Any]:
        """Yield the rows of every shard; the boundaries depend only on the texts."""
        yield from map(self._read, range(len(self._rows)))

    def blocks(self, rows: int, weights: int) -> Iterator[Any]:
        """Yield blocks of consecutive rows, each of at most ``rows`` rows and ``weights`` weights, or of one row."""
        held: list[Any] = []
        for shard in self.shards():
            start = 0
            while start < shard.shape[0]:
                free = rows - sum(part.shape[0] for part in held), weights - sum(part.nnz for part in held)
                fits = int(np.searchsorted(shard.indptr, shard.indptr[start] + free[1], side="right")) - 1
                stop = min(start + free[0], fits, shard.shape[0])
                if stop <= start and held:
                    yield self._joined(held)
                    held = []
                    continue
                stop = max(stop, start + 1)
                held.append(shard[start:stop])
                start = stop
        if held:
            yield self._joined(held)

    def whole(self) -> Any:
        """All rows."""
        return self._joined([*self.shards()])

    def _joined(self, parts: Sequence[Any]) -> Any:
        import scipy.sparse

        if len(parts) == 1:
            return parts[0]
        return scipy.sparse.vstack([scipy.sparse.csr_array((0, self.dim), dtype=np.float32), *parts], format="csr")
