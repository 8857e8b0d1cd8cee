"""Benchmarks on several workers, with the same results as in one process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import harness
from harness.datasets.beir import Dataset
from harness.distributed.executor import TaskExecutor, WorkerPool, WorkerSpec
from harness.distributed.scheduler import Scheduler
from harness.distributed.worker import DatasetSource, WorkerJob
from harness.evaluation.pipeline import Cell, Settings, prepare
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.results.store import ResultStore
from harness.storage.regular_files import regular
from harness.system.log import NOTE

log = logging.getLogger("harness")


def distributed_benchmark(
    models: Sequence[ModelRef],
    datasets: Sequence[Dataset],
    settings: Settings,
    make_pool: Callable[[WorkerSpec], WorkerPool],
    *,
    threads: int = 1,
    plugins: Sequence[Path] = (),
) -> Iterator[Cell]:
    """Run `harness.evaluation.pipeline.benchmark` on a worker pool; cells are yielded in the same order.

    The workers must see the dataset folders, the results folder and the home under the same paths.

    Args:
        models: as for `benchmark`.
        datasets: as for `benchmark`.
        settings: as for `benchmark`; the memory limit applies to each worker.
        make_pool: creates the worker pool.
        threads: number of threads of each worker, for numeric libraries.
        plugins: plug-in files that the workers load.

    Raises:
        PluginError: no worker is left. A task that kills several workers only fails its cell.
    """
    settings = replace(settings, sole=len(models) == 1)
    ready = prepare(models, datasets, settings)
    for model in ready:
        if isinstance(model, Prepared):
            model.unload()
            if address := model.ref.endpoint:
                settings.progress(f"{NOTE}{model.label}: texts are sent to {address}", 0, 0)
    scheduler = Scheduler(ready, datasets, settings)
    if scheduler.unfinished:
        job = WorkerJob(
            settings=replace(settings, progress=_silent, results=ResultStore(settings.results.root.resolve())),
            models=tuple(model.ref for model in scheduler.models),
            keys=tuple(model.ref.key for model in scheduler.models),
            datasets=tuple(map(DatasetSource.of, datasets)),
            plugins=tuple((file.resolve(), regular(file).read_bytes()) for file in plugins),
            version=harness.__version__,
        )
        executor = TaskExecutor(make_pool(WorkerSpec("harness.distributed.worker:Worker", job, threads)))
        scheduler.workers = executor.pool.size
        with scheduler:
            for _ in executor.run(scheduler):
                yield from scheduler.finished_cells()
        log.info("benchmark done", extra=scheduler.throughput())
    yield from scheduler.finished_cells()
    settings.progress("", 0, 0)


def _silent(*_: object) -> None:
    """Workers report no progress of their own: the main process does."""
