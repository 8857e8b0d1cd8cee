"""Tokens per batch of models that offer a choice, measured when they first encode much on a machine.

The size that is best for one processor is not for another: products of AMX's tiles need more rows to be at their best.
The choice is kept for good with the model's throughput in $HARNESS_HOME, because the last digits of products may differ
with the size of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from harness.errors import plugin_code
from harness.storage.atomic import content_key, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.environment import machine
from harness.system.log import NOTE
from harness.system.processor import threads, watching
from harness.types import DenseModel, HeadModel, Progress, TokenModel, UserError

LEAST_TEXTS = 2048
"""Texts to encode from which a measurement is worth its seconds."""
ROUNDS = 3
TOLERANCE = 1.03
"""The smallest size within this factor of the fastest is chosen."""
WORDS = ("the", "wing", "of", "a", "supersonic", "aircraft", "is", "heated", "by", "friction", "in", "thin", "layers")


@runtime_checkable
class Tunable(TokenModel, Protocol):
    """A token model whose batch size may be chosen."""

    token_budgets: Sequence[int]
    """Sizes to choose from, in tokens, the one to use without a measurement first; a single one is not measured."""
    token_budget: int
    """The size in use."""

    def advice(self) -> str:
        """A sentence about faster options of this model on this processor; empty for none. Asked for once."""
        ...


def tune(model: DenseModel, label: str, key: str, home: Path, texts: int, progress: Progress) -> bool:
    """Set the model's batch size to the fastest on this machine: as recorded, or measured now.

    Nothing is recorded, and the first size is used, if other processes used the processor meanwhile.

    Args:
        model: the loaded model; anything but a `Tunable` with several sizes is left alone.
        label: its name.
        key: hash of all that its vectors depend on.
        home: the record is in its folder throughput.
        texts: how many texts are to be encoded.
        progress: told that something is measured, and the model's advice after it.

    Returns:
        Whether that is settled for this process; false if so few texts were not worth a measurement.
    """
    if not isinstance(model, Tunable) or len(model.token_budgets) < 2:
        return True
    of = {"what": f"tokens per batch of {key}", "machine": machine(), "threads": threads()}
    path = home / "throughput" / f"{content_key(of)[:32]}.json"
    with suppress(OSError, ValueError):
        stated = fields(read_sealed(path), of=dict, tokens=int)
        if stated["of"] == of and stated["tokens"] in model.token_budgets:
            _use(model, stated["tokens"])
            return True
    if texts < LEAST_TEXTS:
        return False
    progress(f"choosing the batch size of {label}", 0, 0)
    with plugin_code(f"{label}: encode_tokens() raised", type(model).__module__), watching() as watch:
        speeds = _tokens_per_second(model)
        advice = model.advice()
    if watch.busy:
        return True
    chosen = min(size for size, speed in speeds.items() if speed * TOLERANCE >= max(speeds.values()))
    _use(model, chosen)
    with suppress(UserError):  # a read-only home costs only time
        figures = {str(size): speed for size, speed in speeds.items()}
        write_json(path, seal({"of": of, "tokens": chosen, "tokens_per_second": figures}))
    if advice:
        progress(f"{NOTE}{label}: {advice}", 0, 0)
    return True


def _use(model: Tunable, tokens: int) -> None:
    model.token_budget = tokens
    if isinstance(model, HeadModel) and isinstance(model.base, Tunable):
        model.base.token_budget = tokens


def _tokens_per_second(model: Tunable) -> dict[int, float]:
    """Size -> median speed on batches of equal texts of 16, 64 and 256 words."""
    words = [" ".join((WORDS * 20)[:count]) for count in (16, 64, 256)]
    texts = model.tokenize(words, role="document")
    sizes = [*model.token_budgets]
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    total = 3 * max(sizes)
    for _ in range(ROUNDS):
        for size in sizes:
            start = time.perf_counter()
            for text in texts:
                for _ in range(max(sizes) // size):
                    model.encode_tokens([text] * max(1, size // len(text)), role="document")
            seconds[size].append(time.perf_counter() - start)
    return {size: total / float(np.median(spent)) for size, spent in seconds.items()}
