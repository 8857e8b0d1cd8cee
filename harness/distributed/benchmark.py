"""A benchmark by many workers, with the same results as in one process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import harness
from harness.datasets.beir import Dataset
from harness.distributed.executor import Call, Crew, Foreman
from harness.distributed.scheduler import Schedule
from harness.distributed.worker import Job, Opened
from harness.evaluation.pipeline import Cell, Settings, prepare
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.results.store import ResultStore
from harness.storage.regular_files import regular

log = logging.getLogger("harness")


def benchmark(
    models: Sequence[ModelRef],
    datasets: Sequence[Dataset],
    settings: Settings,
    crew: Callable[[Call], Crew],
    *,
    threads: int = 1,
    plugins: Sequence[Path] = (),
) -> Iterator[Cell]:
    """As `harness.evaluation.pipeline.benchmark`, by the workers of a crew, which must see the folders of datasets and
    results and
    the home under the same paths; cells come in the same order.

    Args:
        models: likewise.
        datasets: likewise.
        settings: likewise; its memory is that of one worker's search.
        crew: makes the crew.
        threads: of each worker, for numeric libraries.
        plugins: files that models come from.

    Raises PluginError when no worker is left. A task over which worker after worker dies fails its cell.
    """
    settings = replace(settings, sole=len(models) == 1)
    ready = prepare(models, datasets, settings)
    for model in ready:
        if isinstance(model, Prepared):
            model.unload()
    schedule = Schedule(ready, datasets, settings)
    if schedule.unfinished:
        job = Job(
            settings=replace(settings, progress=_silent, results=ResultStore(settings.results.root.resolve())),
            models=tuple(model.ref for model in schedule.models),
            keys=tuple(model.ref.key for model in schedule.models),
            datasets=tuple(map(Opened.of, datasets)),
            plugins=tuple((file.resolve(), regular(file).read_bytes()) for file in plugins),
            version=harness.__version__,
        )
        foreman = Foreman(crew(Call("harness.distributed.worker:Worker", job, threads)))
        schedule.workers = foreman.crew.size
        with schedule:
            for _ in foreman.work(schedule):
                yield from schedule.told()
        log.info("benchmark done", extra=schedule.throughput())
    yield from schedule.told()
    settings.progress("", 0, 0)


def _silent(*_: object) -> None:
    """A worker's progress is told by its answers."""
