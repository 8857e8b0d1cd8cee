"""Retrieval losses compared with loops in float64, sentence-transformers and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")

import torch
from torch import Tensor

from harness.types import UserError
from harness_training.losses.retrieval import LARGEST_SCALE, InfoNCE, TripletMargin, make_loss, squared_distances

B, M, D = 5, 3, 8


def embeddings(scale: float = 1.0, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed).standard_normal
    parts = (draw((B, D)), draw((B, D)), draw((B, M, D)))
    query, positive, negatives = (torch.from_numpy(offset + scale * part) for part in parts)
    return query, positive, negatives


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_infonce_equals_the_double_loop(hard: bool, tau: float) -> None:
    query, positive, negatives = embeddings()
    passages = positive.numpy()
    if hard:
        passages = np.concatenate([passages, negatives.numpy().reshape(-1, D)])
    losses = []
    for i, q in enumerate(query.numpy()):
        logits = [-np.sum((q - p) ** 2) / (2 * D * tau) for p in passages]
        losses.append(np.log(np.sum(np.exp(logits))) - logits[i])
    value = InfoNCE(tau)(query, positive, negatives if hard else None)
    assert value.item() == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_cosine_arm_equals_multiple_negatives_ranking(hard: bool) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    query, positive, negatives = embeddings(scale=3)
    columns = [query, positive, *(negatives.unbind(1) if hard else ())]
    peer = losses.MultipleNegativesRankingLoss(model=None, scale=20.0).compute_loss_from_embeddings(columns, None)
    value = make_loss("cosine", tau=0.05)(query, positive, negatives if hard else None)
    assert value.item() == pytest.approx(peer.item(), rel=1e-6)


def test_at_the_target_norm_euclidean_and_cosine_agree() -> None:
    query, positive, negatives = (math.sqrt(D) * torch.nn.functional.normalize(part, dim=-1) for part in embeddings())
    euclidean, cosine = InfoNCE()(query, positive, negatives), InfoNCE(cosine=True)(query, positive, negatives)
    assert euclidean.item() == pytest.approx(cosine.item(), rel=1e-12)


def test_triplet_equals_torchs_and_sentence_transformers() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    query, positive, negatives = embeddings(scale=2)
    margin = 0.1 * math.sqrt(2 * D)
    theirs = [
        torch.nn.functional.triplet_margin_loss(query, positive, negative, margin=margin).item()
        for negative in negatives.unbind(1)
    ]
    assert TripletMargin()(query, positive, negatives).item() == pytest.approx(np.mean(theirs), rel=1e-6)
    peer = losses.TripletLoss(model=None, triplet_margin=2.0)
    theirs = [peer.compute_loss_from_embeddings([query, positive, n], None).item() for n in negatives.unbind(1)]
    assert TripletMargin(2.0)(query, positive, negatives).item() == pytest.approx(np.mean(theirs), rel=1e-6)


@pytest.mark.parametrize("name", ["infonce", "cosine", "triplet"])
def test_gradients_pass_gradcheck_and_stay_finite_at_distance_zero(name: str) -> None:
    loss = make_loss(name)
    parts = [part.requires_grad_() for part in embeddings()]
    assert torch.autograd.gradcheck(loss, parts, fast_mode=True)
    same = torch.ones(B, D, requires_grad=True)
    loss(same, same.clone(), same[:, None].expand(B, M, D)).backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("name", ["infonce", "cosine", "triplet"])
def test_half_precision_embeddings_are_compared_in_full_precision(name: str) -> None:
    loss = make_loss(name)
    half = [part.bfloat16() for part in embeddings()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*half)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*(part.float() for part in half)))


def test_a_common_offset_does_not_eat_the_digits() -> None:
    query, positive, _ = embeddings()
    moved = squared_distances((query + 1000).float(), (positive + 1000).float())
    expected = torch.cdist((query + 1000).float().double(), (positive + 1000).float().double()).square()
    torch.testing.assert_close(moved.double(), expected, rtol=1e-5, atol=1e-4)


def test_a_learnt_scale_starts_at_tau_has_a_gradient_and_is_bounded() -> None:
    parts = embeddings()
    loss = InfoNCE(0.05, learn_scale=True).double()
    value = loss(*parts)
    assert value.item() == pytest.approx(InfoNCE(0.05)(*parts).item(), rel=1e-6)
    value.backward()
    h = 1e-4
    slope = (InfoNCE(0.05 * math.exp(-h))(*parts) - InfoNCE(0.05 * math.exp(h))(*parts)) / (2 * h)
    assert loss.log_scale.grad.item() == pytest.approx(slope.item(), rel=1e-5)
    with torch.no_grad():
        loss.log_scale.fill_(50)
    loss.zero_grad()
    loss(*parts).backward()
    assert loss.scale().item() == pytest.approx(LARGEST_SCALE)
    assert loss.log_scale.grad > 0
    assert not list(InfoNCE().parameters())


def test_mistakes_are_the_users() -> None:
    query, positive, _ = embeddings()
    with pytest.raises(UserError, match="mine some"):
        TripletMargin()(query, positive)
    for tau in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="temperature"):
            InfoNCE(tau)
    with pytest.raises(UserError, match="infonce"):
        make_loss("infonse")
    with pytest.raises(UserError, match="margin"):
        make_loss("infonce", margin=1.0)
