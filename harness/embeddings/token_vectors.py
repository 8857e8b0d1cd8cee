"""The vectors of the tokens of several texts, one text after the other: the rows of a multi-vector model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE, TRUNCATED, UNKNOWN = 0, 1, -1
"""What a text was when it was encoded."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """Text i has the vectors ``offsets[i]`` to ``offsets[i + 1]``; there may be none.

    Example:
        >>> rows = TokenVectors.of([np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)])
        >>> rows.shape, rows.counts.tolist()
        ((2, 4), [2, 3])
    """

    vectors: NDArray[np.floating[Any]]
    """[tokens of all texts, dim]."""
    offsets: NDArray[np.int64]
    """[texts + 1], from 0 to the number of vectors, not falling."""
    truncated: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """[texts]: 1 if the text was truncated before it was encoded, 0 if not, -1 if that is unknown; empty: all -1."""

    def __post_init__(self) -> None:
        if not len(self.truncated):
            object.__setattr__(self, "truncated", np.full(len(self.offsets) - 1, UNKNOWN, np.int32))

    @classmethod
    def of(cls, texts: Sequence[NDArray[np.floating[Any]]], truncated: Sequence[bool] | None = None) -> TokenVectors:
        """Join the vectors [tokens, dim] of each text (at least one).

        Args:
            texts: the vectors of each.
            truncated: whether each was truncated; None: unknown.
        """
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(np.concatenate(texts), offsets, np.asarray([] if truncated is None else truncated, np.int32))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of texts and dimension."""
        return len(self.offsets) - 1, int(self.vectors.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Vectors of each text."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> TokenVectors:
        """Some texts: a range, whose vectors are not copied, or any in any order."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            stop = max(start, stop)
            edges = self.offsets[start : stop + 1]
            return TokenVectors(self.vectors[edges[0] : edges[-1]], edges - edges[0], self.truncated[rows])
        counts = self.counts[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts)
        return TokenVectors(self.vectors[places], offsets, self.truncated[rows])


def joined(parts: Sequence[TokenVectors]) -> TokenVectors:
    """The rows of several parts (at least one), one after the other."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([part.counts for part in parts])
    offsets, flags = np.concatenate([[0], np.cumsum(counts)]), np.concatenate([part.truncated for part in parts])
    return TokenVectors(np.concatenate([part.vectors for part in parts]), offsets, flags)


def no_tokens(dim: int) -> TokenVectors:
    """The vectors of no text."""
    return TokenVectors(np.empty((0, dim), np.float32), np.zeros(1, np.int64))
