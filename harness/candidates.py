"""The candidates of many queries at once: a bounded set per query out of a stream of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SLACK = 256
"""Room of a query beyond twice k."""


class Pool:
    """For each of q queries, every document that may still be among its k nearest.

    Kept are values up to the k-th smallest so far plus twice the error a value can have: what lies beyond is beaten by
    k documents for certain. The limit is brought up to date when a row is full; in between it is merely generous.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        width = self._width(k)
        self._values = np.full((queries, width), np.inf, np.float32)
        self._rows = np.zeros((queries, width), np.int64)
        self._held = np.zeros(queries, np.int64)
        self._kth = np.full(queries, np.inf)
        self._error = np.zeros(queries)

    @staticmethod
    def _width(k: int) -> int:
        return 2 * k + SLACK

    @classmethod
    def bytes_per_query(cls, k: int) -> int:
        """What one query takes here, with the copies made on the way."""
        return cls._width(k) * (4 + 8 + 4) + (k + SLACK) * 5 * 8

    def add(self, values: NDArray[np.float32], start: int, error: NDArray[np.float64]) -> None:
        """Offers a tile: values float32 [q, m] (smaller is nearer) of documents start, ..., start + m - 1, each at most
        error [q] off the truth."""
        np.maximum(self._error, error, out=self._error)
        self._offer(values, start)

    def _offer(self, values: NDArray[np.float32], start: int) -> None:
        found = self._fitting(values)
        if found is None:
            self._tighten()
            found = self._fitting(values)
        if found is None and values.shape[1] > SLACK:  # the limit will be tighter after half of them
            middle = values.shape[1] // 2
            self._offer(values[:, :middle], start)
            self._offer(values[:, middle:], start + middle)
            return
        if found is None:  # ties and near ties, of which there may be any number
            self._values = np.pad(self._values, ((0, 0), (0, self._values.shape[1])), constant_values=np.inf)
            self._rows = np.pad(self._rows, ((0, 0), (0, self._rows.shape[1])))
            found = self._fitting(values)
            assert found is not None
        query, column, fresh = found
        place = np.arange(len(query)) - (np.cumsum(fresh) - fresh - self._held)[query]
        self._values[query, place] = values[query, column]
        self._rows[query, place] = start + column
        self._held += fresh

    def _fitting(self, values: NDArray[np.float32]) -> tuple[Ints, Ints, Ints] | None:
        """Query and column of every value within the limit, by query, and how many each query [q] has of them; None
        where that is more than there is room for."""
        near = values <= self._limit()[:, None]
        if np.count_nonzero(near) > len(self._held) * (self.k + SLACK):
            return None
        query, column = np.divmod(np.flatnonzero(near), values.shape[1])
        fresh = np.bincount(query, minlength=len(self._held))
        return None if (self._held + fresh).max(initial=0) > self._values.shape[1] else (query, column, fresh)

    def _limit(self) -> NDArray[np.float32]:
        """Largest value worth keeping [q], rounded up."""
        with np.errstate(over="ignore"):
            limit = (self._kth + 2 * self._error).astype(np.float32)
        return np.nextafter(limit, np.float32(np.inf))

    def _tighten(self) -> None:
        """Brings the limit up to date and drops what lies beyond it."""
        if len(self._held) and self._held.min() >= self.k:
            self._kth = np.partition(self._values, self.k - 1, axis=1)[:, self.k - 1].astype(np.float64)
        limit = self._limit()
        for query in np.flatnonzero(self._held > self.k).tolist():
            row = self._values[query]
            kept = np.flatnonzero(row[: self._held[query]] <= limit[query])
            self._rows[query, : len(kept)] = self._rows[query, kept]
            row[: len(kept)] = row[kept]
            row[len(kept) :] = np.inf
            self._held[query] = len(kept)

    def candidates(self) -> tuple[Ints, Ints]:
        """Query places [m], rising, and document rows [m] of what remains."""
        if self.k:
            self._tighten()
        held = np.arange(self._values.shape[1]) < self._held[:, None]
        return np.nonzero(held)[0], self._rows[held]
