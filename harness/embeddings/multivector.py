"""The token vectors of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.rows import StoredRows
from harness.embeddings.store import Shard, VectorStore
from harness.embeddings.token_vectors import TRUNCATED, UNKNOWN, TokenVectors, joined, no_tokens


class Summary(NamedTuple):
    """What was kept of the texts of a collection."""

    vectors: int
    truncated: int | None
    """Texts that were truncated; None where that is not known of every text."""


class MultiVectors(StoredRows):
    """`TokenVectors` float32 or float16, whose files are mapped only while they are read."""

    @classmethod
    def open(cls, store: VectorStore, shards: Sequence[Shard]) -> Self:
        """Open the vectors of shards."""
        rows, dim = [shard.rows for shard in shards], shards[0].dim if shards else 0
        return cls(lambda number: store.map(shards[number]), rows, dim)

    def starts(self, rows: TokenVectors) -> NDArray[Any]:
        """As `StoredRows.starts`."""
        return rows.offsets

    def joined(self, parts: Sequence[TokenVectors]) -> TokenVectors:
        """As `StoredRows.joined`."""
        return joined(parts) if parts else no_tokens(self.dim)

    def summary(self) -> Summary:
        """Count vectors and truncated texts."""
        vectors, flags = 0, [np.empty(0, np.int32)]
        for shard in self.shards():
            vectors += len(shard.vectors)
            flags.append(shard.truncated)
        known = np.concatenate(flags)
        return Summary(vectors, None if (known == UNKNOWN).any() else int((known == TRUNCATED).sum()))

    def stored_bytes(self, vectors: int, storage: str) -> int:
        """Bytes of so many vectors, all that there are, and of the number of each text's."""
        return vectors * self.dim * np.dtype(storage).itemsize + 4 * len(self)

    def pieces(self, rows: NDArray[np.int64], most: int) -> Iterator[tuple[slice, TokenVectors]]:
        """Yield the texts of ``rows``, which rise, reading each shard once.

        Args:
            rows: numbers of texts.
            most: largest number of vectors at a time, unless a single text has more.

        Yields:
            A range of ``rows`` and its vectors.
        """
        first, edges = np.cumsum([0, *self._rows]), np.searchsorted(rows, np.cumsum([0, *self._rows]))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            shard, start, end = self._read(number), int(edges[number]), int(edges[number + 1])
            own = rows[start:end] - first[number]
            ends = np.cumsum(shard.counts[own])
            while start < end:
                at = start - int(edges[number])
                before = int(ends[at - 1]) if at else 0
                count = max(1, int(np.searchsorted(ends, before + most, side="right")) - at)
                yield slice(start, start + count), shard[own[at : at + count]]
                start += count
