"""Candidates for the k nearest documents of many queries, collected from a stream of tiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.search.tiles import Matches, Tile

Ints = NDArray[np.int64]
CAPACITY = 3
"""Capacity per query in multiples of k; a larger one is pruned less often."""
SLACK = 256
"""Capacity beyond that."""
BATCH = 64
"""Queries pruned at a time; they fit into the CPU cache."""


class Candidates:
    """For each of q queries, all documents that may be among its k nearest.

    Values are kept up to the k-th smallest one so far, plus twice the error bound and the rounding error of the tile:
    k documents are certainly nearer than anything beyond. The threshold of a query is updated when its row is full; in
    between it is a loose upper bound.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        width = self._width(k)
        self._values = np.full((queries, width), np.inf, np.float32)
        self._rows = np.zeros((queries, width), np.int64)
        self._counts = np.zeros(queries, np.int64)
        self._kth = np.full(queries, np.inf)
        self._error = np.zeros(queries)
        self._rounding = 0.0

    @staticmethod
    def _width(k: int) -> int:
        return CAPACITY * k + SLACK

    @classmethod
    def bytes_per_query(cls, k: int) -> int:
        """Memory per query, including temporary copies."""
        return cls._width(k) * (4 + 8 + 4) + (k + SLACK) * 5 * 8

    def add(self, tile: Tile, start: int, error: NDArray[np.float64]) -> None:
        """Add the tile of documents start, start + 1, ...; smaller is nearer; values are off by at most error [q]."""
        np.maximum(self._error, error, out=self._error)
        self._rounding = tile.rounding
        self._insert(tile, start)

    def _insert(self, tile: Tile, start: int) -> None:
        matches = self._matches(tile)
        if matches is None and len(tile) > SLACK:  # the threshold will be lower after half of them
            middle = len(tile) // 2
            self._insert(tile.documents(0, middle), start)
            self._insert(tile.documents(middle, len(tile)), start + middle)
            return
        while matches is None:  # there may be any number of (near) ties
            self._values = np.pad(self._values, ((0, 0), (0, self._values.shape[1])), constant_values=np.inf)
            self._rows = np.pad(self._rows, ((0, 0), (0, self._rows.shape[1])))
            matches = self._matches(tile)
        fresh = np.bincount(matches.query, minlength=len(self._counts))
        place = np.arange(len(matches.query)) - (np.cumsum(fresh) - fresh - self._counts)[matches.query]
        self._values[matches.query, place] = matches.value
        self._rows[matches.query, place] = start + matches.column
        self._counts += fresh

    def _matches(self, tile: Tile) -> Matches | None:
        """All values up to the threshold; None if they exceed the capacity."""
        most = len(self._counts) * (self.k + SLACK)
        matches = tile.up_to(self._limit(), most)
        if matches is None:
            self._prune(np.flatnonzero(self._counts > self.k))
            matches = tile.up_to(self._limit(), most)
        if matches is None:
            return None
        if len(full := self._overfull(matches)):
            self._prune(full)
            kept = matches.value <= self._limit()[matches.query]
            matches = Matches(matches.query[kept], matches.column[kept], matches.value[kept])
        return None if len(self._overfull(matches)) else matches

    def _overfull(self, matches: Matches) -> Ints:
        """Queries whose row is too short for these matches."""
        fresh = np.bincount(matches.query, minlength=len(self._counts))
        return np.flatnonzero(self._counts + fresh > self._values.shape[1])

    def _limit(self) -> NDArray[np.float32]:
        """The threshold [q]: the largest value to keep, rounded up."""
        with np.errstate(over="ignore"):
            rounded = self._kth + self._rounding * np.abs(self._kth) if self._rounding else self._kth
            limit = rounded + 2 * self._error
            limit = limit + self._rounding * np.abs(limit) if self._rounding else limit
            return np.nextafter(limit.astype(np.float32), np.float32(np.inf))

    def _prune(self, queries: Ints) -> None:
        """Update the thresholds of these queries and drop the values beyond them."""
        for start in range(0, len(queries), BATCH):
            some = queries[start : start + BATCH]
            values, documents, held = self._values[some], self._rows[some], self._counts[some]
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
            self._values[some], self._rows[some], self._counts[some] = packed, documents, left

    def result(self) -> tuple[Ints, Ints]:
        """The candidates: query indices [m] in ascending order, and document rows [m]."""
        if self.k:
            self._prune(np.arange(len(self._counts)))
        held = np.arange(self._values.shape[1]) < self._counts[:, None]
        return np.nonzero(held)[0], self._rows[held]
