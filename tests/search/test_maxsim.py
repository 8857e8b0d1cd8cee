"""MaxSim search gives the order of float64 brute force, whatever the memory, the threads, the kernel and the scorer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.search import maxsim, maxsim_bounds
from harness.search.exact import Limits
from harness.search.maxsim_bounds import Asked, DeviceScorer, NarrowScorer, WideScorer
from harness.types import Hits, UserError

SCORERS: dict[str, Callable[[Asked, bool], Any]] = {
    "float32": lambda asked, fast: WideScorer(asked, fast=fast),
    "bfloat16": lambda asked, fast: NarrowScorer(asked, fast=fast),
    "device": lambda asked, fast: DeviceScorer(asked, "cpu"),
}


def rows(count: int, most: int, dim: int, seed: int, *, grid: bool = False, least: int = 0) -> TokenVectors:
    """Random texts of ``least`` to ``most`` vectors; on a ``grid`` of few numbers, so that many scores tie."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(least, most + 1, count))])
    shape = int(offsets[-1]), dim
    vectors = generator.integers(-2, 3, shape) / 2 if grid else generator.standard_normal(shape)
    return TokenVectors(vectors.astype(np.float32), offsets.astype(np.int64))


def texts(found: TokenVectors) -> list[np.ndarray[Any, Any]]:
    return [found[row : row + 1].vectors.astype(np.float64) for row in range(len(found))]


def brute(queries: TokenVectors, documents: TokenVectors, k: int, *, mean: bool = False) -> list[Hits]:
    """All scores in float64."""
    found = []
    for query in texts(queries):
        each = [
            (query @ text.T).max(axis=1).sum() if len(text) and len(query) else -np.inf for text in texts(documents)
        ]
        scores = np.array(each) / (max(len(query), 1) if mean else 1)
        order = np.lexsort((np.arange(len(scores)), -scores))
        order = order[np.isfinite(scores[order])]
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        found.append(Hits(order, scores[order]))
    return found


def require_equal(found: list[Hits], expected: list[Hits], rtol: float = 0.0) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.scores, other.scores, rtol=rtol)


@pytest.fixture
def scorer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A scorer, and whether the kernels are compiled, as in ``bfloat16 compiled``."""
    name, _, kernel = request.param.partition(" ")
    if name != "float32":
        pytest.importorskip("torch", reason="this scorer needs torch")
    if kernel:
        pytest.importorskip("numba", reason="the compiled kernels need numba")
    monkeypatch.setattr(maxsim, "make_scorer", lambda device, asked, size: SCORERS[name](asked, bool(kernel)))
    monkeypatch.setattr(maxsim, "compiled", lambda size: bool(kernel))
    return str(request.param)


every_scorer = pytest.mark.parametrize(
    "scorer", ["float32", "float32 compiled", "bfloat16", "bfloat16 compiled", "device"], indirect=True
)


@every_scorer
def test_the_order_is_that_of_brute_force(scorer: str) -> None:
    for grid in (False, True):
        queries, documents = rows(9, 7, 24, 0, grid=grid), rows(200, 9, 24, 1, grid=grid)
        parts = MultiVectors.of(documents[:113], documents[113:114], documents[114:])
        for k in (1, 7, 1000):
            for kind in ("maxsim", "meanmaxsim"):
                found = list(maxsim.search_multivector(queries, parts, k, kind))  # type: ignore[arg-type]
                require_equal(found, brute(queries, documents, k, mean=kind == "meanmaxsim"), 1e-13 * (not grid))


@every_scorer
@pytest.mark.parametrize("scale", [1.0, 2.0**60, 2.0**-60])
def test_ties_and_differences_beyond_float32_are_kept(scorer: str, scale: float) -> None:
    """Copies of a few documents, their vectors in another order; some differ by less than float32 can tell."""
    generator = np.random.default_rng(5)
    queries, few = rows(3, 6, 70, 1, least=2), rows(4, 8, 70, 2, least=2)
    made = []
    for number in range(60):
        text = few[number % 4 : number % 4 + 1].vectors.copy()
        if number % 3 == 0:
            text[number % len(text), number % 70] *= np.float32(1 + 2.0**-23 * generator.integers(1, 4))
        made.append(generator.permutation(text) * np.float32(scale))
    documents = TokenVectors.of(made)
    for k in (1, 5, 20):
        found = list(maxsim.search_multivector(queries, MultiVectors.of(documents[:20], documents[20:]), k))
        require_equal(found, brute(queries, documents, k), 1e-13)


@every_scorer
def test_no_error_is_beyond_its_bound(scorer: str) -> None:
    name, _, kernel = scorer.partition(" ")
    for seed, spread in ((0, 0.0), (1, 3.0), (2, 30.0)):
        queries, documents = rows(5, 9, 33, seed, least=1), rows(40, 12, 33, seed + 10, least=1)
        for each in (queries, documents):  # lengths of many orders
            each.vectors[:] *= np.exp(spread * np.random.default_rng(seed).standard_normal((len(each.vectors), 1)))
        scored = SCORERS[name](Asked(queries.vectors, queries.offsets), bool(kernel))
        values, errors = scored(documents.vectors, documents.offsets)
        for number, query in enumerate(texts(queries)):
            exact = np.array([(query @ text.T).max(axis=1).sum() for text in texts(documents)])
            assert (np.abs(values[number] - exact) <= errors[number]).all()
        if not spread:  # and the bound is not idle
            assert errors.max() < (1e-4 if name != "bfloat16" else 0.03) * np.abs(values).max()


@every_scorer
def test_blocks_groups_threads_and_storage_do_not_matter(scorer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = rows(7, 5, 16, 2, grid=True), rows(50, 6, 16, 3, grid=True)
    expected = brute(queries, documents, 10)
    half = TokenVectors(documents.vectors.astype(np.float16), documents.offsets)  # the grid is exact in it
    for shares in (
        maxsim._Shares(64, 100, 30, 5, 2),
        maxsim._Shares(1, 1, 1, 1, 1),
        maxsim._Shares(99, 999, 999, 9, 3),
    ):
        for stored, tile in ((documents, 1), (half, 1 << 20)):
            monkeypatch.setattr(maxsim, "_shares", lambda *given, shares=shares: shares)
            monkeypatch.setattr(maxsim, "TILE", tile)
            require_equal(list(maxsim.search_multivector(queries, MultiVectors.of(stored), 10)), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_sizes(count: int, dim: int, k: int, seed: int) -> None:
    documents, queries = rows(count, 4, dim, seed, grid=True), rows(3, 4, dim, seed + 1, grid=True)
    require_equal(list(maxsim.search_multivector(queries, MultiVectors.of(documents), k)), brute(queries, documents, k))


def test_the_kernels_give_the_same_digits() -> None:
    pytest.importorskip("numba", reason="the compiled kernels need numba")
    from harness.search.maxsim_kernel import score

    generator = np.random.default_rng(3)
    left, right = (generator.standard_normal((count, 128)).astype(np.float32) for count in (9, 20))
    given = right @ left.T, np.full(9, 3.0, np.float32), left, right, np.array([0, 4, 5, 9])
    both = np.empty(3), np.empty(3)
    score(*given, both[0])
    maxsim.score_with_numpy(*given, both[1])
    np.testing.assert_array_equal(*both)
    np.testing.assert_allclose(
        both[0], np.add.reduceat((left.astype(np.float64) @ right.T.astype(np.float64)).max(axis=1), [0, 4, 5])
    )
    bits = generator.standard_normal((30, 5)).astype(np.float32).view(np.int32)
    edges = np.array([0, 1, 7, 30])
    fast, slow = (maxsim_bounds._segment_max(bits.copy(), edges, fast=fast) for fast in (True, False))
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(fast.view(np.float32), np.maximum.reduceat(bits.view(np.float32), edges[:-1], axis=0))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_order() -> None:
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is no CUDA device")
    for grid in (False, True):
        queries, documents = rows(40, 32, 128, 0, grid=grid), rows(3000, 60, 128, 1, grid=grid)
        found = list(maxsim.search_multivector(queries, MultiVectors.of(documents), 50, limits=Limits(device="cuda")))
        require_equal(found, brute(queries, documents, 50), 1e-13 * (not grid))


def test_too_little_memory_is_told() -> None:
    with pytest.raises(UserError, match=r"allow more: --memory \d+MB"):
        list(maxsim.search_multivector(rows(1, 3, 8, 0), MultiVectors.of(rows(9, 3, 8, 1)), 3, limits=Limits(10**6)))


LARGE = """
import resource, sys
import numpy as np
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.token_vectors import TokenVectors
from harness.search.exact import Limits
from harness.search.maxsim import search_multivector

def shard(number):
    vectors = np.random.default_rng(number).standard_normal((20_000, 24), np.float32)
    return TokenVectors(vectors, np.arange(0, 20_001, 20))

asked = shard(10**6)[:4]
for shards in (5, 60):
    stored = MultiVectors(shard, [1000] * shards, 24)
    for _ in search_multivector(asked, stored, 100, limits=Limits(240_000_000)):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_corpus() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    few, many = (int(line) * (1 if sys.platform == "darwin" else 1024) for line in done.stdout.split())
    assert many - few < 25_000_000  # the vectors of the 55 further shards take 105 MB
