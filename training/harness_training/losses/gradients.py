"""Gradients of the loss's terms on a batch's embeddings, which is where task and regulariser meet.

They are taken at the embeddings (N x d per column) rather than at the parameters, which would need one more backward
pass through the encoder for each term.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness_training.losses.collectives import sum_over_ranks, world_size


def at_embeddings(term: Tensor, columns: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of a term with respect to every column [B, d], at least float32; the term's graph is kept."""
    found = torch.autograd.grad(term, columns, retain_graph=True, materialize_grads=True)
    return [one.to(torch.promote_types(one.dtype, torch.float32)) for one in found]


def dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Inner product of two gradients of the mean loss, over the columns of all processes."""
    product = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    return float(sum_over_ranks(product.detach())) / world_size() ** 2


def norm(gradient: Sequence[Tensor]) -> float:
    """Euclidean norm of a gradient, over the columns of all processes."""
    return float(dot(gradient, gradient) ** 0.5)
