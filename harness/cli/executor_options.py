"""``--executor`` and the options of its workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.types import UserError

if TYPE_CHECKING:
    from harness.distributed.executor import Resources, WorkerPool, WorkerSpec
    from harness.evaluation.pipeline import Cell

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Executor:
    """The executor that was chosen, and the options of its workers."""

    kind: str
    address: str | None
    workers: int | None
    cpus: int | None
    gpus: float | None

    def log(self, home: Path) -> Path | None:
        """The default log file of the workers; None without workers."""
        return None if self.kind == "in-process" else home / "logs" / "benchmark.jsonl"

    def benchmark(self, plugins: Sequence[Path]) -> Callable[..., Iterator[Cell]]:
        """`harness.evaluation.pipeline.benchmark` or its distributed form; UserError if that cannot run here."""
        if self.kind == "in-process":
            given: dict[str, object] = {"--address": self.address, "--workers": self.workers}
            given |= {"--cpus-per-task": self.cpus, "--gpus-per-task": self.gpus}
            if useless := [name for name, value in given.items() if value is not None]:
                raise UserError(f"{useless[0]} is for workers; add --executor processes or --executor ray.")
            from harness.evaluation.pipeline import benchmark

            return benchmark
        from harness.distributed.benchmark import distributed_benchmark

        return functools.partial(
            distributed_benchmark, make_pool=self._make_pool(), threads=self.cpus or 1, plugins=plugins
        )

    def _make_pool(self) -> Callable[[WorkerSpec], WorkerPool]:
        from harness.distributed.executor import Resources

        resources = Resources(self.workers, self.cpus or 1, self.gpus)
        return self._ray(resources) if self.kind == "ray" else self._processes(resources)

    def _processes(self, resources: Resources) -> Callable[[WorkerSpec], WorkerPool]:
        if self.address is not None:
            raise UserError("--address is for --executor ray; processes run on this machine.")
        from harness.distributed.process_pool import ProcessPool, visible_gpus

        return functools.partial(ProcessPool, resources=resources, gpus=visible_gpus())

    def _ray(self, resources: Resources) -> Callable[[WorkerSpec], WorkerPool]:
        from harness.distributed.ray_pool import RayPool, connect

        owned = connect(self.address)  # now, so that errors are reported before any work
        return functools.partial(RayPool, resources=resources, owned=owned)


def executor_options(command: F) -> F:
    """``--executor`` and the options of workers, passed together as the argument ``executor``."""

    @functools.wraps(command)
    def collected(
        *args: Any,
        executor: str,
        address: str | None,
        workers: int | None,
        cpus_per_task: int | None,
        gpus_per_task: float | None,
        **others: Any,
    ) -> Any:
        chosen = Executor(executor, address, workers, cpus_per_task, gpus_per_task)
        return command(*args, executor=chosen, **others)

    made: Any = collected
    for option in (
        click.option(
            "--gpus-per-task",
            type=click.FloatRange(0),
            help="GPUs of each worker [1 where there are any].",
        ),
        click.option(
            "--cpus-per-task", type=click.IntRange(1), help="Cores of each worker, and threads it computes with [1]."
        ),
        click.option("--workers", type=click.IntRange(1), help="How many [one per GPU, else what the cores allow]."),
        click.option("--address", help="Of the Ray cluster; without it one is started here."),
        click.option(
            "--executor",
            type=click.Choice(["in-process", "processes", "ray"]),
            default="in-process",
            show_default=True,
            help="Who does the work: this process, several of this machine, or a Ray cluster.",
        ),
    ):
        made = option(made)
    return made  # type: ignore[no-any-return]
