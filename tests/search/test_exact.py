"""Exact search against float64 brute force, on the vectors that break float32: a large common mean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.search import bfloat16, exact, nearest, rescore
from harness.search.exact import MEMORY, Limits, search
from harness.types import Similarity, UserError

DEVICES = ("cpu", "cuda")


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


@pytest.fixture(params=["faiss", "numpy", "torch", "bfloat16"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every first pass: FAISS, NumPy (without FAISS), torch (a GPU's, here on the CPU) and bfloat16 products."""
    for name in {"bfloat16": ("torch", "numba")}.get(request.param, (request.param,)):
        pytest.importorskip(name, reason="the engine")
    monkeypatch.setattr(bfloat16, "worthwhile", lambda size, memory: request.param == "bfloat16")
    engines = {
        "faiss": nearest._faiss,
        "numpy": nearest._numpy,
        "torch": lambda *a, **b: nearest._Torch("cpu")(*a, **b),
        "bfloat16": nearest._numpy,
    }
    monkeypatch.setattr(exact, "make_engine", lambda device: engines[request.param])
    return str(request.param)


def split(vectors: NDArray[np.float32], sizes: int) -> Vectors:
    return Vectors.of(*(vectors[i : i + sizes] for i in range(0, len(vectors), sizes)))


@pytest.mark.parametrize("similarity", ["euclidean", "dot"])
@pytest.mark.parametrize(("n", "d", "cosine"), [(20_000, 64, 0.95), (5_000, 384, 0.99), (3_000, 7, 0.5)])
def test_equals_float64_brute_force_whatever_the_block_sizes(n, d, cosine, similarity, way) -> None:
    vectors = anisotropic(n, d, cosine, seed=1)
    queries = np.concatenate([anisotropic(300, d, cosine, seed=2)[:20], vectors[:3]])
    expected = [brute_force(query, vectors, 100, similarity) for query in queries]
    assert np.mean(vectors @ vectors[:50].T) == pytest.approx(cosine, abs=0.05)
    centre = vectors.mean(axis=0, dtype=np.float64)
    for rows_in_shard, memory in ((n, MEMORY), (997, 26 << 20)):
        stored = split(vectors, rows_in_shard)
        found = list(search(queries, stored, centre, 100, similarity, limits=Limits(memory)))
        for hits, (rows, scores) in zip(found, expected, strict=True):
            assert hits.rows.tolist() == rows
            np.testing.assert_allclose(hits.scores, scores, rtol=1e-12, atol=1e-12)


def test_float32_rounding_loses_nothing_where_it_misjudges_the_order() -> None:
    # Uncentred (the centre given is zero), float32 alone ranks wrongly: only the error bound keeps the documents.
    both = anisotropic(4_020, 32, 0.999999, seed=3)
    vectors, queries = both[:4_000], both[4_000:]
    found = search(queries, split(vectors, 1_000), np.zeros(32), 10, "euclidean")
    squares = np.einsum("ij,ij->i", vectors, vectors) - 2 * queries @ vectors.T
    wrong = 0
    for query, values, hits in zip(queries, squares, found, strict=True):
        assert hits.rows.tolist() == brute_force(query, vectors, 10, "euclidean")[0]
        wrong += set(np.argsort(values)[:10].tolist()) != set(hits.rows.tolist())
    assert wrong > 10


def test_a_document_of_huge_norm_does_not_disturb_the_others(way: str) -> None:
    vectors = anisotropic(3_000, 16, 0.3, seed=10)
    vectors[1_234] *= 1e4
    queries = anisotropic(30, 16, 0.3, seed=11)
    found = search(queries, split(vectors, 700), vectors.mean(axis=0, dtype=np.float64), 20, "euclidean")
    for query, hits in zip(queries, found, strict=True):
        assert hits.rows.tolist() == brute_force(query, vectors, 20, "euclidean")[0]


@pytest.mark.parametrize("rising", [True, False])
def test_documents_in_the_worst_order(rising: bool, way: str) -> None:
    """Every document nearer than all before it: each is a candidate when it comes."""
    n = 20_000
    vectors = np.linspace(1, 2, n, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    vectors = vectors if rising else vectors[::-1].copy()
    (hits,) = search(np.full((1, 4), 2, np.float32), split(vectors, 3_000), np.full(4, 1.5), 50, "euclidean")
    assert hits.rows.tolist() == (list(range(n))[::-1] if rising else list(range(n)))[:50]


def test_later_blocks_are_searched_for_few_and_again_where_that_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The neighbours of one query of eight stand together in a late block."""
    asked: list[tuple[int, int]] = []

    def engine(queries: NDArray[np.float32], block: NDArray[np.float32], depth: int, *, dot: bool) -> nearest.Nearest:
        asked.append((len(queries), depth))
        return nearest._numpy(queries, block, depth, dot=dot)

    monkeypatch.setattr(exact, "make_engine", lambda device: engine)
    monkeypatch.setattr(exact, "_rows", lambda dim: 1_000)
    vectors, queries = anisotropic(8_000, 64, 0.0, seed=20), np.eye(8, 64, dtype=np.float32)
    vectors[6_000:6_900] = queries[3] + 0.01 * anisotropic(900, 64, 0.0, seed=22)
    found = search(queries, split(vectors, 1_000), vectors.mean(axis=0, dtype=np.float64), 500, "euclidean")
    for query, hits in zip(queries, found, strict=True):
        assert hits.rows.tolist() == brute_force(query, vectors, 500, "euclidean")[0]
    depth = exact._depth(500)
    assert asked[0] == (8, depth)
    assert asked.count((1, depth)) == 1
    assert sum(many == 8 and few < depth for many, few in asked) >= 5


def test_equals_faiss_where_rounding_decides_nothing(way: str) -> None:
    faiss = pytest.importorskip("faiss", reason="the peer")
    generator = np.random.default_rng(12)
    vectors, queries = (generator.integers(-9, 9, (size, 24)).astype(np.float32) for size in (5_000, 40))
    index = faiss.IndexFlatL2(24)
    index.add(vectors)
    distances, _ = index.search(queries, 100)
    found = search(queries, split(vectors, 1_111), np.zeros(24), 100, "euclidean")
    for near, hits in zip(distances, found, strict=True):
        np.testing.assert_allclose(-hits.scores[:100], np.sqrt(near.astype(np.float64)), rtol=1e-7)


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize(("n", "d", "scale"), [(700, 5, 1.0), (300, 64, 1e-3), (500, 384, 40.0)])
def test_the_bounds_hold_and_are_not_loose(n: int, d: int, scale: float, dot: bool, way: str) -> None:
    vectors, queries = scale * anisotropic(n, d, 0.5, seed=21), scale * anisotropic(40, d, 0.5, seed=22)
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    true = -asked @ wide.T if dot else np.square(asked[:, None] - wide).sum(axis=2)
    values, rows = exact.make_engine("cpu")(queries, vectors, n, dot=dot)
    error = nearest.error_bound(nearest.lengths(queries), np.square(vectors).sum(axis=1), d, dot=dot)
    assert (np.abs(values - np.take_along_axis(true, rows, axis=1)) <= error[:, None]).all()
    assert (np.diff(values, axis=1) >= 0).all()
    assert error.max() < 1e-4 * np.square(wide).sum(axis=1).max() * 2


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("d", [1, 63, 64, 100, 384])
def test_the_compiled_scores_are_numpys_to_the_last_digit(d: int, dot: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="it compiles the kernel")
    generator = np.random.default_rng(24)
    queries, vectors = anisotropic(9, d, 0.9, seed=25), anisotropic(600, d, 0.9, seed=26)
    places, rows = generator.integers(0, 9, 5_000), generator.integers(0, 600, 5_000)
    similarity: Similarity = "dot" if dot else "euclidean"
    compiled = rescore.rescore(queries, split(vectors, 170), places, rows, similarity, threads=3)
    monkeypatch.setattr(rescore, "_implementation", lambda size: rescore.score_with_numpy)
    plain = rescore.rescore(queries, split(vectors, 600), places, rows, similarity, threads=1)
    assert compiled.tolist() == plain.tolist()
    few = rescore.rescore(queries, split(vectors, 170), places[:400], rows[:400], similarity, threads=2)
    assert few.tolist() == plain[:400].tolist()  # fewer pairs than documents
    left, right = queries[places].astype(np.float64), vectors[rows].astype(np.float64)
    expected = (left * right).sum(axis=1) if dot else -np.sqrt(np.square(left - right).sum(axis=1))
    np.testing.assert_allclose(compiled, expected, rtol=1e-13, atol=1e-15)


def test_a_search_that_is_worth_it_is_compiled_and_any_other_is_not() -> None:
    pytest.importorskip("numba", reason="it compiles the kernel")
    program = (
        "import sys; from harness.search import rescore\n"
        "rescore._implementation(rescore.COMPILED - 1); small = 'numba' in sys.modules\n"
        "rescore._implementation(rescore.COMPILED); print(small, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is no GPU here")
    vectors, queries = anisotropic(50_000, 128, 0.9, seed=15), anisotropic(70, 128, 0.9, seed=16)
    centre = vectors.mean(axis=0, dtype=np.float64)
    one, other = (
        list(search(queries, split(vectors, 9_999), centre, 500, "euclidean", limits=Limits(device=d))) for d in DEVICES
    )
    for ours, theirs in zip(one, other, strict=True):
        assert ours.rows.tolist() == theirs.rows.tolist()
        assert ours.scores.tolist() == theirs.scores.tolist()


def test_memory_too_small_for_one_query_is_refused() -> None:
    vectors = anisotropic(3_000, 768, 0.5, seed=13)
    with pytest.raises(UserError, match=r"allow more: --memory \d+MB") as refusal:
        list(search(vectors[:2], Vectors.of(vectors), np.zeros(768), 1000, "euclidean", limits=Limits(100_000)))
    advised = int(str(refusal.value).rpartition("--memory ")[2].removesuffix("MB.")) * 10**6
    list(search(vectors[:2], Vectors.of(vectors), np.zeros(768), 1000, "euclidean", limits=Limits(advised)))


HARD_LIMIT = """
import importlib, resource, sys
import numpy as np
for name in sys.argv[3:]: importlib.import_module(name)
from harness.search.exact import Limits, search
from harness.embeddings.store import Vectors
memory, path = int(sys.argv[1]), sys.argv[2]
documents, queries = np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r")[:1000].astype(np.float32)
centre = np.zeros(documents.shape[1])
# FAISS's BLAS keeps a buffer for each thread from here on.
list(search(queries, Vectors.of(documents[:3000]), centre, 100, "euclidean", limits=Limits(memory)))
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
hits = search(queries, Vectors.of(documents), centre, 100, "euclidean", limits=Limits(memory))
print(sum(int(found.rows[0]) == place for place, found in enumerate(hits)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's RLIMIT_DATA")
@pytest.mark.parametrize("library", [[], ["torch"]])
def test_memory_is_kept_to_under_a_hard_limit(library: list[str], tmp_path: Path) -> None:
    """1,000 queries on vectors of 40 MB in float16 (80 MB in float32), with 64 MB allowed.

    All threads share one arena of malloc: with one each, the memory that they hold back depends on how they are
    scheduled.
    """
    generator = np.random.default_rng(14)
    np.save(tmp_path / "v.npy", generator.standard_normal((50_000, 400), np.float32).astype(np.float16))
    words = [sys.executable, "-c", HARD_LIMIT, str(64 << 20), str(tmp_path / "v.npy"), *library]
    for name in library:
        pytest.importorskip(name, reason="it takes memory of its own")
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=env)
    assert (done.returncode, done.stdout.strip()) == (0, "1000"), done.stderr[-2000:]


def test_every_document_that_ties_with_the_last_is_kept() -> None:
    vectors = np.repeat(anisotropic(50, 16, 0.5, seed=5), 40, axis=0)  # 50 distinct documents, 40 copies of each
    query = anisotropic(1, 16, 0.5, seed=6)
    (hits,) = search(query, split(vectors, 333), vectors.mean(axis=0, dtype=np.float64), 50, "euclidean")
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
    (hits,) = search(np.array([[1, 0]], np.float32), vectors, np.zeros(2), 4, "cosine")
    assert hits.rows.tolist() == [0, 3, 1, 2]
    np.testing.assert_allclose(1 - hits.scores**2 / 2, [1, 0.5**0.5, 0, 0], atol=1e-7)


@pytest.mark.parametrize("centred", [False, True])
def test_a_zero_vector_has_cosine_0(centred: bool, way: str) -> None:
    generator = np.random.default_rng(31)
    raw = generator.standard_normal((3_000, 24)).astype(np.float32) + np.float32(0.3)
    raw[generator.choice(len(raw), 40, replace=False)] = 0
    asked = generator.standard_normal((12, 24)).astype(np.float32)
    asked[[2, 7]] = 0
    documents = Vectors.of(raw[:1_100], raw[1_100:], normalise=True)
    queries = Vectors.of(asked, normalise=True).gather(np.arange(len(asked)))
    centre = documents.gather(np.arange(len(raw))).mean(axis=0, dtype=np.float64) if centred else np.zeros(24)
    wide, norms = raw.astype(np.float64), np.linalg.norm(raw.astype(np.float64), axis=1)
    found = list(search(queries, documents, centre, 2_000, "cosine", limits=Limits(MEMORY)))
    for query, hits in zip(asked.astype(np.float64), found, strict=True):
        lengths = norms * np.linalg.norm(query)
        cosines = np.divide(wide @ query, lengths, out=np.zeros(len(wide)), where=lengths > 0)
        expected = np.sort(cosines)[::-1][: len(hits.rows)]
        np.testing.assert_allclose(cosines[hits.rows], expected, atol=1e-6)
        np.testing.assert_allclose(1 - hits.scores**2 / 2, expected, atol=1e-6)
        assert len(hits.rows) == (len(raw) if not query.any() else 2_000)
        zeros = hits.scores[norms[hits.rows] == 0]
        assert (zeros == -np.sqrt(2)).all()


@pytest.mark.parametrize("similarity", ["euclidean", "dot"])
@pytest.mark.parametrize("exponent", [-149, -140, -75, -60, -41, 0, 41, 56, 60, 64, 100, 120])
def test_a_power_of_two_changes_no_ranking(exponent: int, similarity: Similarity, way: str) -> None:
    """Vectors whose float32 squares overflow or vanish; scaling by a power of two is exact but for the tiniest."""
    both = np.ldexp(anisotropic(1_020, 8, 0.4, seed=33), exponent).astype(np.float32)
    vectors, queries = both[:1_000], both[1_000:]
    found = search(queries, split(vectors, 300), vectors.mean(axis=0, dtype=np.float64), 30, similarity)
    for query, hits in zip(queries, found, strict=True):
        rows, scores = brute_force(query, vectors, 30, similarity)
        assert hits.rows.tolist() == rows
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-12)


@pytest.mark.parametrize("length", [1e10, 1e17, 1e20, 1e25, 3e38])
def test_one_document_beyond_the_range_of_squares_is_found_and_hides_no_other(length: float, way: str) -> None:
    vectors = anisotropic(1_500, 8, 0.4, seed=34)
    vectors[1_400] = np.float32(length) * np.float32([1, 0, 0, 0, 0, 0, 0, 0])
    queries = np.concatenate([vectors[1_400:1_401], anisotropic(5, 8, 0.4, seed=35)])
    for centre in (np.zeros(8), vectors.mean(axis=0, dtype=np.float64)):
        found = list(search(queries, split(vectors, 400), centre, 20, "euclidean"))
        assert (found[0].rows[0], found[0].scores[0]) == (1_400, 0)
        for query, hits in zip(queries, found, strict=True):
            assert hits.rows[:20].tolist() == brute_force(query, vectors, 20, "euclidean")[0][:20]
