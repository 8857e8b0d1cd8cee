"""Attention with dropout of its weights, on a CPU.

Torch's fused kernel for CPUs has no dropout, and what torch calls instead spends more time on drawing random numbers
and on passes over the weights than on the products. Here a random number has 16 bits, of which the generator draws four
at a time, the weights are multiplied once, and the factor 1 / (1 - p) is applied to the values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

LEVELS = 1 << 16
"""Probabilities are rounded to this many; so is the factor that makes up for them."""


class _Kept(torch.autograd.Function):
    """Multiplies by 0 or 1, in the gradient too; 8-bit integers are the fastest form of these."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return weights * kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept, None


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, drop: float) -> Tensor:
    """As `scaled_dot_product_attention`, with [texts, heads, length, size].

    Args:
        query: Of any floating dtype, like the others.
        key: As query.
        value: As query.
        mask: Bool (True: attended to) or float (added), broadcast to [texts, heads, length, length]; or None.
        drop: Probability that a weight is dropped.
    """
    level = round(drop * LEVELS)
    if not 0 < level < LEVELS or query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.add_(as_added(mask, scores.dtype) if mask.dtype == torch.bool else mask)
    weights = torch.softmax(scores, dim=-1)
    kept: Tensor = _Kept.apply(weights.to(value.dtype), _kept(weights.shape, level))  # type: ignore[no-untyped-call]
    return kept @ (value * (LEVELS / (LEVELS - level)))


def as_added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as numbers to add: 0 where it is True, else -inf."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def _kept(shape: torch.Size, level: int) -> Tensor:
    """int8, 0 with probability ``level`` / `LEVELS`, else 1, from torch's generator."""
    count = shape.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return (drawn.view(torch.int16)[:count] >= level - LEVELS // 2).view(torch.int8).view(shape)
