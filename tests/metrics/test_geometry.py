"""Geometry against closed forms, numpy's covariance, brute force in float64 and the published algorithms."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import skew

from harness.metrics.geometry import DEFINITIONS, Figures, Hubness, measure_geometry, panel
from harness.metrics.moments import SAMPLE, Moments, aligned, collect, joined, parts
from harness.types import UserError

Vectors = NDArray[np.float32]
SCALE_FREE = [name for name in DEFINITIONS if name not in ("norm_mean", "eigenvalues")]


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def gaussian(n: int, d: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def anisotropic(n: int, d: int, seed: int = 0) -> Vectors:
    """A falling spectrum and a common mean, as encoders have."""
    return gaussian(n, d, seed) / np.sqrt(np.arange(1, d + 1), dtype=np.float32) + np.float32(0.3)


def rotation(d: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(7).standard_normal((d, d)))[0]


def figures(vectors: Vectors) -> Figures:
    return measure_geometry([vectors], len(vectors))


def close(one: Figures, other: Figures, names: list[str], rel: float = 1e-5) -> None:
    for name in names:
        assert one[name] == pytest.approx(other[name], rel=rel, abs=1e-6), name


# Moments


@pytest.mark.parametrize("common", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("n", [2, 700, 9000])
def test_covariance_equals_numpys(n: int, common: float) -> None:
    vectors = gaussian(n, 24) * np.float32(0.1) + np.float32(common)
    moments = Moments(24)
    for block in np.array_split(vectors, 3):
        moments.update(block)
    expected = np.cov(vectors.astype(np.float64), rowvar=False)
    assert moments.n == n
    assert np.abs(moments.scatter / (n - 1) - expected).max() <= 1e-10 * np.abs(expected).max()
    assert moments.mean == pytest.approx(vectors.astype(np.float64).mean(axis=0), rel=1e-13, abs=1e-13)


def test_sums_over_parts_are_the_same_whoever_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.metrics.moments.BLOCK", 10)
    monkeypatch.setattr("harness.metrics.moments.PART", 50)
    vectors = np.random.default_rng(4).normal(3, 1, (270, 7)).astype(np.float32)

    def blocks(rows: int, start: int = 0, stop: int = 270) -> list[NDArray[np.float32]]:
        return [vectors[at : min(at + rows, stop)] for at in range(start, stop, rows)]

    state, sample = collect(blocks(20), 270)
    apart = [parts(blocks(30, start, min(start + 50, 270)), 270, start) for start in range(0, 270, 50)]
    kept = [(Moments.unpacked(found.packed()), some) for each in apart for found, some in each]
    assert len(kept) == 6
    for other in (collect(blocks(270), 270), collect(blocks(aligned(49)), 270), joined(kept)):
        assert other[0].packed().tobytes() == state.packed().tobytes()
        assert other[1].tobytes() == sample.tobytes()
    np.testing.assert_allclose(state.scatter, 269 * np.cov(vectors.T.astype(np.float64)), rtol=1e-12)


def test_the_order_of_merging_does_not_matter() -> None:
    parts = [anisotropic(n, 12, seed) * np.float32(seed + 1) for seed, n in enumerate([5, 1, 900, 0, 4500])]
    states = []
    for part in parts:
        state = Moments(12)
        state.update(part)
        states.append(state)
    whole = Moments(12)
    whole.update(np.concatenate(parts))
    left = states[0].merge(states[1]).merge(states[2]).merge(states[3]).merge(states[4])
    right = states[4].merge(states[2].merge(states[0])).merge(states[3].merge(states[1]))
    for merged in (left, right):
        assert merged.n == whole.n
        assert merged.scatter == pytest.approx(whole.scatter, rel=1e-11, abs=1e-9)
        assert merged.mean == pytest.approx(whole.mean, rel=1e-12)
        assert merged.unit_sum == pytest.approx(whole.unit_sum, rel=1e-11)
        assert merged.norm_scatter == pytest.approx(whole.norm_scatter, rel=1e-11)
    assert states[0].n == 5, "an operand changed"


def test_blocks_do_not_matter() -> None:
    vectors = anisotropic(5000, 16)
    whole = measure_geometry([vectors], 5000)
    pieces = measure_geometry(np.array_split(vectors, 37), 5000)
    close(pieces, whole, list(DEFINITIONS), rel=1e-9)


def test_the_announced_number_must_come() -> None:
    with pytest.raises(ValueError, match="10 vectors arrived, 11 were announced"):
        measure_geometry([gaussian(10, 3)], 11)
    with pytest.raises(ValueError, match="0 vectors arrived"):
        measure_geometry([], 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite(bad: float) -> None:
    vectors = gaussian(10, 3)
    vectors[4, 1] = bad
    with pytest.raises(UserError, match="NaN or infinity"):
        figures(vectors)


# Closed forms


@pytest.mark.parametrize(("k", "d"), [(1, 8), (3, 8), (8, 8), (10, 16), (32, 64)])
def test_k_equal_eigenvalues_of_d(k: int, d: int) -> None:
    """+e_i and -e_i for the first k axes: the covariance has k equal eigenvalues, whatever the rotation."""
    axes = np.eye(d)[:k] @ (rotation(d) if d == 64 else np.eye(d))
    found = figures(np.concatenate([axes, -axes] * 3).astype(np.float32))
    assert found["participation_ratio"] == pytest.approx(k, rel=1e-6)
    assert found["isotropy"] == pytest.approx(1 - math.sqrt(max(d / k - 1, 0)), abs=1e-3)
    assert found["isoscore"] == pytest.approx((k - 1) / (d - 1), abs=1e-6)
    assert found["effective_rank"] == pytest.approx(k, rel=1e-6)
    assert found["roy_vetterli"] == pytest.approx(k, rel=1e-3)
    assert found["top1_share"] == pytest.approx(1 / k, rel=1e-6)
    assert found["top10_share"] == pytest.approx(min(10 / k, 1), rel=1e-6)
    assert found["dims_90"] == math.ceil(0.9 * k - 1e-9)
    assert found["eigenvalues"][:k] == pytest.approx([6 / (6 * k - 1)] * k, rel=1e-5)
    assert found["mean_cosine"] == pytest.approx(-1 / (6 * k - 1), rel=1e-5)
    assert found["norm_mean"] == pytest.approx(1)
    assert found["definitions"]["normalised"] is True


def test_isotropy_as_the_formula_reads() -> None:
    vectors = anisotropic(400, 20)
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.astype(np.float64), rowvar=False))
    found = figures(vectors)
    assert found["isotropy"] == pytest.approx(1 - np.std(eigenvalues) / np.mean(eigenvalues), rel=1e-10)
    assert found["eigenvalues"] == pytest.approx(sorted(eigenvalues, reverse=True), rel=1e-5)
    singular = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares = singular / singular.sum()
    assert found["roy_vetterli"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-8)


def test_rotation_changes_nothing() -> None:
    vectors = anisotropic(600, 24)
    close(figures((vectors @ rotation(24)).astype(np.float32)), figures(vectors), list(DEFINITIONS), rel=1e-4)


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e3, 1e12])
def test_scale_changes_nothing(factor: float) -> None:
    vectors = anisotropic(600, 24)
    found = figures(vectors * np.float32(factor))
    close(found, figures(vectors), SCALE_FREE, rel=1e-5)
    assert found["norm_mean"] == pytest.approx(figures(vectors)["norm_mean"] * factor, rel=1e-5)


def published_isoscore(vectors: Vectors) -> float:
    """The algorithm step by step as Rudman et al. (2022) print it, on the variances after PCA."""
    d = vectors.shape[1]
    variances = np.linalg.svd(vectors - vectors.mean(axis=0, dtype=np.float64), compute_uv=False) ** 2
    scaled = math.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / math.sqrt(2 * (d - math.sqrt(d)))
    used = (d - defect**2 * (d - math.sqrt(d))) ** 2 / d
    return float((used - 1) / (d - 1))


@pytest.mark.parametrize("make", [gaussian, anisotropic])
def test_isoscore_equals_the_published_algorithm(make: type) -> None:
    vectors = make(500, 30)
    assert figures(vectors)["isoscore"] == pytest.approx(published_isoscore(vectors), rel=1e-9)


# Sampling


@pytest.mark.parametrize("n", [256, 1024, 4096])
def test_an_ideal_gaussian_reaches_the_ceiling(n: int) -> None:
    found = figures(gaussian(n, 256))
    assert found["isotropy"] == pytest.approx(found["isotropy_ceiling"], abs=0.02)
    assert found["isotropy_ceiling"] == pytest.approx(1 - math.sqrt(256 / (n - 1)))
    assert abs(found["cv2_debiased"]) < 0.02
    assert 0.85 < found["isotropy_debiased"] < 1.15


def test_the_debiased_score_does_not_depend_on_n() -> None:
    """Population spectrum 1/i: std/mean is known, the raw score is far off at small n, the debiased is not."""
    d = 64
    spectrum = 1 / np.arange(1, d + 1)
    truth = 1 - spectrum.std() / spectrum.mean()
    for n in (60, 240, 2000):
        found = [figures(anisotropic(n, d, seed)) for seed in range(12)]
        debiased = np.array([one["isotropy_debiased"] for one in found])
        assert debiased.mean() == pytest.approx(truth, abs=4 * debiased.std() / math.sqrt(12))
        assert debiased.mean() == pytest.approx(truth, abs=0.1)
    assert np.mean([figures(anisotropic(60, d, seed))["isotropy"] for seed in range(12)]) < truth - 0.2


def test_the_debiased_traces_are_unbiased() -> None:
    """E[a] = tr Sigma^2 and E[b] = (tr Sigma)^2 show as E over many small samples of a ratio's two parts."""
    spectrum = np.array([4.0, 2.0, 1.0, 1.0])
    ratios = []
    for seed in range(400):
        vectors = (gaussian(200, 4, seed) * np.sqrt(spectrum)).astype(np.float32)
        ratios.append(figures(vectors)["cv2_debiased"])
    assert np.mean(ratios) == pytest.approx(spectrum.var() / spectrum.mean() ** 2, rel=0.02)


# Pairs


@pytest.mark.parametrize("make", [gaussian, anisotropic])
def test_mean_cosine_is_exact(make: type) -> None:
    vectors = make(300, 10)
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    expected = np.mean((units @ units.T)[np.triu_indices(300, 1)])
    found = figures(vectors)
    assert found["mean_cosine"] == pytest.approx(expected, abs=1e-12)
    assert found["one_minus_mean_cosine"] == pytest.approx(1 - expected)


def test_uniformity_by_brute_force() -> None:
    vectors = anisotropic(200, 12).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [np.exp(-2 * np.sum((units[i] - units[j]) ** 2)) for i in range(200) for j in range(i)]
    assert figures(vectors.astype(np.float32))["uniformity"] == pytest.approx(math.log(np.mean(pairs)), rel=1e-6)


def test_uniformity_of_isotropic_vectors() -> None:
    """exp(4 cos - 4) with cos of variance 1/d: log of the mean is about -4 + 8/d, -3.984 at d = 512."""
    assert figures(gaussian(1000, 512))["uniformity"] == pytest.approx(-4 + 8 / 512, abs=0.003)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_partition_function_by_brute_force(scale: float) -> None:
    vectors = anisotropic(150, 8) * np.float32(scale)
    exact = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1).mean()
    axes = np.linalg.svd(exact)[2]  # rows are the eigenvectors of X'X
    logs = [logsumexp([sign * axis @ row for row in exact]) for axis in axes for sign in (1, -1)]
    assert figures(vectors)["partition_function"] == pytest.approx(math.exp(min(logs) - max(logs)), rel=1e-6)


def test_partition_function_does_not_overflow() -> None:
    """One vector a thousand times longer than the mean: exp(1000) is beyond float64."""
    vectors = gaussian(2000, 3) * np.float32(1e-3)
    vectors[7] = 1e6
    assert 0 <= figures(vectors)["partition_function"] < 1e-100


def test_the_sample_is_spread_evenly() -> None:
    """Rows count up, so the sample shows in the panel: with the first half alone, uniformity would be another."""
    vectors = np.repeat(np.eye(2, dtype=np.float32), 5000, axis=0)
    found = figures(vectors)
    assert found["definitions"]["sample"] == SAMPLE
    half = SAMPLE // 2
    same, across = half * (half - 1) * 2, half * half * 2
    assert found["uniformity"] == pytest.approx(math.log((same + across * math.exp(-4)) / (same + across)))


# Degenerate input


@pytest.mark.parametrize(
    ("vectors", "undefined"),
    [
        (np.ones((1, 4)), {"isotropy", "isoscore", "mean_cosine", "uniformity", "eigenvalues", "isotropy_ceiling"}),
        (
            np.tile(gaussian(1, 4), (9000, 1)),
            {"isotropy", "isoscore", "participation_ratio", "top1_share", "isotropy_debiased"},
        ),
        (np.zeros((10, 4)), {"isotropy", "mean_cosine", "uniformity", "partition_function", "roy_vetterli", "norm_cv"}),
        (gaussian(50, 1), {"isoscore", "isotropy_ceiling"}),
        (gaussian(2, 4), {"isotropy_debiased", "cv2_debiased"}),
        (gaussian(5, 40), set()),
        (np.zeros((0, 4)), set(DEFINITIONS)),
    ],
    ids=["one vector", "constant", "zeros", "d=1", "n=2", "n<d", "none"],
)
def test_degenerate_vectors(vectors: Vectors, undefined: set[str]) -> None:
    found = figures(vectors.astype(np.float32))
    json.dumps(found, allow_nan=False)
    missing = {name for name in DEFINITIONS if found[name] is None}
    assert undefined <= missing
    if len(vectors) > 2 and len(np.unique(vectors, axis=0)) > 1:
        assert missing == undefined


def test_fewer_vectors_than_dimensions() -> None:
    found = figures(gaussian(5, 40))
    assert found["eigenvalues"][4:] == [0.0] * 36
    assert found["participation_ratio"] < 4
    assert found["isotropy_ceiling"] < 0


def test_zero_vectors_have_no_direction() -> None:
    some = anisotropic(100, 6)
    found = figures(np.concatenate([some, np.zeros((3, 6), np.float32)]))
    assert found["mean_cosine"] == pytest.approx(figures(some)["mean_cosine"], rel=1e-9)
    assert found["uniformity"] == pytest.approx(figures(some)["uniformity"], rel=1e-9)
    assert found["definitions"]["zero_vectors"] == 3


def test_the_panel_names_every_definition() -> None:
    found = figures(anisotropic(100, 6))
    assert set(found) == {"n", "d", "definitions", *DEFINITIONS}
    assert found["definitions"]["normalised"] is False
    assert panel(Moments(3), np.empty((0, 3), np.float32), normalised=True)["definitions"]["normalised"] is True


# Hubness


def test_hubness_against_scipy() -> None:
    rng = np.random.default_rng(0)
    counts, hubness = np.zeros(400, int), Hubness()
    for _ in range(150):
        ranked = rng.choice(400, 30, replace=False, p=np.arange(1, 401) / 80200)
        counts[ranked[:10]] += 1
        hubness.add([f"d{doc}" for doc in ranked])
    found = hubness.summary(400, 150)
    assert found["skewness"] == pytest.approx(skew(counts), rel=1e-10)
    assert found["largest_share"] == counts.max() / 150
    assert found["antihub_share"] == (counts == 0).mean()
    assert (found["k"], found["queries"], found["documents"]) == (10, 150, 400)


def test_hubness_where_it_is_undefined() -> None:
    even = Hubness(k=1)
    for doc in "abc":
        even.add([doc])
    assert even.summary(3, 3) == {
        "k": 1, "queries": 3, "documents": 3, "skewness": None, "largest_share": 1 / 3, "antihub_share": 0.0
    }  # fmt: skip
    assert Hubness().summary(0, 0)["antihub_share"] is None
    with pytest.raises(ValueError, match="3 documents were retrieved from a corpus of 2"):
        even.summary(2, 3)
