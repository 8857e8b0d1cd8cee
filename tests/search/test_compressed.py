"""Compressed vectors: codes equal sentence-transformers', search over them equals brute force in integers."""

from __future__ import annotations

import numpy as np
import pytest

from harness.embeddings.store import Vectors
from harness.search import compressed
from harness.search.compressed import Binary, Int8, bytes_per_vector, compress, rescore_restored
from harness.search.exact import Limits
from harness.types import Hits, PluginError

pytest.importorskip("faiss", reason="bits are compared by faiss (the dense extra)")


def rows(n: int, d: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    made = draw.standard_normal((n, d)) * np.geomspace(3, 0.2, d) + np.linspace(-1, 1, d)
    return made.astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    [block] = Vectors.of(vectors, normalise=True).blocks()
    return block.copy()


@pytest.mark.parametrize("d", [20, 64])
def test_codes_and_restored_vectors_are_those_of_sentence_transformers(d: int) -> None:
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    documents, queries = rows(500, d, 1), 2 * rows(40, d, 2)  # some queries lie beyond the corpus's ranges
    documents[:, 3] = 0.5  # a dimension without any range
    int8 = Int8(Vectors.of(documents[:200], documents[200:]), "dot")
    ranges = np.vstack([documents.min(axis=0), documents.max(axis=0)])
    np.testing.assert_array_equal(int8.ranges, ranges)
    expected = quantization.quantize_embeddings(documents, "int8", calibration_embeddings=documents)
    np.testing.assert_array_equal(int8.codes, expected)
    asked = quantization.quantize_embeddings(queries, "int8", ranges=ranges)
    np.testing.assert_array_equal(compressed.int8_codes(queries, ranges), asked)
    assert (np.abs(asked.astype(int)) >= 127).any()
    some = np.array([7, 3, 499])
    np.testing.assert_array_equal(
        int8.restored(some), quantization._dequantize_embeddings(expected[some], "int8", ranges)
    )
    binary = Binary(Vectors.of(documents))
    np.testing.assert_array_equal(binary.codes, quantization.quantize_embeddings(documents, "ubinary"))
    np.testing.assert_array_equal(binary.restored(some), documents[some] > 0)


def test_search_with_rescoring_is_that_of_sentence_transformers() -> None:
    """Where no Hamming distances tie at the cut, which it leaves undecided."""
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    documents, queries = unit(rows(60, 512, 1)), unit(rows(12, 512, 2))
    binary = Binary(Vectors.of(documents))
    candidates = [hits.rows for hits in binary.hits(queries, 40)]
    found = rescore_restored(queries, binary, candidates, "cosine")
    theirs, _ = quantization.semantic_search_faiss(
        queries, binary.codes, corpus_precision="ubinary", top_k=10, rescore_multiplier=4
    )
    compared = 0
    for hits, other in zip(found, theirs, strict=True):
        if len(hits.rows) == 40:
            best = np.argsort(-hits.scores)[:10]
            assert hits.rows[best].tolist() == [each["corpus_id"] for each in other]
            np.testing.assert_allclose(hits.scores[best], [each["score"] for each in other], rtol=1e-5)
            compared += 1
    assert compared


def expected_hits(scores: np.ndarray, k: int) -> list[list[int]]:
    """Rows by falling score, then rising row, cut after all that tie with the k-th."""
    found = []
    for line in scores:
        order = np.lexsort((np.arange(len(line)), -line))
        limit = line[order[min(k, len(line)) - 1]]
        found.append([int(row) for row in order if line[row] >= limit])
    return found


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("d", [8, 1500])
def test_int8_search_is_brute_force_in_integers(similarity: str, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "ROWS", 64)
    monkeypatch.setattr(compressed, "SCORES", 1000)  # several groups of queries
    documents, queries = np.sign(rows(300, d, 3)), np.sign(rows(9, d, 4))  # extreme codes, and many ties for 8
    documents[5:9] = documents[4]
    int8 = Int8(Vectors.of(documents), similarity)
    left, right = compressed.int8_codes(queries, int8.ranges).astype(np.int64), int8.codes.astype(np.int64)
    assert abs(right).max() == 128
    exact = left @ right.T
    if similarity == "euclidean":
        exact = -((left[:, None] - right) ** 2).sum(axis=2)
    found = int8.hits(queries, 10)
    assert [hits.rows.tolist() for hits in found] == expected_hits(exact, 10)
    for hits, line in zip(found, exact, strict=True):
        np.testing.assert_array_equal(hits.scores, line[hits.rows])


@pytest.mark.parametrize("d", [12, 100])
def test_binary_search_finds_all_that_tie(d: int) -> None:
    documents, queries = rows(400, d, 5), rows(15, d, 6)
    documents[100:300] = documents[99]  # more ties than any first search keeps
    binary = Binary(Vectors.of(documents))
    exact = -((queries[:, None] > 0) != (documents > 0)).sum(axis=2)
    for k in (1, 10, 400, 1000):
        found = binary.hits(queries, k)
        assert [hits.rows.tolist() for hits in found] == expected_hits(exact, k)
        for hits, line in zip(found, exact, strict=True):
            np.testing.assert_array_equal(hits.scores, line[hits.rows])


def test_float16_vectors_are_of_unit_length_again_for_cosine() -> None:
    documents, queries = rows(200, 24, 7), unit(rows(10, 24, 8))
    half = compress(Vectors.of(documents, normalise=True), "float16", "cosine", Limits())
    kept = unit(unit(documents).astype(np.float16).astype(np.float32))
    exact = queries.astype(np.float64) @ kept.astype(np.float64).T
    assert [hits.rows.tolist() for hits in half.hits(queries, 5)] == expected_hits(exact, 5)
    np.testing.assert_array_equal(half.restored(np.array([3])), kept[[3]].astype(np.float64))
    with pytest.raises(PluginError, match="float16 cannot"):
        compress(Vectors.of(documents * 1e6), "float16", "dot", Limits())


def test_asymmetric_rescoring_compares_the_query_itself_with_what_codes_stand_for() -> None:
    documents, queries = rows(50, 16, 9), rows(3, 16, 10)
    candidates = [np.array([4, 1, 9]), np.array([0]), np.empty(0, np.int64)]
    for similarity in ("dot", "euclidean"):
        int8 = Int8(Vectors.of(documents), similarity)  # type: ignore[arg-type]
        restored = int8.restored(np.arange(50))
        assert np.abs(restored - documents).max() <= ((int8.ranges[1] - int8.ranges[0]) / 255).max() * 1.001
        found: list[Hits] = rescore_restored(queries, int8, candidates, similarity)  # type: ignore[arg-type]
        for query, rows_of, hits in zip(queries.astype(np.float64), candidates, found, strict=True):
            expected = restored[rows_of] @ query
            if similarity == "euclidean":
                expected = -np.sqrt(((restored[rows_of] - query) ** 2).sum(axis=1))
            np.testing.assert_allclose(hits.scores, expected, rtol=1e-12)


def test_bytes_of_a_vector() -> None:
    assert [bytes_per_vector(100, kind) for kind in ("float32", "float16", "int8", "binary")] == [400, 200, 100, 13]


def test_leading_dimensions_are_those_of_parts_and_of_gathered_rows() -> None:
    made = rows(30, 8, 11)
    whole = Vectors.of(made[:7], made[7:], normalise=True).leading(3)
    expected = unit(made[:, :3].copy())
    assert (len(whole), whole.dim) == (30, 3)
    np.testing.assert_array_equal(whole.gather(np.array([29, 0, 8])), expected[[29, 0, 8]])
    [block] = whole.part(5, 20).blocks()
    np.testing.assert_array_equal(block, expected[5:20])
