"""Sweeps on workers: the command line of each run, and messages about failed runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")

from harness.distributed.executor import TaskResult, TaskRunner, WorkerEvent, WorkerSpec, WorkerTask
from harness.types import UserError
from harness_training.experiment.plans import Plan
from harness_training.experiment.settings import Settings
from harness_training.experiment.sweep import Starter, train_by


class Here:
    """A pool of two workers that runs tasks synchronously."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.size, self.runner, self.events = 2, TaskRunner(spec), list[WorkerEvent]()
        self.sent: list[WorkerTask] = []

    def start(self) -> None:
        self.events = [WorkerEvent("ready", 0), WorkerEvent("ready", 1)]

    def send(self, worker: int, task: WorkerTask) -> None:
        self.sent.append(task)
        self.events.append(WorkerEvent("done", worker, self.runner.perform(task)))

    def wait(self, seconds: float) -> list[WorkerEvent]:
        told, self.events = self.events, []
        return told

    def stop(self) -> None:
        pass


def plans(root: Path) -> list[Plan]:
    made = [Plan("baseline", f"seed{seed}", Settings()) for seed in range(3)]
    for plan in made:
        folder = root / plan.experiment / plan.run
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"format": 1, "run": plan.run, "status": "finished"}))
    return made


def test_every_run_is_started_once_with_the_words_that_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def perform(self: Starter, run: Any) -> tuple[int, str]:
        asked.append(run.words)
        return 0, ""

    monkeypatch.setattr(Starter, "perform", perform)
    job: Any = SimpleNamespace(root=tmp_path)
    told: list[str] = []
    records = train_by(Here, plans(tmp_path), job, ["train", "all", "--data", "x"], told.append, threads=1)
    assert asked == [("train", "all", "--data", "x", "--only", f"baseline/seed{seed}") for seed in range(3)]
    assert [record["run"] for record in records] == ["seed0", "seed1", "seed2"]
    assert told == [f"baseline/seed{seed} begins" for seed in range(3)]


def test_a_run_that_cannot_be_started_as_meant_is_told_with_its_own_last_words(tmp_path: Path) -> None:
    job: Any = SimpleNamespace(root=tmp_path)
    told: list[str] = []
    with pytest.raises(UserError, match="Some runs were not trained"):
        train_by(Here, plans(tmp_path)[:1], job, ["train", "nonsense", "--data", "x"], told.append, threads=1)
    assert told[-1].startswith("baseline/seed0: ")
    assert "nonsense" in told[-1]


def test_a_run_over_which_workers_die_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    class Deadly(Here):
        def send(self, worker: int, task: WorkerTask) -> None:
            if "seed1" in task.label:
                self.events += [WorkerEvent("lost", worker, reason="gone astray"), WorkerEvent("ready", worker)]
            else:
                self.events.append(WorkerEvent("done", worker, TaskResult((0, ""))))

    job: Any = SimpleNamespace(root=tmp_path)
    told: list[str] = []
    with pytest.raises(UserError):
        train_by(Deadly, plans(tmp_path), job, ["train"], told.append, threads=1)
    assert [line for line in told if "begins" not in line] == [
        "baseline/seed1: 3 workers died while running baseline/seed1 (last: gone astray)"
    ]
