"""SIGReg compared with closed forms, published digits, its own slice-free limit and brute force in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")

import torch
from scipy.special import hyp1f1
from torch import Tensor

from harness_training.losses import sigreg
from harness_training.losses.sigreg import (
    PAPER,
    REPOSITORY,
    Quadrature,
    SIGReg,
    exact_sigreg,
    sliced_sigreg,
    unit_slices,
)
from harness_training.losses.sphere import gaussian_kernel

ROOT = math.sqrt(2 * math.pi)
SAMPLE = (-1.5, -0.5, 0.0, 0.25, 1.0, 2.0)
FLOOR = ROOT * (1 - 1 / math.sqrt(3))
"""Expectation of T for Gaussian samples of any size."""
EXACT = None


def one_dimensional(samples: Tensor, quadrature: Quadrature | None, **options: bool) -> Tensor:
    """The Epps-Pulley statistic T of numbers."""
    if quadrature is EXACT:
        return exact_sigreg(samples[:, None], **options)
    return sliced_sigreg(samples[:, None], torch.ones(1, 1), quadrature=quadrature, **options)


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


@pytest.mark.parametrize(
    ("quadrature", "value", "gradient"),
    [
        (
            EXACT,
            0.161347230878242,
            (-0.1867988609, 0.0010615634, 0.1598246095, 0.2337846727, 0.4086933809, 0.1567615778),
        ),
        (
            PAPER,
            0.16134586955254987,
            (-0.1867974738, 0.0010537670, 0.1598332693, 0.2337886761, 0.4086948182, 0.1567527430),
        ),
        (
            REPOSITORY,
            0.15757223338485019,
            (-0.1766721381, -0.0107946613, 0.1544077506, 0.2391318836, 0.4123108127, 0.1547644707),
        ),
    ],
    ids=["exact", "paper", "repository"],
)
def test_six_numbers_give_the_known_statistic_and_gradient(
    quadrature: Quadrature | None, value: float, gradient: tuple[float, ...]
) -> None:
    samples = torch.tensor(SAMPLE, dtype=torch.float64, requires_grad=True)
    statistic = one_dimensional(samples, quadrature)
    statistic.backward()
    assert statistic.item() == pytest.approx(value, abs=1e-12)
    assert samples.grad.tolist() == pytest.approx(gradient, abs=1e-9)


@pytest.mark.parametrize(
    ("quadrature", "per_sample"),
    [(EXACT, ROOT * (1 - math.sqrt(2) + 1 / math.sqrt(3))), (PAPER, 0.40892072), (REPOSITORY, 0.40204758)],
)
def test_collapse_gives_its_closed_form(quadrature: Quadrature | None, per_sample: float) -> None:
    value = one_dimensional(torch.zeros(7, dtype=torch.float64), quadrature).item()
    assert value == pytest.approx(7 * per_sample, abs=1e-7 if quadrature else 1e-12)


def test_far_apart_samples_reach_the_plateau() -> None:
    value = one_dimensional(1e4 * torch.arange(1, 6, dtype=torch.float64), EXACT).item()
    assert value == pytest.approx(ROOT + 5 * math.sqrt(2 * math.pi / 3), rel=1e-12)


@pytest.mark.parametrize(("quadrature", "floor"), [(EXACT, FLOOR), (PAPER, 1.05942312), (REPOSITORY, 1.05246415)])
def test_expectation_under_the_target_is_the_floor(quadrature: Quadrature | None, floor: float) -> None:
    """Of any number of samples, so of one: a Gauss-Hermite sum over it."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    values = [one_dimensional(torch.tensor([point]), quadrature).item() for point in points]
    assert np.dot(values, weights) / ROOT == pytest.approx(floor, abs=1e-8)


@pytest.mark.parametrize("variance", [0.25, 1.0, 3.0])
def test_expectation_at_another_variance_equals_its_closed_form(variance: float) -> None:
    def integral(a: float) -> float:
        return math.sqrt(2 * math.pi / (1 + a))

    points, weights = np.polynomial.hermite_e.hermegauss(48)
    points = points * math.sqrt(variance)
    pairs = [[one_dimensional(torch.tensor([a, b]), EXACT).item() for a in points] for b in points]
    expected = 2 * (integral(2 * variance) - 2 * integral(variance + 1) + integral(2))
    expected += integral(0) - integral(2 * variance)
    assert weights @ pairs @ weights / (2 * math.pi) == pytest.approx(expected, rel=1e-6)


def test_unbiased_form_has_expectation_zero_under_the_target() -> None:
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    for quadrature in (EXACT, PAPER):
        pairs = [[one_dimensional(torch.tensor([a, b]), quadrature, unbiased=True) for a in points] for b in points]
        assert weights @ np.asarray(pairs) @ weights / (2 * math.pi) == pytest.approx(0, abs=1e-8)


def test_reference_matrix_without_slices() -> None:
    matrix = torch.tensor([[math.sin(8 * i + j + 1) for j in range(8)] for i in range(5)], dtype=torch.float64)
    assert exact_sigreg(matrix).item() == pytest.approx(0.8153436686260047, abs=1e-12)
    assert exact_sigreg(matrix, unbiased=True).item() == pytest.approx(0.018847422382829437, abs=1e-12)
    assert exact_sigreg(matrix, normalise=True).item() == pytest.approx(0.8153436686260047 / 5, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 64, 512, 768])
def test_kernel_equals_the_confluent_hypergeometric_function(dim: int) -> None:
    x = torch.tensor([0, 1e-9, 0.1, 1, 5, 30, 100, 500], dtype=torch.float64, requires_grad=True)
    value = gaussian_kernel(x, dim)
    value.sum().backward()
    known = x.detach().numpy()
    assert value.detach().numpy() == pytest.approx(hyp1f1(0.5, dim / 2, -known), rel=1e-12)
    assert x.grad.numpy() == pytest.approx(-hyp1f1(1.5, dim / 2 + 1, -known) / dim, rel=1e-12)


def test_kernel_far_out_follows_its_asymptote() -> None:
    x = torch.tensor([1e5, 1e7, 1e9], dtype=torch.float64)
    known = math.exp(math.lgamma(256) - math.lgamma(255.5)) * x.rsqrt() * (1 + 0.5 * (0.5 - 255) / x)
    assert gaussian_kernel(x, 512).numpy() == pytest.approx(known.numpy(), rel=1e-5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_slices_converge_to_the_exact_form(unbiased: bool) -> None:
    batch, slices, steps = gaussian(64, 48), 64, 200
    exact = exact_sigreg(batch, unbiased=unbiased).item()
    regulariser = SIGReg(slices=slices, unbiased=unbiased)
    errors = np.array([regulariser(batch, step).item() - exact for step in range(steps)]) * math.sqrt(slices)
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(steps)
    assert errors.std() == pytest.approx(0.93, abs=0.15)


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradients_of_both_forms_pass_gradcheck(unbiased: bool) -> None:
    batch = gaussian(5, 3).requires_grad_()
    slices = unit_slices(4, 3, step=0)
    assert torch.autograd.gradcheck(lambda x: sliced_sigreg(x, slices, unbiased=unbiased), (batch,))
    assert torch.autograd.gradcheck(lambda x: exact_sigreg(x, unbiased=unbiased), (batch,))


def test_sliced_form_equals_the_definition_written_out() -> None:
    batch, slices = gaussian(9, 6), unit_slices(7, 6, step=3)
    directions = slices.double().numpy() / np.linalg.norm(slices.double().numpy(), axis=1, keepdims=True)
    t = np.linspace(-5, 5, 17)
    function = np.exp(1j * t[:, None, None] * (batch.numpy() @ directions.T)).mean(1)
    integrand = np.abs(function - np.exp(-(t**2) / 2)[:, None]) ** 2 * np.exp(-(t**2) / 2)[:, None]
    statistic = 9 * np.trapezoid(integrand, t, axis=0).mean()
    assert sliced_sigreg(batch, slices).item() == pytest.approx(statistic, rel=1e-12)


def test_normalised_value_and_gradient_do_not_depend_on_the_size_of_the_batch() -> None:
    batch = gaussian(16, 8).requires_grad_()
    twice = batch.detach().repeat(2, 1).requires_grad_()
    for regulariser in (SIGReg(slices=32, normalise=True), SIGReg(slices=0, normalise=True)):
        batch.grad = twice.grad = None
        one, two = regulariser(batch, 0), regulariser(twice, 0)
        one.backward()
        two.backward()
        assert two.item() == pytest.approx(one.item(), rel=1e-12)
        torch.testing.assert_close(twice.grad[:16] + twice.grad[16:], batch.grad, rtol=1e-10, atol=1e-14)


def test_memory_is_bounded_by_taking_slices_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = gaussian(10, 6).requires_grad_()
    results = []
    for elements in (1 << 22, 30, 1):
        monkeypatch.setattr(sigreg, "CPU_CHUNK_ELEMENTS", elements)
        batch.grad = None
        value = SIGReg(slices=17)(batch, 0)
        value.backward()
        results.append((value.detach(), batch.grad))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-10, atol=1e-14)


def test_slices_are_drawn_once_for_the_columns_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(sigreg, "unit_slices", lambda *given: drawn.append(given) or unit_slices(*given))
    columns = [gaussian(9, 6).float() for _ in range(3)]
    values = [SIGReg(slices=8, seed=77)(column, step) for step in (5, 6) for column in columns]
    assert drawn == [(8, 6, 5, 77), (8, 6, 6, 77)]
    monkeypatch.undo()
    assert values == [sliced_sigreg(column, unit_slices(8, 6, step, 77)) for step in (5, 6) for column in columns]


def test_evaluation_in_inference_mode_leaves_the_training_pass_of_the_same_step_alone() -> None:
    batch, regulariser = gaussian(9, 6).requires_grad_(), SIGReg(slices=8, seed=78)
    with torch.inference_mode():
        evaluated = regulariser(batch, 3).item()
    trained = regulariser(batch, 3)
    trained.backward()
    assert trained.item() == evaluated
    assert batch.grad is not None


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_float32_is_as_exact_as_its_functions(scale: float) -> None:
    batch, slices = scale * gaussian(64, 32), unit_slices(128, 32, step=0)
    exact, found = batch.clone().requires_grad_(), batch.float().requires_grad_()
    expected, value = sliced_sigreg(exact, slices), sliced_sigreg(found, slices)
    expected.backward()
    value.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    error = (found.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 1e-5 * max(1.0, scale)


def test_slices_are_fresh_every_step_and_the_same_for_everyone() -> None:
    first = unit_slices(50, 20, step=1)
    assert torch.equal(first, unit_slices(50, 20, step=1))
    assert first.norm(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    others = [unit_slices(50, 20, step=2), unit_slices(50, 20, step=1, seed=1), unit_slices(50, 20, 1, 1 << 32)]
    for other in others:
        assert (first * other).sum(1).abs().max() < 0.95


@pytest.mark.parametrize("regulariser", [SIGReg(slices=64), SIGReg(slices=0)])
def test_autocast_does_not_lower_the_precision(regulariser: SIGReg) -> None:
    batch = 5 * gaussian(32, 16).float()
    plain = regulariser(batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = regulariser(batch, 0)
        half = regulariser(batch.bfloat16(), 0)
    assert under.dtype == half.dtype == torch.float32
    assert torch.equal(under, plain)
    assert torch.equal(half, regulariser(batch.bfloat16().float(), 0))
    assert plain.item() == pytest.approx(regulariser(batch.double(), 0).item(), rel=1e-5)


def test_batch_512_sees_a_spectrum_that_batch_16_hardly_does() -> None:
    """Expected T of Gaussians in 512 dimensions of which 50 carry all the variance: 1.12 of 16 and 3.34 of 512 rows."""
    scale = torch.zeros(512, dtype=torch.float64)
    scale[:50] = math.sqrt(512 / 50)
    for n, expected, spread in ((16, 1.12, 0.05), (512, 3.34, 0.1)):
        values = [exact_sigreg(gaussian(n, 512, seed) * scale).item() for seed in range(160 // n + 1)]
        assert np.mean(values) == pytest.approx(expected, abs=spread)
