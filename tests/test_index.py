"""Exact search against float64 brute force, on the vectors that break float32: a large common mean."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.index import search
from harness.spec import Similarity
from harness.vectors import Vectors

pytest.importorskip("faiss", reason="exact search needs faiss (the dense extra)")


def anisotropic(n: int, d: int, cosine: float, seed: int) -> NDArray[np.float32]:
    """float32 [n, d] of unit length whose mean cosine is about ``cosine``."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal(d)
    common /= np.linalg.norm(common)
    own = generator.standard_normal((n, d)) / np.sqrt(d)
    vectors = np.sqrt(cosine) * common + np.sqrt(1 - cosine) * own
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(
    query: NDArray[np.float32], vectors: NDArray[np.float32], k: int, similarity: Similarity
) -> tuple[list[int], NDArray[np.float64]]:
    """Rows and scores of the k best and all that tie with the k-th, in float64."""
    wide, x = query.astype(np.float64), vectors.astype(np.float64)
    scores = x @ wide if similarity == "dot" else -np.sqrt(np.square(x - wide).sum(axis=1))
    order = np.lexsort((np.arange(len(x)), -scores))
    last = scores[order[min(k, len(x)) - 1]]
    kept = [row for row in order.tolist() if scores[row] >= last]
    return kept, scores[kept]


def split(vectors: NDArray[np.float32], sizes: int) -> Vectors:
    return Vectors.of(*(vectors[i : i + sizes] for i in range(0, len(vectors), sizes)))


@pytest.mark.parametrize("similarity", ["euclidean", "dot"])
@pytest.mark.parametrize(("n", "d", "cosine"), [(20_000, 64, 0.95), (5_000, 384, 0.99), (3_000, 7, 0.5)])
def test_equals_float64_brute_force_whatever_the_block_sizes(n, d, cosine, similarity) -> None:
    vectors = anisotropic(n, d, cosine, seed=1)
    queries = np.concatenate([anisotropic(300, d, cosine, seed=2)[:40], vectors[:3]])
    expected = [brute_force(query, vectors, 100, similarity) for query in queries]
    assert np.mean(vectors @ vectors[:50].T) == pytest.approx(cosine, abs=0.05)
    for rows_in_shard, block in ((n, 65_536), (997, 1_000), (256, 4_096)):
        found = list(
            search(
                queries,
                split(vectors, rows_in_shard),
                vectors.mean(axis=0, dtype=np.float64),
                100,
                similarity,
                block_rows=block,
            )
        )
        for hits, (rows, scores) in zip(found, expected, strict=True):
            assert hits.rows.tolist() == rows
            np.testing.assert_allclose(hits.scores, scores, rtol=1e-12, atol=1e-12)


def test_a_margin_too_small_is_noticed_and_widened() -> None:
    # Uncentred (the centre given is zero), float32 misjudges the order: without the check, documents are missed.
    vectors = anisotropic(4_000, 32, 0.9999, seed=3)
    queries = anisotropic(20, 32, 0.9999, seed=4)
    found = search(queries, split(vectors, 1_000), np.zeros(32), 10, "euclidean", margin=0)
    for query, hits in zip(queries, found, strict=True):
        assert hits.rows.tolist() == brute_force(query, vectors, 10, "euclidean")[0]


def test_every_document_that_ties_with_the_last_is_kept() -> None:
    vectors = np.repeat(anisotropic(50, 16, 0.5, seed=5), 40, axis=0)  # 50 distinct documents, 40 copies of each
    query = anisotropic(1, 16, 0.5, seed=6)
    (hits,) = search(query, split(vectors, 333), vectors.mean(axis=0, dtype=np.float64), 50, "euclidean", margin=0)
    assert hits.rows.tolist() == brute_force(query[0], vectors, 50, "euclidean")[0]
    assert len(hits.rows) == 80
    assert len(set(hits.scores.tolist())) == 2


def test_scores_of_one_query_do_not_depend_on_the_others() -> None:
    vectors, queries = anisotropic(2_000, 48, 0.9, seed=7), anisotropic(1_100, 48, 0.9, seed=8)
    centre = vectors.mean(axis=0, dtype=np.float64)
    together = list(search(queries, split(vectors, 500), centre, 20, "euclidean"))
    for row in (0, 1_023, 1_024, 1_099):
        (alone,) = search(queries[row : row + 1], split(vectors, 500), centre, 20, "euclidean")
        assert alone.rows.tolist() == together[row].rows.tolist()
        assert alone.scores.tolist() == together[row].scores.tolist()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_k_larger_than_the_corpus_gives_all(k: int) -> None:
    vectors = anisotropic(3, 8, 0.2, seed=9)
    (hits,) = search(vectors[:1], split(vectors, 2), vectors.mean(axis=0, dtype=np.float64), k, "euclidean")
    assert len(hits.rows) == min(k, 3)
    assert hits.rows[0] == 0
    assert hits.scores[0] == 0


def test_cosine_reads_unit_vectors_and_keeps_zero_vectors() -> None:
    raw = np.array([[3, 0], [0, 2], [0, 0], [1, 1]], np.float32)
    vectors = Vectors.of(raw[:1], raw[1:], normalise=True)
    np.testing.assert_allclose(np.linalg.norm(vectors.gather(np.arange(4)), axis=1), [1, 1, 0, 1], rtol=1e-7)
    (hits,) = search(np.array([[1, 0]], np.float32), vectors, np.zeros(2), 2, "cosine")
    assert hits.rows.tolist() == [0, 3]
