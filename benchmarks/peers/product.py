"""numpy's matrix product, the minimum work for moments."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 1 << 14


class Product:
    """float32 in one piece; float64 in blocks, to save memory."""

    def __init__(self, documents: str, dtype: str) -> None:
        self.vectors, self.dtype = np.load(documents, allow_pickle=False), np.dtype(dtype)

    def work(self) -> None:
        """The second moment and the mean."""
        rows = len(self.vectors) if self.dtype == self.vectors.dtype else ROWS
        self.second = np.zeros((self.vectors.shape[1],) * 2, self.dtype)
        self.total = np.zeros(self.vectors.shape[1], self.dtype)
        for start in range(0, len(self.vectors), rows):
            block = self.vectors[start : start + rows].astype(self.dtype, copy=False)
            self.second += block.T @ block
            self.total += block.sum(axis=0)

    def answer(self) -> dict[str, Any]:
        """The covariance [d, d]."""
        n, mean = len(self.vectors), self.total / len(self.vectors)
        return {"covariance": (self.second - n * np.outer(mean, mean)) / (n - 1)}
