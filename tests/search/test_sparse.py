"""Sparse search gives the order of brute force, whatever the memory, the threads and the kernel."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.embeddings.sparse import SparseVectors
from harness.search import sparse
from harness.search.exact import Limits
from harness.types import Hits, UserError


def rows(count: int, dim: int, share: float, seed: int, *, grid: bool = False) -> Any:
    """Random rows; on a ``grid`` of few weights, so that many scores tie."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(1, 4, (count, dim)) / 2 if grid else generator.lognormal(0, 1, (count, dim))
    found = scipy.sparse.csr_array(np.where(generator.random((count, dim)) < share, weights, 0).astype(np.float32))
    return found


def brute(queries: Any, documents: Any, k: int) -> list[Hits]:
    """Every score as the exact sum of its products, rounded once per addition in the order of the terms."""
    left, right = queries.toarray().astype(np.float64), documents.toarray().astype(np.float64)
    found = []
    for query in left:
        scores = np.zeros(len(right))
        for term in np.flatnonzero(query):
            scores += query[term] * right[:, term]
        order = np.lexsort((np.arange(len(scores)), -scores))
        order = order[scores[order] > 0]
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        found.append(Hits(order, scores[order]))
    return found


def require_equal(found: list[Hits], expected: list[Hits]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_the_order_is_that_of_brute_force(k: int, grid: bool) -> None:
    queries, documents = rows(9, 40, 0.2, 0, grid=grid), rows(300, 40, 0.15, 1, grid=grid)
    parts = SparseVectors.of(documents[:113], documents[113:114], documents[114:])
    require_equal(list(sparse.search_sparse(queries, parts, k)), brute(queries, documents, k))


def test_scores_are_the_rounded_sums_of_exact_products() -> None:
    queries, documents = rows(3, 60, 0.5, 4), rows(20, 60, 0.5, 5)
    for query, hits in zip(
        queries.toarray(), sparse.search_sparse(queries, SparseVectors.of(documents), 5), strict=True
    ):
        for row, score in zip(hits.rows, hits.scores, strict=True):
            exact = sum(
                Fraction(float(a)) * Fraction(float(b)) for a, b in zip(query, documents.toarray()[row], strict=True)
            )
            assert score == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_blocks_groups_and_threads_do_not_matter(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "numba":
        pytest.importorskip("numba", reason="the compiled kernel needs numba")
        from harness.search.sparse_kernel import score

        monkeypatch.setattr(sparse, "_implementation", lambda size: score)
    else:
        monkeypatch.setattr(sparse, "_implementation", lambda size: sparse.score_with_numpy)
    queries, documents = rows(7, 30, 0.3, 2, grid=True), rows(50, 30, 0.2, 3, grid=True)
    expected = brute(queries, documents, 10)
    for shares in (sparse._Shares(64, 100, 5), sparse._Shares(1, 1, 1), sparse._Shares(1000, 10**6, 1000)):
        for cores in (1, 3):
            monkeypatch.setattr(sparse, "_shares", lambda *given, shares=shares: shares)
            monkeypatch.setattr(sparse, "cores", lambda cores=cores: cores)
            require_equal(list(sparse.search_sparse(queries, SparseVectors.of(documents), 10)), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_any_sizes(documents: int, dim: int, k: int, seed: int) -> None:
    stored, asked = rows(documents, dim, 0.4, seed, grid=True), rows(4, dim, 0.4, seed + 1, grid=True)
    found = list(sparse.search_sparse(asked, SparseVectors.of(stored), k))
    require_equal(found, brute(asked, stored, k))


def test_nothing_is_found_without_a_common_term_or_above_zero() -> None:
    documents = scipy.sparse.csr_array(np.array([[1, 0, 0], [0, 0, 0], [-1, 2, 0]], np.float32))
    queries = scipy.sparse.csr_array(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 5], [3, 1, 0]], np.float32))
    found = [hits.rows.tolist() for hits in sparse.search_sparse(queries, SparseVectors.of(documents), 3)]
    assert found == [[0], [], [], [0]]


def test_blocks_keep_to_their_limits() -> None:
    documents = rows(50, 20, 0.3, 7)
    parts = SparseVectors.of(documents[:20], documents[20:])
    blocks = list(parts.blocks(8, 30))
    assert all(block.shape[0] <= 8 and (block.nnz <= 30 or block.shape[0] == 1) for block in blocks)
    assert (scipy.sparse.vstack(blocks) != documents).nnz == 0
    assert (parts.whole() != documents).nnz == 0


def test_too_little_memory_is_told() -> None:
    with pytest.raises(UserError, match=r"allow more: --memory \d+MB"):
        list(sparse.search_sparse(rows(1, 9, 1, 0), SparseVectors.of(rows(9, 9, 1, 1)), 3, limits=Limits(10**6)))


LARGE = """
import resource, sys
import numpy as np, scipy.sparse
from harness.embeddings.sparse import SparseVectors
from harness.search.exact import Limits
from harness.search.sparse import search_sparse

def shard(number):
    generator = np.random.default_rng(number)
    terms = np.sort(generator.integers(0, 30522, (1000, 60)), axis=1).astype(np.int32)
    found = scipy.sparse.csr_array(
        (generator.random(60_000, np.float32), terms.ravel(), np.arange(0, 60_001, 60, dtype=np.int32)), (1000, 30522)
    )
    found.sum_duplicates()
    return found

asked = shard(10**6)[:8]
for shards in (2, 60):
    for _ in search_sparse(asked, SparseVectors(shard, [1000] * shards, 30522), 100, limits=Limits(80_000_000)):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_corpus() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    few, many = (int(line) * (1 if sys.platform == "darwin" else 1024) for line in done.stdout.split())
    assert many - few < 40_000_000  # the vectors of the 58 further shards alone take 28 MB, those of all blocks 130 MB
