"""Seconds of a training step of the three experiments at batch 16 and 512: plain, measured, with cached gradients."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.models import model_folder, texts_of
from benchmarks.gpu.part import Record, Setup

MODEL, LENGTHS = "mpnet", (16, 160)
"""The study's base; tokens of a query, and of the longest passage (the shortest has half of them)."""
BATCHES, MINI_BATCH = (16, 512), 64
STEPS = {16: 10, 512: 3}
PEER = "sentence-transformers, MNRL"


def run(setup: Setup, record: Record) -> None:
    """A row for each experiment, batch and kind of step."""
    from harness_training.experiment.plans import plans

    folder, kind = model_folder(MODEL, setup)
    precision = "fp32" if setup.device == "cpu" else "bf16"
    record.note(
        f"{MODEL} with {kind} weights, {precision}; a step is forward, backward, clipping and AdamW on one tokenised "
        f"batch of a query of {LENGTHS[0]} tokens and two passages of {LENGTHS[1] // 2} to {LENGTHS[1]}; medians of 10 "
        f"steps at batch 16 and of 3 at batch 512, after one that does not count"
    )
    record.note(
        f"measured: the gradients of both terms at the embeddings are measured, as in the first steps and wherever the "
        f"loss is logged; cached: gradients are cached, {MINI_BATCH} texts at once; frozen has the head alone, on "
        f"embeddings. *times ours* is {PEER} (stock forward pass, the same texts and optimizer) divided by the baseline"
    )
    every = plans("all", (f"precision={precision}", *(("dim=16", "slices=32") if setup.small else ())), (), 1)
    named = {plan.experiment: plan.settings for plan in every}  # one run of each
    for batch in (4,) if setup.small else BATCHES:
        steps, base = 1 if setup.small else STEPS[batch], None
        for name, settings in named.items():
            for way in ("plain", "measured", "cached"):
                if way == "cached" and (settings.freeze_base or batch == min(BATCHES)):
                    continue
                maker = lambda s=settings, w=way, b=batch: _step(folder, setup, s, b, w)  # noqa: E731
                found = _row(record, setup, name, batch, way, maker, steps, None)
                base = found if (name, way) == ("baseline", "plain") else base
        _row(record, setup, PEER, batch, "plain", lambda b=batch: _stock_step(folder, setup, b), steps, base)


def _row(
    record: Record,
    setup: Setup,
    name: str,
    batch: int,
    way: str,
    maker: Callable[[], Callable[[], None]],
    steps: int,
    base: float | None,
) -> float | None:
    """Measure; returns the seconds, or None where it failed."""
    import torch

    cuda = setup.device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds: float | None = None
    try:
        work, spent = maker(), []
        for _ in range(steps + 1):
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - start)
        seconds = statistics.median(spent[1:])
    except torch.OutOfMemoryError:
        record.note(f"{name}, batch {batch}, {way}: does not fit into the device's memory")
    except Exception as error:
        record.fail(f"{name}, batch {batch}, {way}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    else:
        row: dict[str, Any] = {"program": name, "batch": batch, "step": way, "seconds": seconds}
        row |= {"rows/s": batch / seconds, "times ours": seconds / base if base else None}
        peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        record.add(**row, **{"peak GiB": peak})
    work = None  # type: ignore[assignment]
    gc.collect()
    return seconds


def _columns(model: Any, batch: int, device: str, small: bool) -> list[dict[str, Any]]:
    """Tokenised columns of a batch: queries, positives, negatives."""
    query, longest = (8, 24) if small else LENGTHS
    chance = np.random.default_rng(0)
    columns = [texts_of(model.tokenizer, query, batch)]
    for seed in (1, 2):
        whole = texts_of(model.tokenizer, longest, batch, seed)
        kept = chance.integers(longest // 2, longest + 1, batch) - 2
        columns.append([" ".join(text.split()[:count]) for text, count in zip(whole, kept, strict=True)])
    made = [model.preprocess(texts, task=None) for texts in columns]
    return [
        {key: value.to(device) if hasattr(value, "to") else value for key, value in column.items()} for column in made
    ]


def _step(folder: Path, setup: Setup, settings: Any, batch: int, way: str) -> Callable[[], None]:
    """One step of an experiment."""
    from dataclasses import replace

    import torch
    from sentence_transformers import SentenceTransformer

    from harness_training.experiment.trainer_args import make_objective
    from harness_training.model.head import add_head, head, load_base
    from harness_training.model.unpadded import use_unpadded_forward

    cached = (2 if setup.small else MINI_BATCH) if way == "cached" else 0
    settings = replace(settings, batch_size=batch, mini_batch_size=cached)
    encoder = load_base(folder, setup.device)
    width = int(encoder.get_embedding_dimension() or 0)
    layers = head(torch.randn(settings.dim, width) / width**0.5, torch.zeros(settings.dim))
    if settings.freeze_base:
        model: Any = SentenceTransformer(modules=layers, device=setup.device)
        columns = [{"sentence_embedding": torch.randn(batch, width, device=setup.device)} for _ in range(3)]
    else:
        model = add_head(encoder, layers)
        use_unpadded_forward(model)
        columns = _columns(model, batch, setup.device, setup.small)
    objective = make_objective(settings, model, 1).train()
    objective.measures_gradients = way == "measured"
    return _update(model, lambda: objective(dict(column) for column in columns), setup.device, settings.precision)


def _stock_step(folder: Path, setup: Setup, batch: int) -> Callable[[], None]:
    """One step as sentence-transformers does it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(
        str(folder), device=setup.device, model_kwargs={"dtype": torch.float32}, local_files_only=True
    )
    columns = _columns(model, batch, setup.device, setup.small)
    loss = MultipleNegativesRankingLoss(model).train()
    precision = "fp32" if setup.device == "cpu" else "bf16"
    return _update(model, lambda: loss([dict(c) for c in columns], None), setup.device, precision)


def _update(model: Any, forward: Callable[[], Any], device: str, precision: str) -> Callable[[], None]:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    kind = torch.device(device).type

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16) if precision == "bf16" else nullcontext():
            found = forward()
            loss = sum(found.values()) if isinstance(found, dict) else found
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return work
