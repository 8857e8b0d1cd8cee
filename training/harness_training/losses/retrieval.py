"""Retrieval losses on embeddings: queries [B, d], positives [B, d] and hard negatives [B, m, d] (or None).

Row i of the positives belongs to query i. Computation is at least float32, regardless of the model's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from harness.types import UserError
from harness_training.losses.collectives import gather_rows, rank, row_counts, sum_over_ranks, world_size
from harness_training.losses.factory import make
from harness_training.losses.precision import full_precision

LARGEST_SCALE = 100.0
"""Upper bound of a learnt 1/tau, as in CLIP (arXiv 2103.00020, sec. 2.5), which prevents a saturated softmax."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 for a [n, d] and b [m, d]: [n, m], smooth everywhere (no root).

    Both sides are centred by the same vector first, which reduces cancellation in float32.
    """
    centre = b.detach().mean(0)
    a, b = a - centre, b - centre
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T


class InfoNCE(nn.Module):
    """Softmax cross-entropy over all passages of the batch, positives and hard negatives.

    Logits are -|q - p|^2 / (2 d tau), ranking by Euclidean distance. Where |q|^2 = |p|^2 = d (SIGReg's target) they
    equal (cos(q, p) - 1)/tau, so tau has its usual meaning: van den Oord et al. (arXiv 1807.03748).
    With ``cosine`` logits are cos(q, p)/tau at any norm: the control, identical to sentence-transformers'
    MultipleNegativesRankingLoss with scale 1/tau.
    """

    def __init__(
        self, tau: float = 0.05, *, cosine: bool = False, learn_scale: bool = False, gather: bool = False
    ) -> None:
        """``learn_scale``: log(1/tau) is a parameter, clamped to [1, 100]. ``gather``: use the batch of all ranks."""
        super().__init__()
        if not (tau > 0 and math.isfinite(tau)):
            raise UserError(f"The temperature tau must be above 0, not {tau:g}; the usual value is 0.05.")
        self.tau, self.cosine, self.gather = tau, cosine, gather
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau))) if learn_scale else None

    def scale(self) -> Tensor | float:
        """1/tau; if learnt, shared by all processes with averaged gradients."""
        if self.log_scale is None:
            return 1 / self.tau
        with torch.no_grad():  # clamp the parameter, not the value, to keep a gradient at the bound
            self.log_scale.clamp_(0, math.log(LARGEST_SCALE))
        return (sum_over_ranks(self.log_scale) / world_size()).exp()

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor | None = None) -> Tensor:
        """Mean cross-entropy over the queries of this process."""
        return self._loss(query, positive, negatives)

    @full_precision
    def _loss(self, query: Tensor, positive: Tensor, negatives: Tensor | None) -> Tensor:
        gather = gather_rows if self.gather else lambda rows: rows
        passages = [gather(positive)]
        if negatives is not None:
            passages.append(gather(negatives.flatten(0, 1)))
        if self.cosine:
            similarities = normalize(query, dim=1) @ normalize(torch.cat(passages), dim=1).T
        else:
            similarities = -squared_distances(query, torch.cat(passages)) / (2 * query.shape[1])
        first = sum(row_counts(positive)[: rank()]) if self.gather else 0
        own = torch.arange(first, first + len(query), device=query.device)
        return cross_entropy(self.scale() * similarities, own)


class TripletMargin(nn.Module):
    """mean max(0, margin + D(q, p) - D(q, n)), D Euclidean: Schroff et al. (arXiv 1503.03832) with unsquared distances.

    Distances between random pairs are about sqrt(2 d) under SIGReg's target, so the default margin is 0.1 sqrt(2 d).
    """

    SMALLEST = 1e-8
    """Added under the root, whose gradient is singular at 0; changes distances by less than 1e-4."""

    def __init__(self, margin: float | None = None) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor | None = None) -> Tensor:
        """Mean over queries and their negatives; UserError when there are none."""
        if negatives is None:
            raise UserError("The triplet loss needs hard negatives; mine some first, or choose the loss infonce.")
        return self._loss(query, positive, negatives)

    @full_precision
    def _loss(self, query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
        margin = 0.1 * math.sqrt(2 * query.shape[1]) if self.margin is None else self.margin
        near = (query - positive).square().sum(-1)
        far = (query[:, None] - negatives).square().sum(-1)
        near, far = (near + self.SMALLEST).sqrt(), (far + self.SMALLEST).sqrt()
        return torch.relu(margin + near[:, None] - far).mean()


LOSSES: Mapping[str, Callable[..., nn.Module]] = {
    "infonce": InfoNCE,
    "cosine": lambda **options: InfoNCE(cosine=True, **options),
    "triplet": TripletMargin,
}


def make_loss(name: str, **options: Any) -> nn.Module:
    """The retrieval loss of that name; UserError for an unknown name or option."""
    return make("loss", LOSSES, name, options)
