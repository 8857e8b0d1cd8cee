"""Speed of training steps on this machine, measured and cached as `harness.planning.speed` does."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.runner import Prepared
from harness.planning.speed import cached_measurement, median_seconds, sample_texts, timed
from harness.types import Progress
from harness_training.experiment.settings import Settings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ROWS = 4
"""Rows of the measured step: on a processor its speed depends little on their number."""
ENOUGH = 0.5
"""Least seconds of the measured steps of the head."""
SETTINGS = ("base", "max_seq_length", "batch_size", "dim", "precision", "loss", "regulariser", "slices")
"""Settings on which the speed of a step depends."""
NAMES = ("tokens_per_second", "step_seconds", "head_step_seconds")


def training_speed(base: Prepared, settings: Settings, home: Path, progress: Progress) -> tuple[dict[str, float], bool]:
    """Tokens per second forward and backward, seconds of an optimizer's step, and of a step of the head alone.

    The second forward pass of cached gradients is not in them.

    Returns:
        The measurements by the names in `NAMES`, and whether the machine was otherwise idle.
    """
    tell = partial(progress, f"measuring training steps of {base.label}", 0, 0)
    described = f"training {base.ref.own_key} {[getattr(settings, name) for name in SETTINGS]}"
    return cached_measurement(home, described, NAMES, lambda: _measure(base, settings), tell)


def _measure(base: Prepared, settings: Settings) -> dict[str, float]:
    import torch

    from harness_training.experiment.trainer_args import make_objective
    from harness_training.model.base_embeddings import open_base
    from harness_training.model.head import add_head, head, load_base
    from harness_training.model.unpadded import use_unpadded_forward

    settings = replace(settings, mini_batch_size=0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_base(open_base(base).folder, device, settings.max_seq_length)
    width = int(model.get_embedding_dimension() or 0)
    alone = _head_seconds(settings, width, device)
    add_head(model, head(torch.randn(settings.dim, width) / width**0.5, torch.zeros(settings.dim)))
    use_unpadded_forward(model)
    objective = make_objective(settings, model, 1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    texts = sample_texts(3 * ROWS)
    columns = [model.preprocess(texts[place::3], task=None) for place in range(3)]
    columns = [{key: _on(value, device) for key, value in column.items()} for column in columns]
    tokens = sum(int(column["attention_mask"].sum()) for column in columns)

    def pass_both_ways() -> None:
        with torch.autocast(device, torch.bfloat16) if _narrow(settings, device) else nullcontext():
            loss = sum(objective([dict(column) for column in columns]).values())
        loss.backward()
        _wait(device)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _wait(device)

    pass_both_ways()
    update()  # the moments are made now
    both, step = (median_seconds(work, timed(work)) for work in (pass_both_ways, update))
    return {"tokens_per_second": tokens / both, "step_seconds": step, "head_step_seconds": alone}


def _head_seconds(settings: Settings, width: int, device: str) -> float:
    """Seconds of one step that trains the head alone."""
    import torch
    from sentence_transformers import SentenceTransformer

    from harness_training.experiment.trainer_args import make_objective
    from harness_training.model.head import head

    layers = head(torch.randn(settings.dim, width) / width**0.5, torch.zeros(settings.dim))
    model: SentenceTransformer = SentenceTransformer(modules=layers, device=device)
    objective = make_objective(settings, model, 1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    vectors = torch.randn(3, settings.batch_size, width, device=device)
    count = 1

    def work() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            sum(objective([{"sentence_embedding": column} for column in vectors]).values()).backward()
            optimizer.step()
        _wait(device)

    work()
    seconds = timed(work)
    while seconds < ENOUGH and count < 1 << 10:
        count *= 2
        seconds = timed(work)
    return median_seconds(work, seconds) / count


def _narrow(settings: Settings, device: str) -> bool:
    return settings.precision == "bf16" or (settings.precision == "auto" and device == "cuda")


def _on(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
