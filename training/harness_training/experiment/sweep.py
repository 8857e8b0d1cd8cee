"""Runs several trainings sequentially, one per GPU, or one per worker of a cluster; finished runs are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.distributed.executor import TaskExecutor, TaskResult, WorkerPool, WorkerSpec, WorkerTask
from harness.types import UserError
from harness_training.experiment.checkpoints import newest
from harness_training.experiment.plans import Plan
from harness_training.experiment.run_record import read_run
from harness_training.experiment.train import Job, train
from harness_training.experiment.trainer import Diverged


def train_all(plans: Sequence[Plan], job: Job, tell: Callable[[str], object]) -> list[dict[str, Any]]:
    """Train all runs in order; diverged runs are reported and recorded as ``failed``.

    Returns:
        The run.json of every run.
    """
    records = []
    for plan in plans:
        try:
            records.append(train(plan, job))
        except Diverged as error:
            run = read_run(job.root, plan)
            kept = f"{found} is kept" if (found := newest(run.steps)) else "no checkpoint was saved before"
            tell(f"{plan.experiment}/{plan.run} failed: {error}; {kept}.")
            records.append(run.record)
    return records


def train_on_gpus(
    plans: Sequence[Plan], job: Job, gpus: Sequence[str], words: Sequence[str], tell: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Like `train_all`, with one process per run on the next free GPU.

    ``words`` is the user's command line, to which ``--only EXPERIMENT/RUN`` is added. UserError, after all have ended,
    where a process failed.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for gpu in gpus:
        free.put(gpu)

    def work(plan: Plan) -> subprocess.CompletedProcess[str]:
        gpu = free.get()
        try:
            tell(f"{plan.experiment}/{plan.run} on GPU {gpu}")
            command = [sys.executable, "-m", "harness", *words, "--only", f"{plan.experiment}/{plan.run}"]
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
            return subprocess.run(
                command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        ended = [(one.returncode, one.stderr) for one in pool.map(work, plans)]
    return _records(plans, job, ended, tell)


def train_by(
    make_pool: Callable[[WorkerSpec], WorkerPool],
    plans: Sequence[Plan],
    job: Job,
    words: Sequence[str],
    tell: Callable[[str], object],
    *,
    threads: int,
) -> list[dict[str, Any]]:
    """Like `train_on_gpus`, with processes started by the workers of a pool, which share the file system."""
    runs = [
        _Run(f"{plan.experiment}/{plan.run}", (*words, "--only", f"{plan.experiment}/{plan.run}")) for plan in plans
    ]
    sweep = _Sweep(runs, tell)
    for _ in TaskExecutor(make_pool(WorkerSpec(f"{__name__}:Starter", str(Path.cwd()), threads))).run(sweep):
        pass
    return _records(plans, job, [sweep.ended_with[run] for run in runs], tell)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run to start."""

    label: str
    words: tuple[str, ...]


class Starter:
    """Starts runs on a worker, in the user's working directory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def perform(self, run: _Run) -> tuple[int, str]:
        """Run the command; returns its exit code and stderr."""
        command = [sys.executable, "-m", "harness", *run.words]
        done = subprocess.run(command, cwd=self._folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        return done.returncode, done.stderr


class _Sweep:
    """The task queue of a sweep: every run once."""

    def __init__(self, runs: Sequence[_Run], tell: Callable[[str], object]) -> None:
        self._todo, self._tell, self._count = deque(runs), tell, len(runs)
        self.ended_with: dict[WorkerTask, tuple[int, str]] = {}

    @property
    def unfinished(self) -> bool:
        return len(self.ended_with) < self._count

    def next_task(self) -> WorkerTask | None:
        if not self._todo:
            return None
        self._tell(f"{self._todo[0].label} begins")
        return self._todo.popleft()

    def task_done(self, task: WorkerTask, result: TaskResult) -> None:
        self.ended_with[task] = result.value or (2, result.fault)


def _records(
    plans: Sequence[Plan], job: Job, ended: Sequence[tuple[int, str]], tell: Callable[[str], object]
) -> list[dict[str, Any]]:
    for plan, (code, said) in zip(plans, ended, strict=True):
        if code:
            last = said.strip().splitlines()[-1:] or [f"exit code {code}"]
            tell(f"{plan.experiment}/{plan.run}: {last[0].removeprefix('harness: ')}")
    if any(code not in (0, 1) for code, _ in ended):
        raise UserError("Some runs were not trained (see above); fix that and run the same command again.")
    return [read_run(job.root, plan).record for plan in plans]
