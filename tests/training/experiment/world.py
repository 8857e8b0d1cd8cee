"""A tiny base, a training set that can be learnt, and what is needed to train on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.types import Progress
from harness_training.data.triplets import read
from harness_training.experiment.plans import plans
from harness_training.experiment.train import Job
from harness_training.model.base_embeddings import open_base

TINY = {"dim": 16, "epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 5e-3, "eval_steps": 8, "slices": 64}


@dataclass(frozen=True)
class World:
    """A base, a training set, a home."""

    folder: Path

    def job(self, root: Path, base: str = "base", progress: Progress = lambda *_: None) -> Job:
        home = self.folder / "home"
        found = open_base(Prepared(load_registry().model(str(self.folder / base)), home, offline=True))
        return Job(read(self.folder / "pairs.jsonl", home), found, home, root, report_to=(), progress=progress)

    def plan(self, experiment: str, *sweeps: str, seeds: int = 1, **settings: Any) -> Any:
        sets = tuple(f"{name}={value}" for name, value in {**TINY, **settings}.items())
        made = plans(experiment, sets, sweeps, seeds)
        return made if sweeps or seeds > 1 else made[0]


def weights(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        found |= {f"{file.parent.name}/{name}": value for name, value in load_file(file).items()}
    return found


def assert_identical(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
