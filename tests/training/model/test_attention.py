"""Attention with dropout: the formula for given dropped weights, their share, and torch's kernel without any."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")

import torch
from torch.nn.functional import scaled_dot_product_attention

from harness_training.model import attention
from harness_training.model.attention import attend

MASKS = ("none", "bool", "bias")


def inputs(mask: str) -> tuple[list[Any], Any]:
    generator = torch.Generator().manual_seed(3)
    given = [torch.randn(2, 3, 7, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    if mask == "bias":
        return given, torch.randn(1, 3, 7, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    present = torch.arange(7) < torch.tensor([7, 4])[:, None]
    return given, present[:, None, None] if mask == "bool" else None


@pytest.mark.parametrize("mask", MASKS)
def test_values_and_gradients_are_those_of_the_formula(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own attention on weights that its dropout of 0 leaves, times the same zeros and 1 / (1 - p)."""
    given, added = inputs(mask)
    dropped = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0)) < 0.25
    monkeypatch.setattr(attention, "_kept", lambda shape, level: (~dropped).view(torch.int8))
    identity = torch.eye(7, dtype=torch.float64).expand(2, 3, 7, 7)
    weights = scaled_dot_product_attention(given[0], given[1], identity, attn_mask=added, scale=5**-0.5)
    exact = (weights * ~dropped / 0.75) @ given[2]
    found = attend(*given, added, 0.25)
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-12)
    asked = [*given, added] if mask == "bias" else given
    ours, theirs = (torch.autograd.grad(each.square().sum(), asked, retain_graph=True) for each in (found, exact))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_of_dropped_weights_is_the_one_asked_for(share: float) -> None:
    torch.manual_seed(1)
    size, level = torch.Size((1001, 333)), round(share * attention.LEVELS)
    dropped = 1 - attention._kept(size, level).double()
    assert set(dropped.unique().tolist()) == {0, 1}
    assert float(dropped.mean()) == pytest.approx(share, abs=5 * (share * (1 - share) / size.numel()) ** 0.5)
    pairs = (dropped[:, :-1] - share) * (dropped[:, 1:] - share)  # neighbours are not correlated
    assert abs(float(pairs.mean())) < 5 * share * (1 - share) / size.numel() ** 0.5
    torch.manual_seed(1)
    assert torch.equal(1 - attention._kept(size, level).double(), dropped)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_average_it_is_attention_without_dropout(mask: str, dtype: Any) -> None:
    given, added = inputs(mask)
    narrow = [each.detach().to(dtype) for each in given]
    bias = added.detach().to(dtype) if mask == "bias" else added
    exact = scaled_dot_product_attention(*(each.detach() for each in given), attn_mask=added)
    torch.manual_seed(0)
    found = torch.stack([attend(*narrow, bias, 0.2) for _ in range(1000)])
    assert found.dtype == dtype
    torch.testing.assert_close(found.double().mean(0), exact, atol=0.1, rtol=0)


def test_without_dropout_it_is_torchs_kernel() -> None:
    given, _ = inputs("none")
    assert torch.equal(attend(*given, None, 0.0), scaled_dot_product_attention(*given))
