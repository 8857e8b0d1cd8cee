"""FAISS's IndexFlatL2."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 1 << 16


class Flat:
    """An index with its vectors in memory."""

    def __init__(self, documents: str, queries: str, k: int) -> None:
        import faiss

        mapped = np.load(documents, mmap_mode="r", allow_pickle=False)
        self.index = faiss.IndexFlatL2(mapped.shape[1])
        for start in range(0, len(mapped), ROWS):
            self.index.add(np.ascontiguousarray(mapped[start : start + ROWS]))
        self.queries, self.k = np.load(queries, allow_pickle=False), k

    def work(self) -> dict[str, Any]:
        """Rows and distances [queries, k]; FAISS's are squared."""
        squares, rows = self.index.search(self.queries, self.k)
        return {"rows": rows, "distances": np.sqrt(np.maximum(squares.astype(np.float64), 0))}
