"""The candidates of many queries at once: a bounded set per query out of a stream of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.search.tiles import Near, Tile

Ints = NDArray[np.int64]
ROOM = 3
"""Room of a query, in multiples of k: the more, the more seldom it must be looked through."""
SLACK = 256
"""Room beyond that."""
BATCH = 64
"""Queries whose rows are packed at a time, which the cache holds."""


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
        return ROOM * k + SLACK

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
        near = self._fitting(tile)
        if near is None and len(tile) > SLACK:  # the limit will be tighter after half of them
            middle = len(tile) // 2
            self._offer(tile.part(0, middle), start)
            self._offer(tile.part(middle, len(tile)), start + middle)
            return
        while near is None:  # ties and near ties, of which there may be any number
            self._values = np.pad(self._values, ((0, 0), (0, self._values.shape[1])), constant_values=np.inf)
            self._rows = np.pad(self._rows, ((0, 0), (0, self._rows.shape[1])))
            near = self._fitting(tile)
        fresh = np.bincount(near.query, minlength=len(self._held))
        place = np.arange(len(near.query)) - (np.cumsum(fresh) - fresh - self._held)[near.query]
        self._values[near.query, place] = near.value
        self._rows[near.query, place] = start + near.column
        self._held += fresh

    def _fitting(self, tile: Tile) -> Near | None:
        """Every value within the limit; None where there is no room for them."""
        most = len(self._held) * (self.k + SLACK)
        near = tile.near(self._limit(), most)
        if near is None:
            self._tighten(np.flatnonzero(self._held > self.k))
            near = tile.near(self._limit(), most)
        if near is None:
            return None
        if len(full := self._overflowing(near)):
            self._tighten(full)
            kept = near.value <= self._limit()[near.query]
            near = Near(near.query[kept], near.column[kept], near.value[kept])
        return None if len(self._overflowing(near)) else near

    def _overflowing(self, near: Near) -> Ints:
        """Queries whose row is too short for what is near."""
        fresh = np.bincount(near.query, minlength=len(self._held))
        return np.flatnonzero(self._held + fresh > self._values.shape[1])

    def _limit(self) -> NDArray[np.float32]:
        """Largest value worth keeping [q], rounded up."""
        with np.errstate(over="ignore"):
            rounded = self._kth + self._grain * np.abs(self._kth) if self._grain else self._kth
            limit = rounded + 2 * self._error
            limit = limit + self._grain * np.abs(limit) if self._grain else limit
            return np.nextafter(limit.astype(np.float32), np.float32(np.inf))

    def _tighten(self, queries: Ints) -> None:
        """Brings the limits of these queries up to date and drops what lies beyond them."""
        for start in range(0, len(queries), BATCH):
            some = queries[start : start + BATCH]
            values, documents, held = self._values[some], self._rows[some], self._held[some]
            known = held >= self.k
            if known.any():
                self._kth[some[known]] = np.partition(values[known], self.k - 1, axis=1)[:, self.k - 1]
            places = np.arange(values.shape[1])
            kept = (values <= self._limit()[some, None]) & (places < held[:, None])
            left = np.count_nonzero(kept, axis=1)
            front = places < left[:, None]
            packed = np.full_like(values, np.inf)
            packed[front] = values[kept]
            documents[front] = documents[kept]
            self._values[some], self._rows[some], self._held[some] = packed, documents, left

    def candidates(self) -> tuple[Ints, Ints]:
        """Query places [m], rising, and document rows [m] of what remains."""
        if self.k:
            self._tighten(np.arange(len(self._held)))
        held = np.arange(self._values.shape[1]) < self._held[:, None]
        return np.nonzero(held)[0], self._rows[held]
