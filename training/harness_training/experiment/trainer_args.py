"""Maps a run's settings to the objective and to sentence-transformers' TrainingArguments."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments

from harness_training.experiment.run_record import Run
from harness_training.experiment.schedule import evaluation_steps
from harness_training.experiment.settings import Settings
from harness_training.losses.objective import Objective
from harness_training.losses.sigreg import SIGReg

ENTRIES = 100
"""Largest number of losses that a run logs by default; each also measures the gradients of both terms."""


def make_objective(settings: Settings, model: SentenceTransformer, processes: int) -> Objective:
    """The objective; with several processes it is computed over their joint batch."""
    options: dict[str, Any] = {}
    if settings.loss != "triplet":
        options = {"tau": settings.tau, "learn_scale": settings.learn_scale, "gather": processes > 1}
    elif settings.margin:
        options = {"margin": settings.margin}
    sliced: dict[str, Any] = {"slices": settings.slices, "seed": settings.seed}
    regularised = sliced if settings.regulariser == "sigreg" else {}
    if settings.regulariser.startswith("sigreg"):
        regularised = {**regularised, "normalise": settings.sigreg_scale == "T-over-N"}
    return Objective(
        model,
        loss=settings.loss,
        loss_options=options,
        regulariser=settings.regulariser,
        regulariser_options=regularised,
        isotropy_weight=settings.isotropy_weight,
        reference=SIGReg(**sliced) if settings.match == "gradient" else None,
        mini_batch_size=settings.mini_batch_size or None,
    )


def make_arguments(
    run: Run, rows: int, rates: Mapping[str, float], processes: int, report_to: Sequence[str]
) -> SentenceTransformerTrainingArguments:
    """TrainingArguments for this number of rows; ``rates``: parameter name pattern -> learning rate."""
    settings = run.plan.settings
    total = rows // settings.batch_size * settings.epochs
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.logs)
    schedules = {"constant": "constant_with_warmup"}
    return SentenceTransformerTrainingArguments(
        output_dir=str(run.steps),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // processes,
        learning_rate=settings.learning_rate,
        learning_rate_mapping=dict(rates),
        weight_decay=settings.weight_decay,
        warmup_steps=round(settings.warmup * total),
        lr_scheduler_type=schedules.get(settings.schedule, settings.schedule),
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=settings.seed,
        use_cpu=several_cpus() or not torch.accelerator.is_available(),  # otherwise bf16 requires a GPU
        batch_sampler="no_duplicates",
        dataloader_drop_last=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=evaluation_steps(settings, total),
        save_strategy="steps",
        save_steps=settings.save_steps or max(1, total),
        logging_steps=settings.logging_steps or max(1, math.ceil(total / ENTRIES)),
        logging_nan_inf_filter=False,
        metric_for_best_model="nDCG@10",
        greater_is_better=True,
        report_to=list(report_to) or "none",
        run_name=f"{run.plan.experiment}/{run.plan.run}",
        disable_tqdm=True,
    )


def several_cpus() -> bool:
    """Whether training is distributed over CPUs, which accelerate must be told."""
    return "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
