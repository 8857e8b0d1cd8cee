"""The first pass of exact search in bfloat16: its bounds, its limits and when it is used.

Its results are compared with float64 brute force in test_exact.py and test_zero_vectors.py.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from harness.embeddings.store import Vectors
from harness.search import bfloat16
from harness.search.exact import search
from harness.search.nearest import Space
from harness.types import Similarity

pytest.importorskip("torch", reason="it multiplies bfloat16")
pytest.importorskip("numba", reason="it compiles the kernels")


@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize(("d", "scale"), [(1, 1.0), (65, 1e-3), (768, 40.0)])
def test_the_true_values_are_within_the_bounds_which_are_not_loose(
    d: int, scale: float, similarity: Similarity
) -> None:
    """All documents are candidates, as k is their number."""
    generator = np.random.default_rng(1)
    scale = d**-0.5 if similarity == "cosine" else scale
    vectors, queries = (scale * generator.standard_normal((n, d), np.float32) for n in (400, 20))
    vectors[7] = 0
    centre = scale * generator.standard_normal(d, np.float32) / 8
    space = Space(np.float32(0.5), centre, similarity)
    moved, half = 0.5 * vectors.astype(np.float64) - centre, 0.5 * queries.astype(np.float64)
    asked = half if similarity == "dot" else half - centre
    true = (-1 if similarity == "dot" else -2) * asked @ moved.T
    if similarity != "dot":
        true += np.square(moved).sum(axis=1)
    true[:, 7] += similarity == "cosine"
    own = bfloat16._Search(space.queries(queries), 400, space)
    with ThreadPoolExecutor(2) as pool:
        own.add(vectors[:250], 0, pool, 2)
        own.add(vectors[250:], 250, pool, 2)
    order = np.argsort(own.rows[:, :400], axis=1)
    lower, upper = (np.take_along_axis(bound[:, :400], order, axis=1) for bound in own.bounds)
    assert (own.counts == 400).all()
    assert (lower <= true).all()
    assert (true <= upper).all()
    longest = np.linalg.norm(asked, axis=1).max() * np.linalg.norm(moved, axis=1).max()
    assert (upper - lower).max() < 0.04 * longest


def test_the_limit_falls_to_the_nearest_and_candidates_stay_few() -> None:
    generator = np.random.default_rng(2)
    vectors, queries = (generator.standard_normal((n, 256), np.float32) for n in (6_000, 8))
    space = Space(np.float32(1), np.zeros(256, np.float32), "euclidean")
    found = bfloat16.candidates(queries, Vectors.of(vectors), 50, space, 1_000, 1 << 27)
    assert len(found.left) == 0
    distances = np.square(queries[:, None].astype(np.float64) - vectors).sum(axis=2)
    for query, row in enumerate(distances):
        own = found.rows[found.queries == query]
        assert {*np.argsort(row)[:50].tolist()} <= {*own.tolist()}
        assert 50 <= len(own) < 150


def test_queries_with_too_many_candidates_are_left_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand documents are the same, of which each could be among the ten nearest of the first query."""
    vectors = np.random.default_rng(3).standard_normal((3_000, 16)).astype(np.float32)
    vectors[500:1_500] = vectors[0]
    queries = np.stack([vectors[0], -4 * vectors[0]])
    space = Space(np.float32(1), np.zeros(16, np.float32), "euclidean")
    assert bfloat16.candidates(queries, Vectors.of(vectors), 10, space, 700, 1 << 26).left.tolist() == [0]
    monkeypatch.setattr(bfloat16, "worthwhile", lambda size, memory: True)
    alike, far = search(queries, Vectors.of(vectors), np.zeros(16), 10, "euclidean")
    assert alike.rows.tolist() == [0, *range(500, 1_500)]
    assert not np.isin(far.rows, alike.rows).any()


def test_it_is_used_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: True)
    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch"))
    large, memory = 1000 * 500_000 * 768, 2 * 10**9
    assert bfloat16.worthwhile(large, memory)
    assert bfloat16.worthwhile(large // 20, memory)
    assert not bfloat16.worthwhile(1000 * 1000 * 768, memory)
    assert not bfloat16.worthwhile(large, 10**8)
    monkeypatch.delitem(sys.modules, "torch")
    assert bfloat16.worthwhile(large, memory)
    assert not bfloat16.worthwhile(large // 20, memory)
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: False)
    assert not bfloat16.worthwhile(large, memory)
