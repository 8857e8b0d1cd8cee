"""How strongly the isotropy term acts beside the retrieval loss: said before training, measured while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from harness_training.experiment.settings import Settings
from harness_training.losses.objective import Objective

FIRST = 10
"""Steps whose gradients are measured at the start; afterwards those of the entries of the loss are."""
ROWS_PER_DIMENSION = 1 / 4
"""Below it one step says little about the spectrum. Where half of 512 dimensions are empty, SIGReg differs from that of
a Gaussian by 0, 0.8, 1.5 and 6.5 standard deviations of a batch of 16, 64, 128 and 512."""
SPECTRAL = ("sigreg", "sigreg-exact", "vicreg")
"""Terms that are meant to act on the spectrum."""


def notes(settings: Settings) -> Iterator[str]:
    """What the isotropy weight means at this batch, and a warning where the batch is too small for the dimension."""
    weight, rows = settings.isotropy_weight, settings.batch_size
    if not weight:
        return
    if settings.match == "gradient":
        yield (
            f"the weight of {settings.regulariser} is set at the first step, to the gradient that SIGReg has at weight "
            f"{weight:g}"
        )
    elif settings.regulariser.startswith("sigreg"):
        per_statistic = weight / rows if settings.sigreg_scale == "T-over-N" else weight
        scale = f"T/N, at {rows} rows {per_statistic:.3g} x T" if settings.sigreg_scale == "T-over-N" else "T"
        yield (
            f"isotropy_weight {weight:g} adds {weight:g} x SIGReg ({scale}): lambda {_lambda(per_statistic):.3g} of "
            f"LeJEPA's (1 - lambda) task + lambda SIGReg, whose usual 0.05 is {_usual(settings):.3g} here"
        )
    if settings.regulariser in SPECTRAL and rows < settings.dim * ROWS_PER_DIMENSION:
        least = 2 ** math.ceil(math.log2(settings.dim * ROWS_PER_DIMENSION))
        yield (
            f"a batch of {rows} shows {settings.regulariser} mean and scale but in one step little of the spectrum of "
            f"{settings.dim} dimensions; set batch_size={least}, better {4 * least}, with mini_batch_size={rows}, "
            f"which takes no more memory"
        )


def _lambda(weight: float) -> float:
    return weight / (1 + weight)


def _usual(settings: Settings) -> float:
    return 0.05 / 0.95 * (settings.batch_size if settings.sigreg_scale == "T-over-N" else 1)


class GradientCallback(TrainerCallback):
    """Has the gradients of task and regulariser measured in the first steps and wherever the loss is logged."""

    def __init__(self, objective: Objective, tell: Callable[[str], None]) -> None:
        self._objective, self._tell = objective, tell
        self._begun = FIRST
        self._measured: list[dict[str, float]] = []
        self.first: dict[str, float] = {}
        """Means over the first steps, and their share; empty before these are done, and in a resumed run."""

    @property
    def matched_weight(self) -> float | None:
        """The weight that was set by ``match``; None before the first step and for other runs."""
        return self._objective.weight if self._objective.reference and self._objective.weight > 0 else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The first steps are measured in a run from its beginning."""
        self._begun = state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Turn the measurement on for this step, or off."""
        step = state.global_step + 1
        logs = [every for every in (args.logging_steps, args.eval_steps, state.max_steps) if every]
        logged = any(step % every == 0 for every in logs)
        self._objective.measures_gradients = logged or step <= FIRST
        self._objective.gradients = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Collect the first steps and report their mean."""
        if self._begun or state.global_step > FIRST:
            return
        self._measured.append(self._objective.gradients)
        if state.global_step == min(FIRST, state.max_steps):
            names = dict.fromkeys(name for one in self._measured for name in one)
            self.first = {name: fmean(one[name] for one in self._measured if name in one) for name in names}
            if (
                "gradient_share" in self.first
            ):  # of the means: single batches with hardly any task gradient do not count
                ratio = self.first["regulariser_gradient"] / self.first["task_gradient"]
                self.first["gradient_share"] = self._objective.weight * ratio
            self._report(len(self._measured))

    def _report(self, steps: int) -> None:
        objective, first = self._objective, self.first
        if objective.isotropy_weight and "gradient_share" in first:
            matched = f" at weight {objective.weight:.3g}" if objective.reference else ""
            self._tell(
                f"the isotropy term{matched} has {first['gradient_share']:.2%} of the task's gradient at the "
                f"embeddings (cosine {first['gradient_cosine']:+.2f}; means of the first {steps} steps)"
            )
