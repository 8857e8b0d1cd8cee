"""What a training run costs: steps, tokens, seconds, memory and disk. Arithmetic only; docs/planning.md derives it.

A step of full fine-tuning takes three times the operations of a forward pass (forward, and twice that backward), and
four times with cached gradients, whose forward pass runs twice. A frozen base encodes every text once; its steps train
the head alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from harness_training.experiment.schedule import evaluation_steps
from harness_training.experiment.settings import Settings

BACKWARD, CACHED = 3, 4
"""Operations of a training step per token, in forward passes: plain, and with cached gradients."""
STATE = 16
"""Bytes per trained parameter in memory: weight, gradient and AdamW's two moments, in float32."""
ACTIVATIONS = 34
"""Bytes per token, layer and dimension that the backward pass needs in 16 bits (Korthikanti et al. 2022, equation 1,
without attention matrices); twice that in 32 bits."""
PROCESS = 1.0e9
"""Memory of the libraries."""
KEPT = 3
"""Most checkpoints of the trainer on disk at a time (best, newest, one being written), with AdamW's state."""
INITIAL = 10
"""Texts per dimension of the base from which the head is initialised."""


@dataclass(frozen=True, slots=True)
class TrainingSetSize:
    """The size of a training set; None: unknown."""

    rows: int | None
    query_tokens: float
    passage_tokens: float
    negatives: int = 1
    held_out: int = 0
    """Rows of queries held out as dev set."""
    documents: int | None = None
    """Most distinct passages that the rows can have; None: unknown."""

    @property
    def tokens(self) -> float:
        """Tokens of one row."""
        return self.query_tokens + self.passage_tokens * (1 + self.negatives)

    def passages(self, count: int) -> int:
        """Most distinct passages of so many rows."""
        named = count * (1 + self.negatives)
        return named if self.documents is None else min(named, self.documents)

    def distinct_tokens(self, count: int) -> float:
        """Tokens of the distinct texts of so many rows, at most."""
        return count * self.query_tokens + self.passages(count) * self.passage_tokens


@dataclass(frozen=True, slots=True)
class BaseCost:
    """The base: its size, and its speed on the device of the plan."""

    dim: int
    flops_per_token: float
    parameters: int
    forward: float
    """Tokens per second of the forward pass; 0: unknown."""
    training: float
    """Tokens per second of a training step (forward and backward)."""
    step: float
    """Seconds of a step whatever its size: the optimizer's on a processor, the least a step takes on a GPU."""
    head_step: float
    """Seconds of a step that trains the head alone."""
    added: bool = True
    """Whether ``step`` is added, or is the least."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """The cost of one run."""

    experiment: str
    runs: int
    steps: int | None
    tokens: float | None
    """Tokens that pass the base in training steps, or once for a frozen base."""
    seconds: float | None
    """Of one run, without what all runs share."""
    shared_seconds: float
    """Once for all runs: embeddings of the base."""
    memory: float
    disk: float
    """Of all runs."""


def training_cost(name: str, settings: Settings, rows: TrainingSetSize, encoder: BaseCost, runs: int) -> TrainingCost:
    """The cost of an experiment's runs on the encoder's device."""
    unknown = rows.rows is None
    count = max(0, (rows.rows or 0) - rows.held_out)
    count = min(count, settings.limit) if settings.limit else count
    per_epoch = count // settings.batch_size
    steps = per_epoch * settings.epochs
    tokens = rows.distinct_tokens(count) if settings.freeze_base else steps * settings.batch_size * rows.tokens
    initial = (settings.init_texts or INITIAL * encoder.dim) * rows.passage_tokens
    dev = settings.dev_documents * rows.passage_tokens + settings.dev_queries * rows.query_tokens
    shared = _divided(initial + (tokens + dev if settings.freeze_base else 0), encoder.forward)
    seconds = _seconds(settings, encoder, rows, steps, dev)
    head = encoder.dim * (encoder.dim + settings.dim)
    trained = head if settings.freeze_base else encoder.parameters + head
    return TrainingCost(
        experiment=name,
        runs=runs,
        steps=None if unknown else steps,
        tokens=None if unknown else tokens,
        seconds=None if unknown or not encoder.forward else seconds,
        shared_seconds=0.0 if unknown else shared,
        memory=_memory(settings, encoder, rows, count, trained),
        disk=runs * (encoder.parameters + head) * 4 + KEPT * trained * 12,
    )


def _seconds(settings: Settings, encoder: BaseCost, rows: TrainingSetSize, steps: int, dev: float) -> float:
    """Seconds of the steps and of the evaluations on the dev set."""
    evaluations = 1 + steps // max(1, evaluation_steps(settings, steps)) if steps else 0
    if settings.freeze_base:
        return steps * encoder.head_step
    passes = CACHED / BACKWARD if settings.mini_batch_size else 1.0
    step = _divided(settings.batch_size * rows.tokens * passes, encoder.training)
    each = step + encoder.step if encoder.added else max(step, encoder.step)
    return steps * each + evaluations * _divided(dev, encoder.forward)


def _memory(settings: Settings, encoder: BaseCost, rows: TrainingSetSize, count: int, trained: int) -> float:
    """Peak memory: parameters and their state, activations of what is in memory at once, or the base's embeddings."""
    weights = encoder.parameters * 4
    if settings.freeze_base:
        return PROCESS + weights + trained * STATE + (count + rows.passages(count)) * encoder.dim * 4
    layers = ceil(encoder.flops_per_token / (24 * encoder.dim**2)) if encoder.dim else 0
    together = settings.batch_size * rows.tokens
    if settings.mini_batch_size:
        together = settings.mini_batch_size * rows.passage_tokens
    width = 1 if settings.precision in ("bf16", "fp16") else 2
    return PROCESS + trained * STATE + together * ACTIVATIONS * layers * encoder.dim * width


def _divided(tokens: float, speed: float) -> float:
    return tokens / speed if speed else 0.0
