"""One of several processes of a training step.

Rows of the joined batch are dealt out unevenly where the loss allows it. Gradients are averaged as
DistributedDataParallel does, and the process of rank 0 writes every figure to FOLDER/RANKS.npz.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from harness_training.losses.objective import Objective
from harness_training.losses.regularisers import make_regulariser
from harness_training.losses.retrieval import make_loss
from tests.training.models import columns_of

ROWS, WIDTH, DIM = 12, 6, 5
EVEN, UNEVEN = (6, 12), (5, 12)
REGULARISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sliced": ("sigreg", {"slices": 20}),
    "sliced unbiased": ("sigreg", {"slices": 20, "unbiased": True, "normalise": True}),
    "exact": ("sigreg-exact", {}),
    "uniformity": ("uniformity", {}),
    "vicreg": ("vicreg", {}),
}
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "infonce": ("infonce", {"gather": True}),
    "infonce learnt": ("infonce", {"gather": True, "learn_scale": True}),
    "cosine": ("cosine", {"gather": True}),
    "triplet": ("triplet", {}),
}


def batch(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def own_rows(rank: int, ranks: int, ends: tuple[int, int]) -> slice:
    return slice(0, ROWS) if ranks == 1 else slice(*((0, ends[0]) if rank == 0 else ends))


def mean_over_ranks(x: Tensor, ranks: int) -> Tensor:
    total = x.detach().clone()
    if ranks > 1:
        dist.all_reduce(total)
    return total / ranks


def regularisers(rank: int, ranks: int) -> Iterator[tuple[str, Tensor, list[Tensor]]]:
    weight = batch(9, WIDTH, DIM).requires_grad_()
    for ends in (EVEN, UNEVEN):
        for name, (kind, options) in REGULARISERS.items():
            weight.grad = None
            value = make_regulariser(kind, **options)(batch(0, ROWS, WIDTH)[own_rows(rank, ranks, ends)] @ weight, 3)
            value.backward()
            yield f"{name} {ends}", value, [weight.grad]


def losses(rank: int, ranks: int) -> Iterator[tuple[str, Tensor, list[Tensor]]]:
    weight = batch(9, WIDTH, DIM).requires_grad_()
    rows = own_rows(rank, ranks, EVEN)
    for name, (kind, options) in LOSSES.items():
        weight.grad = None
        loss = make_loss(kind, **options).double()
        value = loss(*((batch(seed, *shape)[rows] @ weight) for seed, shape in enumerate(shapes())))
        value.backward()
        yield name, value, [weight.grad, *(parameter.grad for parameter in loss.parameters())]


def shapes() -> list[tuple[int, ...]]:
    return [(ROWS, WIDTH), (ROWS, WIDTH), (ROWS, 2, WIDTH)]


def objectives(rank: int, ranks: int, folder: Path) -> Iterator[tuple[str, Tensor, list[Tensor]]]:
    """A full training step of a transformer in DistributedDataParallel."""
    from sentence_transformers import SentenceTransformer

    for size in (None, 4):
        model = SentenceTransformer(str(folder / "model")).double().eval()
        wrapped: Any = model if ranks == 1 else torch.nn.parallel.DistributedDataParallel(model)
        options = {"gather": True, "learn_scale": True}
        objective = Objective(wrapped, loss_options=options, isotropy_weight=1.0, mini_batch_size=size).double()
        loss = objective(columns_of(model, own_rows(rank, ranks, EVEN), count=3))
        value = torch.stack(list(loss.values())).sum()
        value.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        yield f"objective {size}", value, [*gradients, objective.task.log_scale.grad]


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=ranks)
    found: dict[str, np.ndarray] = {}
    sources: list[Callable[[], Iterator[tuple[str, Tensor, list[Tensor]]]]] = [
        lambda: regularisers(rank, ranks),
        lambda: losses(rank, ranks),
        lambda: objectives(rank, ranks, folder),
    ]
    for source in sources:
        for name, value, gradients in source():
            found[f"{name} loss"] = mean_over_ranks(value, ranks).numpy()
            for number, gradient in enumerate(gradients):
                found[f"{name} gradient {number}"] = mean_over_ranks(gradient, ranks).numpy()
    if rank == 0:
        np.savez(folder / f"{ranks}.npz", **found)


def process(rank: int, ranks: int, folder: Path) -> None:
    """`main` in a process of its own."""
    main(rank, ranks, folder)
    # Destroying the process group sometimes hangs: its destructor waits, holding the GIL, for a thread
    # that waits for the GIL (torch 2.13). After the barrier it is safe to exit without it.
    dist.barrier()
    os._exit(0)
