"""When a run is evaluated on its dev set."""

from __future__ import annotations

from harness_training.experiment.settings import Settings

EVALUATIONS = 20
"""Default number of evaluations per run."""
APART = 50
"""Minimum steps between two evaluations by default, since an evaluation on a CPU is slow."""


def evaluation_steps(settings: Settings, total: int) -> int:
    """Steps between two evaluations of a run with ``total`` steps."""
    return settings.eval_steps or max(APART, total // EVALUATIONS)
