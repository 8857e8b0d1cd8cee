"""Regularisers by the name used in an experiment's configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from harness_training.losses import controls
from harness_training.losses.collectives import gather_rows
from harness_training.losses.factory import make
from harness_training.losses.sigreg import SIGReg


class Regulariser(Protocol):
    """A scalar of one view's embeddings [N, d]; when processes train together, of their joined batch."""

    def __call__(self, embeddings: Tensor, step: int) -> Tensor:
        """``step`` seeds randomness and must be the same in every process."""
        ...


@dataclass(frozen=True, slots=True)
class Control:
    """Regulariser from a function of a batch; gathers the rows of all processes first."""

    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inspect.signature(self.function).bind(None, **self.options)  # TypeError early, not at the first step

    def __call__(self, embeddings: Tensor, step: int) -> Tensor:
        """The function's value; ``step`` is ignored."""
        return self.function(gather_rows(embeddings), **self.options)


REGULARISERS: Mapping[str, Callable[..., Regulariser]] = {
    "sigreg": SIGReg,
    "sigreg-exact": lambda **options: SIGReg(slices=0, **options),
    "mean": lambda **options: Control(controls.mean_removal, options),
    "uniformity": lambda **options: Control(controls.uniformity, options),
    "spread-out": lambda **options: Control(controls.spread_out, options),
    "vicreg": lambda **options: Control(controls.vicreg, options),
}


def make_regulariser(name: str, **options: Any) -> Regulariser:
    """The regulariser of that name; UserError for an unknown name or option."""
    return make("regulariser", REGULARISERS, name, options)
