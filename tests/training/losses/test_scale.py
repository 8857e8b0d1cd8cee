"""What a weight means: the objective against LeJEPA's formula written out in numpy, and against other terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers (the train extra)")

import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.types import UserError
from harness_training.experiment.balance import notes
from harness_training.experiment.settings import Settings
from harness_training.experiment.trainer_args import make_objective
from harness_training.losses.objective import Objective
from harness_training.losses.regularisers import make_regulariser
from harness_training.losses.sigreg import PAPER, REPOSITORY, Quadrature, SIGReg, unit_slices
from tests.training.models import build_model, columns_of, texts, write_base

DIM, SLICES = 48, 24
Array = NDArray[np.float64]


def batch(rows: int, scale: float = 1.0) -> list[Tensor]:
    """Queries, positives and negatives off the target: of unequal variances, with a mean."""
    draw = np.random.default_rng(rows)
    spread = scale * np.linspace(1.8, 0.2, DIM)
    return [torch.from_numpy(draw.standard_normal((rows, DIM)) * spread + 0.2).requires_grad_() for _ in range(3)]


def statistic(z: Array, directions: Array, t: Array, weights: Array) -> tuple[float, Array]:
    """LeJEPA's T of one view, the mean over slices, with its factor N; and its gradient."""
    angles = t[:, None, None] * (z @ directions.T)
    gap = np.exp(1j * angles).mean(1) - np.exp(-(t**2) / 2)[:, None]
    value = len(z) * (weights @ np.abs(gap) ** 2).mean()
    along = 2 * np.real(np.conj(gap)[:, None] * 1j * t[:, None, None] * np.exp(1j * angles))
    return value, np.einsum("k,knm,md->nd", weights, along, directions) / len(directions)


def knots(quadrature: Quadrature) -> tuple[Array, Array]:
    """Points and weights of the trapezoid rule on the whole line, with the window."""
    t = np.linspace(-quadrature.reach, quadrature.reach, quadrature.knots)
    weights = np.full(len(t), t[1] - t[0])
    weights[[0, -1]] /= 2
    return t, weights * np.exp(-(t**2) / 2)


@pytest.mark.parametrize("rows", [16, 128, 512])
@pytest.mark.parametrize("quadrature", [PAPER, REPOSITORY], ids=["paper", "repository"])
def test_a_weight_of_lambda_over_one_minus_lambda_is_lejepas_lambda(rows: int, quadrature: Quadrature) -> None:
    lam = 0.05
    columns = batch(rows)
    objective = Objective(
        torch.nn.Identity(),
        isotropy_weight=lam / (1 - lam),
        regulariser_options={"slices": SLICES, "quadrature": quadrature},
    )
    loss = (1 - lam) * objective.on_embeddings(columns)
    loss.backward()

    found = [column.detach().clone().requires_grad_() for column in columns]
    task = (1 - lam) * objective.task(found[0], found[1], found[2][:, None])
    task.backward()
    directions = unit_slices(SLICES, DIM, step=0).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    terms = [statistic(column.detach().numpy(), directions, *knots(quadrature)) for column in columns]
    shares = (1 / 2, 1 / 4, 1 / 4)  # queries and passages count equally
    expected = task.item() + lam * sum(share * value for share, (value, _) in zip(shares, terms, strict=True))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    for column, own, share, (_, gradient) in zip(columns, found, shares, terms, strict=True):
        total = own.grad.numpy() + lam * share * gradient
        assert column.grad.numpy() == pytest.approx(total, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("rows", [16, 128, 512])
def test_a_weight_on_t_over_n_is_the_number_of_rows_times_that_on_t(rows: int) -> None:
    gradients = []
    for scale, weight in (("T", 0.5), ("T-over-N", 0.5 * rows)):
        settings = Settings(sigreg_scale=scale, isotropy_weight=weight, slices=SLICES)
        columns = batch(rows)
        make_objective(settings, torch.nn.Identity(), 1).on_embeddings(columns).backward()  # type: ignore[arg-type]
        gradients.append(torch.cat([column.grad for column in columns]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["mean", "uniformity", "spread-out", "vicreg", "sigreg-exact"])
def test_a_matched_control_starts_with_the_gradient_norm_of_sigreg(name: str) -> None:
    settings = Settings(regulariser=name, match="gradient", isotropy_weight=0.3, slices=SLICES)
    objective = make_objective(settings, torch.nn.Identity(), 1)  # type: ignore[arg-type]
    objective.on_embeddings(batch(16, scale=0.7))

    def gradient_norm(regulariser: Any, weight: float) -> float:
        columns = batch(16, scale=0.7)
        values = [regulariser(column, 0) for column in columns]
        (weight * (values[0] / 2 + values[1] / 4 + values[2] / 4)).backward()
        return float(torch.cat([column.grad for column in columns]).norm())

    reference = gradient_norm(SIGReg(SLICES, seed=settings.seed), 0.3)
    assert gradient_norm(make_regulariser(name), objective.weight) == pytest.approx(reference, rel=1e-9)
    weight = objective.weight
    objective.on_embeddings(batch(32))
    assert objective.weight == weight  # set once


def test_a_control_without_a_gradient_cannot_be_matched() -> None:
    objective = Objective(torch.nn.Identity(), regulariser="spread-out", isotropy_weight=1.0, reference=SIGReg(SLICES))
    orthogonal = torch.eye(DIM, dtype=torch.float64)[:6].requires_grad_()
    with pytest.raises(UserError, match="spread-out has no gradient at the first batch"):
        objective.on_embeddings([orthogonal, orthogonal])


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_measuring_gradients_changes_no_bit_of_them(tmp_path: Path, weight: float, size: int | None) -> None:
    model = build_model(write_base(tmp_path), texts(300), dim=16).eval()
    found = []
    for measures in (False, True):
        objective = Objective(model, isotropy_weight=weight, mini_batch_size=size, regulariser_options={"slices": 16})
        objective.measures_gradients = measures
        model.zero_grad()
        loss = torch.stack(list(objective(columns_of(model, slice(0, 11))).values())).sum()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))

    columns = [model(features)["sentence_embedding"] for features in columns_of(model, slice(0, 11))]
    columns = [column.detach().requires_grad_() for column in columns]
    task = objective.task(columns[0], columns[1], torch.stack(columns[2:], dim=1))
    of_task = torch.cat(torch.autograd.grad(task, columns)).flatten()
    values = [objective.regulariser(column, 0) for column in columns]
    of_term = torch.cat(torch.autograd.grad(values[0] / 2 + sum(values[1:]) / 6, columns)).flatten()
    assert objective.gradients == pytest.approx(
        {
            "task_gradient": of_task.norm().item(),
            "regulariser_gradient": of_term.norm().item(),
            "gradient_share": weight * (of_term.norm() / of_task.norm()).item(),
            "gradient_cosine": torch.nn.functional.cosine_similarity(of_task, of_term, dim=0).item(),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, []),
        ({"isotropy_weight": 1.0, "batch_size": 128}, ["lambda 0.5 of"]),
        ({"isotropy_weight": 1.0}, ["lambda 0.5 of", "set batch_size=128, better 512, with mini_batch_size=16"]),
        ({"isotropy_weight": 1.0, "dim": 48}, ["usual 0.05 is 0.0526 here"]),
        (
            {"isotropy_weight": 1.0, "sigreg_scale": "T-over-N", "dim": 64},
            ["at 16 rows 0.0625 x T): lambda 0.0588 of"],
        ),
        (
            {"isotropy_weight": 1.0, "regulariser": "vicreg", "match": "gradient"},
            ["weight of vicreg is set at the first step", "shows vicreg mean and scale"],
        ),
        ({"isotropy_weight": 1.0, "sigreg_scale": "T-over-N", "dim": 48}, ["usual 0.05 is 0.842 here"]),
        ({"isotropy_weight": 1.0, "regulariser": "mean"}, []),
    ],
)
def test_what_a_weight_means_is_said_before_training(settings: dict[str, Any], said: list[str]) -> None:
    found = list(notes(Settings(**settings)))
    assert len(found) == len(said)
    for note, part in zip(found, said, strict=True):
        assert part in note
