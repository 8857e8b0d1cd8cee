"""Control regularisers compared with loops in float64, sentence-transformers and known values."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")

import torch

from harness.types import UserError
from harness_training.losses.controls import mean_removal, spread_out, uniformity, vicreg
from harness_training.losses.regularisers import REGULARISERS, make_regulariser

BATCH = np.random.default_rng(0).standard_normal((7, 5)) * [3, 1, 0.5, 0.2, 0.1] + 0.4


def test_uniformity_equals_the_double_loop() -> None:
    units = BATCH / np.linalg.norm(BATCH, axis=1, keepdims=True)
    terms = [np.exp(-2 * np.sum((units[i] - units[j]) ** 2)) for i in range(7) for j in range(i)]
    assert uniformity(torch.from_numpy(BATCH)).item() == pytest.approx(np.log(np.mean(terms)), rel=1e-12)


def test_uniformity_of_a_gaussian_in_512_dimensions() -> None:
    batch = torch.from_numpy(np.random.default_rng(0).standard_normal((1500, 512)))
    assert uniformity(batch).item() == pytest.approx(-3.984, abs=0.002)


def test_spread_out_equals_the_double_loop() -> None:
    units = BATCH / np.linalg.norm(BATCH, axis=1, keepdims=True)
    cosines = np.array([units[i] @ units[j] for i in range(7) for j in range(7) if i != j])
    expected = cosines.mean() ** 2 + max(0, (cosines**2).mean() - 1 / 5)
    assert spread_out(torch.from_numpy(BATCH)).item() == pytest.approx(expected, rel=1e-12)


def test_spread_out_equals_that_of_sentence_transformers() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    peer = losses.GlobalOrthogonalRegularizationLoss(model=None)
    batch = torch.from_numpy(BATCH).float()
    theirs = sum(term.item() for term in peer.compute_loss_from_embeddings([batch]).values())
    assert spread_out(batch).item() == pytest.approx(theirs, rel=1e-5)


def test_vicreg_equals_its_formula() -> None:
    covariance = np.cov(BATCH, rowvar=False)
    variance = np.mean([max(0, 1 - np.sqrt(covariance[j, j] + 1e-4)) for j in range(5)])
    off = sum(covariance[j, k] ** 2 for j in range(5) for k in range(5) if j != k) / 5
    batch = torch.from_numpy(BATCH)
    assert vicreg(batch).item() == pytest.approx(variance + 0.04 * off, rel=1e-12)
    assert vicreg(batch + 100).item() == pytest.approx(vicreg(batch).item(), rel=1e-9)


def test_mean_removal_sees_the_mean_alone() -> None:
    assert mean_removal(torch.from_numpy(BATCH)).item() == pytest.approx((BATCH.mean(0) ** 2).mean(), rel=1e-12)
    assert mean_removal(torch.from_numpy(BATCH - BATCH.mean(0))).item() < 1e-30


@pytest.mark.parametrize("name", sorted(REGULARISERS))
def test_every_regulariser_has_a_true_gradient_and_full_precision(name: str) -> None:
    regulariser = make_regulariser(name)
    if name != "sigreg":  # 1024 slices; its own test does it with fewer
        batch = torch.from_numpy(BATCH).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: regulariser(x, 0), (batch,), fast_mode=True)
    single = torch.from_numpy(BATCH).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = regulariser(single, 0)
    assert value.dtype == torch.float32
    assert torch.equal(value, regulariser(single, 0))


def test_unknown_names_and_options_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="did you mean sigreg"):
        make_regulariser("sigregg")
    for name, options in (("sigreg", {"slice": 3}), ("mean", {"target": 1}), ("vicreg", {"gamma": 1})):
        with pytest.raises(UserError, match=next(iter(options))):
            make_regulariser(name, **options)
    assert make_regulariser("vicreg", covariance_weight=0.0)(torch.from_numpy(BATCH), 0) < vicreg(
        torch.from_numpy(BATCH)
    )
