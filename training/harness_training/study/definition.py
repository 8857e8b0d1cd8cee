"""What a study file states, and the folder in which a study is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.datasets import catalog
from harness.storage.atomic import sha256_file
from harness_training.experiment.plans import Plan
from harness_training.experiment.settings import Settings, changed

START = "step-0"
"""Name of the untrained start in a study's claims."""
EXPERIMENTS = "isotropy"
"""The registered model whose option ``experiment`` names an experiment that has no model of its own."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """One training set: a folder or file that exists, or the command that makes it."""

    name: str
    path: str = ""
    """Of a set that exists; empty for one that is made."""
    words: tuple[str, ...] = ()
    """Arguments of ``harness`` that make it, without the folder."""
    dataset: str = ""
    """The dataset it is mined from."""
    options: Mapping[str, Any] | None = None
    """As the file states them."""


@dataclass(frozen=True, slots=True)
class Primary:
    """The registered comparison, and the spreads (in points) from which its smallest effect is computed."""

    experiment: str
    against: str
    on: str
    """A dataset, group or suite; empty for the mean over all datasets of the study."""
    measure: str = "nDCG@10"
    over: str = "datasets"
    """What the comparison takes for a sample, as for a claim."""
    query_spread: float = 15.0
    run_spread: float = 0.3
    dataset_spread: float = 1.0


@dataclass(frozen=True, slots=True)
class Study:
    """A study file, read and checked."""

    file: Path
    title: str
    data: tuple[TrainingData, ...]
    experiments: Mapping[str, Settings]
    seeds: int
    dev: str
    """Folder whose split dev selects checkpoints; empty to hold out training queries."""
    baselines: Mapping[str, str]
    """Models that are evaluated as they are: as typed -> label of their results."""
    suites: tuple[str, ...]
    datasets: tuple[str, ...]
    primary: Primary
    claims: tuple[str, ...]
    """Claims files, by name or path."""
    own_claims: tuple[Mapping[str, str], ...]
    """The file's own [[claim]] tables."""
    experiment_models: frozenset[str]
    """Experiments that are registered models."""
    step_0: bool = False
    """Whether the untrained start of the primary experiment is evaluated, too."""

    @property
    def plans(self) -> list[Plan]:
        """Every training run."""
        return [
            Plan(name, f"seed{seed}", changed(settings, {"seed": seed}))
            for name, settings in self.experiments.items()
            for seed in range(settings.seed, settings.seed + self.seeds)
        ]

    @property
    def entries(self) -> tuple[str, ...]:
        """Datasets, groups and folders of the evaluation, each once."""
        of_suites = (entry for suite in self.suites for entry in catalog.suite(suite).datasets)
        return tuple(dict.fromkeys([*of_suites, *self.datasets]))

    def label(self, plan: Plan) -> str:
        """The model that a run is evaluated as, also its label in the results."""
        own = plan.experiment in self.experiment_models
        return (
            f"{plan.experiment}:run={plan.run}" if own else f"{EXPERIMENTS}:experiment={plan.experiment},run={plan.run}"
        )

    @property
    def start(self) -> str:
        """The model at step 0 of the primary experiment's first run."""
        return f"{self.labels(self.primary.experiment)[0]},step=0"

    def labels(self, experiment: str) -> list[str]:
        """The models of an experiment, one per seed."""
        return [self.label(plan) for plan in self.plans if plan.experiment == experiment]

    def registered(self) -> dict[str, Any]:
        """Everything that affects the study's conclusions, by section."""
        return {
            "primary": asdict(self.primary),
            "experiments": {name: {"base": one.base, **one.lasting()} for name, one in self.experiments.items()},
            "seeds": self.seeds,
            "data": {one.name: [one.path, *one.words] for one in self.data},
            "dev": self.dev,
            "models": list(self.baselines),
            "datasets": list(self.entries),
            "claims": {name: sha256_file(path) for name, path in claim_files(self).items()},
            "own claims": [dict(claim) for claim in self.own_claims],
        }


def claim_files(study: Study) -> dict[str, Path]:
    """Name -> file of the claims files."""
    from harness_reports.claims.model import find_claims

    return {Path(text).stem: find_claims(text) for text in study.claims}


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths of a study's folder."""

    path: Path

    @property
    def runs(self) -> Path:
        """Training runs."""
        return self.path / "runs"

    @property
    def results(self) -> Path:
        """Results of the benchmark."""
        return self.path / "results"

    @property
    def suite(self) -> Path:
        """All datasets of the study as a suite."""
        return self.path / "suite.toml"

    @property
    def claims(self) -> Path:
        """The primary comparison and the study's own claims, as a claims file."""
        return self.path / "claims.toml"

    @property
    def registration(self) -> Path:
        """What was registered before the first training."""
        return self.path / "registration.json"

    @property
    def plan(self) -> Path:
        """The plan, made before the first step."""
        return self.path / "plan.json"

    def data(self, one: TrainingData) -> Path:
        """A training set."""
        return Path(one.path) if one.path else self.path / "data" / one.name

    def experiment(self, name: str) -> Path:
        """The file of an experiment."""
        return self.path / "experiments" / f"{name}.toml"
