"""The figures of docs/theory.md, computed again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training needs torch (the train extra)")

import torch
from scipy import optimize, stats

from harness.metrics.geometry import panel
from harness.metrics.moments import collect
from harness_training.losses.sigreg import exact_sigreg
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "theory.md").read_text()
FLOOR = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
Array = NDArray[np.float64]


def table(first: str) -> list[list[str]]:
    """Rows of the table whose head begins with a cell, head included, without that of dashes."""
    lines = PAGE[PAGE.index(f"| {first}") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def numbers(cells: list[str]) -> list[float]:
    return [float(re.match(r"(?:N = )?([\d.,]+)", cell)[1].replace(",", "")) for cell in cells]  # type: ignore[index]


def expected(variance: Array | float, n: float) -> Array:
    """E[T] of n draws from N(0, variance)."""

    def integral(x: Array | float) -> Array:
        return np.sqrt(2 * np.pi / (1 + np.asarray(x)))

    v = np.asarray(variance)
    return n * (integral(2 * v) - 2 * integral(v + 1) + integral(2)) + integral(0) - integral(2 * v)


def test_the_floor_and_a_wrong_scale() -> None:
    assert f"= {FLOOR:.4f} for *every* N" in PAGE
    assert f"variance 2 gives {expected(2.0, 16):.2f}" in PAGE


def test_the_variance_at_the_minimum() -> None:
    head, row = table("N | 8")
    for n, value in zip(numbers(head[1:]), numbers(row[1:]), strict=True):
        least = optimize.minimize_scalar(lambda v, n=n: float(expected(v, n)), bounds=(0.3, 1.5), method="bounded")
        assert least.x == pytest.approx(value, abs=6e-4)


def test_what_a_batch_shows_of_the_spectrum() -> None:
    head, *rows = table("dimensions with variance")
    points, weights = np.polynomial.legendre.leggauss(400)
    u = (points + 1) / 2
    for row in rows:
        rank = numbers(row[:1])[0]
        for n, value in zip(numbers(head[1:]), numbers(row[1:]), strict=True):
            if rank == 512:
                found = float(expected(1.0, n))
            else:
                density = stats.beta.pdf(u, rank / 2, (512 - rank) / 2)
                found = float((weights / 2 * density * expected(512 / rank * u, n)).sum())
            assert found == pytest.approx(value, abs=1e-3)


def test_a_batch_scatters_by_003_at_the_target() -> None:
    draw = np.random.default_rng(0)
    values = [exact_sigreg(torch.from_numpy(draw.standard_normal((48, 512)))).item() for _ in range(40)]
    assert np.mean(values) == pytest.approx(FLOOR, abs=0.02)
    assert np.std(values, ddof=1) == pytest.approx(0.03, abs=0.01)
    assert math.hypot(np.std(values, ddof=1), 0.93 / math.sqrt(1024)) == pytest.approx(0.04, abs=0.01)


def test_the_ceiling() -> None:
    for row in table("documents n")[1:]:
        n, d, value = numbers(row)
        assert 1 - math.sqrt(d / (n - 1)) == pytest.approx(value, abs=6e-4)
    draw = np.random.default_rng(0)
    vectors = [draw.standard_normal((257, 64)).astype(np.float32) for _ in range(20)]
    scores = [panel(*collect(iter([one]), 257))["isotropy"] for one in vectors]
    assert np.mean([float(score) for score in scores if score is not None]) == pytest.approx(0.5, abs=0.01)


def test_distances_concentrate() -> None:
    for ratio, share in ((63, "17.8%"), (512, "6.3%")):
        assert f"{100 * math.sqrt(2 / ratio) + 1e-9:.1f}%" == share
        assert share in PAGE
    draw, values = np.random.default_rng(0), 1 / np.arange(1, 65)
    apart = (draw.standard_normal((2, 30_000, 64)) * np.sqrt(values)).astype(np.float32)
    squared = np.square(apart[0] - apart[1]).sum(1)
    assert squared.std() / squared.mean() == pytest.approx(math.sqrt(2 * (values**2).sum()) / values.sum(), rel=0.03)


@pytest.mark.parametrize(
    ("first", "noise"), [("the same in all", lambda values: values * 0 + values.mean()), ("in proportion", lambda v: v)]
)
def test_whitening_is_right_for_one_noise(first: str, noise: Callable[[Array], Array]) -> None:
    shown = numbers(table(first)[0][1:])
    values, draw = 1 / np.arange(1, 65), np.random.default_rng(0)
    documents = draw.standard_normal((1000, 64)) * np.sqrt(values)
    queries = documents + draw.standard_normal((1000, 64)) * np.sqrt(0.9 * noise(values))
    for exponent, share in zip((0, 0.25, 0.5, 1), shown, strict=True):
        scale = values ** (-exponent / 2)
        a, b = queries * scale, documents * scale
        nearest = (np.square(b).sum(1) - 2 * a @ b.T).argmin(1)
        assert 100 * (nearest == np.arange(1000)).mean() == pytest.approx(share, abs=2)


def test_copies_cost_their_number_times_the_floor() -> None:
    head, row = table("copies of every row")
    draw = np.random.default_rng(0)
    for copies, value in zip(numbers(head[1:]), numbers(row[1:]), strict=True):
        assert copies * FLOOR == pytest.approx(value, abs=6e-3)
        batches = [np.repeat(draw.standard_normal((32 // int(copies), 48)), int(copies), 0) for _ in range(30)]
        assert np.mean([exact_sigreg(torch.from_numpy(one)) for one in batches]) == pytest.approx(value, rel=0.05)
