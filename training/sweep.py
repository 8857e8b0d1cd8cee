"""Several runs: one after another, or one per GPU. What is finished is found, so a killed sweep goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from harness.spec import UserError
from training.experiments import Plan
from training.run import read_run
from training.train import Job, train
from training.trainer import Diverged


def train_all(plans: Sequence[Plan], job: Job, tell: Callable[[str], object]) -> list[dict[str, Any]]:
    """run.json of every run, in order; one that diverges is told of, says ``failed``, and the others go on."""
    records = []
    for plan in plans:
        try:
            records.append(train(plan, job))
        except Diverged as error:
            tell(f"{plan.experiment}/{plan.run} failed: {error}; the last good checkpoint is kept.")
            records.append(read_run(job.root, plan).record)
    return records


def train_on_gpus(
    plans: Sequence[Plan], job: Job, gpus: Sequence[str], words: Sequence[str], tell: Callable[[str], object]
) -> list[dict[str, Any]]:
    """As `train_all`, each run a process of its own on the next free GPU.

    ``words`` is the command line that was typed; each process gets it with ``--only EXPERIMENT/RUN``. UserError, once
    all have ended, where one could not be started as it was meant.
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
        ended = list(pool.map(work, plans))
    for plan, one in zip(plans, ended, strict=True):
        if one.returncode:
            last = one.stderr.strip().splitlines()[-1:] or [f"exit code {one.returncode}"]
            tell(f"{plan.experiment}/{plan.run}: {last[0].removeprefix('harness: ')}")
    if any(one.returncode not in (0, 1) for one in ended):
        raise UserError("Some runs were not trained (see above); mend that and run the same command again.")
    return [read_run(job.root, plan).record for plan in plans]
