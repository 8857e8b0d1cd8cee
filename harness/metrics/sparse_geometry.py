"""Geometry of sparse vectors, where it is defined: active dimensions, posting lists, FLOPS, norms and mean cosine.

What needs the eigenvalues of the covariance is not computed: there are as many as terms. Notation in `DEFINITIONS`: n
vectors of d terms; a term is active in a vector where its weight is not 0; p(t) is the share of vectors in which t is
active.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Figures = dict[str, Any]

DEFINITIONS = {
    "active_dimensions": "mean number of active terms of a vector",
    "used_dimensions": "terms that are active in some vector",
    "flops": "sum over terms of p(t) of the documents times p(t) of the queries: the mean number of multiplications of "
    "a query with a document (Paria et al. 2020)",
    "posting_skewness": "skewness (population form) of the number of documents per used term",
    "longest_posting": "largest p(t)",
}
"""Name -> definition and source; norm_mean, norm_cv and mean_cosine are those of dense vectors."""


class SparseMoments:
    """Counts and sums of sparse vectors, collected in one pass."""

    def __init__(self, dim: int) -> None:
        self.n = self.active = self.zeros = 0
        self.counts = np.zeros(dim, np.int64)
        """Vectors in which a term is active."""
        self.unit_sum = np.zeros(dim)
        self._norms: list[NDArray[np.float64]] = []

    def update(self, rows: Any) -> None:
        """Add vectors, a CSR array. The digits depend on how they are divided: give them shard by shard."""
        sums = rows.astype(np.float64).power(2).sum(axis=1)
        norms: NDArray[np.float64] = np.sqrt(sums)
        self._norms.append(norms)
        self.n += rows.shape[0]
        self.active += rows.nnz
        self.zeros += int((norms == 0).sum())
        scale = np.repeat(np.where(norms > 0, norms, 1.0), np.diff(rows.indptr))
        dim = len(self.counts)
        self.counts += np.bincount(rows.indices, minlength=dim)
        self.unit_sum += np.bincount(rows.indices, rows.data / scale, minlength=dim)

    @property
    def norms(self) -> NDArray[np.float64]:
        """Length of every vector."""
        return np.concatenate(self._norms) if self._norms else np.empty(0)


def collect_sparse(shards: Iterable[Any], dim: int) -> SparseMoments:
    """The moments of all vectors."""
    found = SparseMoments(dim)
    for rows in shards:
        found.update(rows)
    return found


def sparse_panel(moments: SparseMoments, queries: SparseMoments | None = None) -> Figures:
    """Compute all values of `DEFINITIONS`, and those of dense vectors that are defined; None where one is not.

    Args:
        moments: moments of the vectors.
        queries: those of the queries, for ``flops``.
    """
    n, norms, counts = moments.n, moments.norms, moments.counts
    figures: Figures = {"n": n, "d": len(counts), "norm_mean": None, "norm_cv": None, "mean_cosine": None}
    figures |= {"one_minus_mean_cosine": None, **dict.fromkeys(DEFINITIONS)}
    if n:
        mean = math.fsum(norms) / n
        figures |= {"norm_mean": mean, "active_dimensions": moments.active / n, "longest_posting": counts.max() / n}
        figures["used_dimensions"] = int((counts > 0).sum())
        figures["posting_skewness"] = _skewness(counts[counts > 0].astype(np.float64))
        if mean > 0:
            figures["norm_cv"] = math.sqrt(math.fsum((norms - mean) ** 2) / n) / mean
        if queries is not None and queries.n:
            figures["flops"] = math.fsum(counts / n * (queries.counts / queries.n))
    directed = n - moments.zeros
    if directed > 1:
        cosine = (math.fsum(moments.unit_sum**2) - directed) / (directed * (directed - 1))
        figures |= {"mean_cosine": cosine, "one_minus_mean_cosine": 1 - cosine}
    figures["definitions"] = {"zero_vectors": moments.zeros}
    return figures


def _skewness(values: NDArray[np.float64]) -> float | None:
    if not len(values):
        return None
    apart = values - math.fsum(values) / len(values)
    second, third = (math.fsum(apart**power) / len(values) for power in (2, 3))
    return third / second**1.5 if second else None
