"""Our exact search against FAISS's IndexFlatL2 on anisotropic vectors: 100,000 x 384, 500 queries, k = 1000."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

from harness.index import search
from harness.vectors import Vectors

N, D, QUERIES, K = 100_000, 384, 500, 1000


def contest() -> dict[str, Callable[[], object]]:
    """Contestant -> work."""
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((N, D)) + 2).astype(np.float32)
    queries = (generator.standard_normal((QUERIES, D)) + 2).astype(np.float32)
    centre = vectors.mean(axis=0, dtype=np.float64)

    def flat() -> object:
        index = faiss.IndexFlatL2(D)
        index.add(vectors)
        return index.search(queries, K)

    return {"harness": lambda: list(search(queries, Vectors.of(vectors), centre, K, "euclidean")), "IndexFlatL2": flat}
