"""The candidates of many queries at once: a bounded set per query out of a stream of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.tile import Near, Tile

Ints = NDArray[np.int64]
SLACK = 256
"""Room of a query beyond twice k."""


class Pool:
    """For each of q queries, every document that may still be among its k nearest.

    Kept are values up to the k-th smallest so far plus twice the error a value can have, and what rounding to a tile's
    grain adds on both sides: what lies beyond is beaten by k documents for certain. The limit is brought up to date
    when a row is full; in between it is merely generous.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        width = self._width(k)
        self._values = np.full((queries, width), np.inf, np.float32)
        self._rows = np.zeros((queries, width), np.int64)
        self._held = np.zeros(queries, np.int64)
        self._kth = np.full(queries, np.inf)
        self._error = np.zeros(queries)
        self._grain = 0.0

    @staticmethod
    def _width(k: int) -> int:
        return 2 * k + SLACK

    @classmethod
    def bytes_per_query(cls, k: int) -> int:
        """What one query takes here, with the copies made on the way."""
        return cls._width(k) * (4 + 8 + 4) + (k + SLACK) * 5 * 8

    def add(self, tile: Tile, start: int, error: NDArray[np.float64]) -> None:
        """Offers the values (smaller is nearer) of documents start, start + 1, ..., each at most error [q] off."""
        np.maximum(self._error, error, out=self._error)
        self._grain = tile.grain
        self._offer(tile, start)

    def _offer(self, tile: Tile, start: int) -> None:
        found = self._fitting(tile)
        if found is None:
            self._tighten()
            found = self._fitting(tile)
        if found is None and len(tile) > SLACK:  # the limit will be tighter after half of them
            middle = len(tile) // 2
            self._offer(tile.part(0, middle), start)
            self._offer(tile.part(middle, len(tile)), start + middle)
            return
        if found is None:  # ties and near ties, of which there may be any number
            self._values = np.pad(self._values, ((0, 0), (0, self._values.shape[1])), constant_values=np.inf)
            self._rows = np.pad(self._rows, ((0, 0), (0, self._rows.shape[1])))
            found = self._fitting(tile)
            assert found is not None
        near, fresh = found
        place = np.arange(len(near.query)) - (np.cumsum(fresh) - fresh - self._held)[near.query]
        self._values[near.query, place] = near.value
        self._rows[near.query, place] = start + near.column
        self._held += fresh

    def _fitting(self, tile: Tile) -> tuple[Near, Ints] | None:
        """Every value within the limit, and how many each query [q] has of them; None where there is no room."""
        near = tile.near(self._limit(), len(self._held) * (self.k + SLACK))
        if near is None:
            return None
        fresh = np.bincount(near.query, minlength=len(self._held))
        return None if (self._held + fresh).max(initial=0) > self._values.shape[1] else (near, fresh)

    def _limit(self) -> NDArray[np.float32]:
        """Largest value worth keeping [q], rounded up."""
        with np.errstate(over="ignore"):
            rounded = self._kth + self._grain * np.abs(self._kth) if self._grain else self._kth
            limit = rounded + 2 * self._error
            limit = limit + self._grain * np.abs(limit) if self._grain else limit
            return np.nextafter(limit.astype(np.float32), np.float32(np.inf))

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
