"""Geometry of sparse vectors against the same numbers of the dense array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from scipy import stats

from harness.metrics.geometry import measure_geometry
from harness.metrics.sparse_geometry import DEFINITIONS, collect_sparse, sparse_panel


def rows(count: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    shares = generator.random(30) ** 2
    weights = generator.lognormal(0, 1, (count, 30)) * (generator.random((count, 30)) < shares)
    weights[3] = 0
    return scipy.sparse.csr_array(weights.astype(np.float32))


def test_values_equal_those_of_the_dense_array() -> None:
    documents, queries = rows(200, 0), rows(20, 1)
    found = sparse_panel(collect_sparse([documents[:90], documents[90:]], 30), collect_sparse([queries], 30))
    dense = documents.toarray()
    active = dense != 0
    assert found["active_dimensions"] == active.sum(axis=1).mean()
    lists = active.sum(axis=0)
    assert found["used_dimensions"] == (lists > 0).sum()
    assert found["posting_skewness"] == pytest.approx(stats.skew(lists[lists > 0]))
    assert found["longest_posting"] == lists.max() / 200
    pairs = (queries.toarray() != 0).astype(float) @ active.T.astype(float)
    assert found["flops"] == pytest.approx(pairs.mean())
    expected = measure_geometry(iter([dense]), len(dense))
    for name in ("n", "d", "norm_mean", "norm_cv", "mean_cosine", "one_minus_mean_cosine"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9), name
    assert found["definitions"]["zero_vectors"] == 1


def test_what_is_undefined_is_none() -> None:
    empty = scipy.sparse.csr_array((2, 5), dtype=np.float32)
    for moments in (collect_sparse([], 5), collect_sparse([empty], 5)):
        found = sparse_panel(moments)
        assert found["posting_skewness"] is None
        assert found["mean_cosine"] is None
        assert found["flops"] is None
        assert {*DEFINITIONS} <= {*found}
        assert all(value == value for value in found.values())
