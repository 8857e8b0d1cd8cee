"""Fault-tolerant execution of tasks on a pool of workers.

Each worker runs one task at a time. The task of a worker that dies is given to another worker. A `TaskQueue` decides
which task comes next and what its result leads to (`harness.distributed.scheduler`). A `WorkerPool` starts the workers
and talks to them (`harness.distributed.process_pool`, `harness.distributed.ray_pool`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from harness.errors import described, trace
from harness.types import ModelError, PluginError, UserError, resolve

MAX_ATTEMPTS = 3
"""A task fails after this many workers have died while running it."""
MAX_RESTARTS = 5
"""Restarts of one worker."""
NO_WORKER_TIMEOUT = 600.0
"""Seconds without a live worker before the run is aborted."""

log = logging.getLogger("harness")


class WorkerTask(Protocol):
    """An immutable, picklable and idempotent unit of work."""

    @property
    def label(self) -> str:
        """Description for messages."""
        ...


class TaskResult(NamedTuple):
    """The result of a task."""

    value: Any = None
    fault: str = ""
    """Why the task failed; empty on success."""
    user_error: bool = False
    """Whether the fault is a UserError, which aborts the whole run."""
    trace: str = ""
    """Traceback of the fault."""


class WorkerEvent(NamedTuple):
    """A change in the state of a worker."""

    kind: Literal["ready", "done", "lost", "dead"]
    """Ready for a first task; finished its task; died and is being restarted; died and is not restarted."""
    worker: int
    result: TaskResult = TaskResult()
    """For "done"."""
    reason: str = ""
    """For "lost" and "dead": why it died. For "ready": where it runs."""


class WorkerPool(Protocol):
    """Workers numbered from 0."""

    size: int

    def start(self) -> None:
        """Start all workers; each sends a "ready" event."""
        ...

    def send(self, worker: int, task: WorkerTask) -> None:
        """Send a task to an idle worker."""
        ...

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        """Wait at most this long and return the events since the last call, possibly none."""
        ...

    def stop(self) -> None:
        """Kill all workers, including busy ones."""
        ...


class TaskQueue(Protocol):
    """Source of tasks and receiver of their results."""

    @property
    def unfinished(self) -> bool:
        """Whether any task is still to be run or running."""
        ...

    def next_task(self) -> WorkerTask | None:
        """Return the next task, or None if none is available yet."""
        ...

    def task_done(self, task: WorkerTask, result: TaskResult) -> None:
        """Process the result of a task, which may make further tasks available."""
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """Number of workers and resources of each; None: decided by what the machine or the cluster has."""

    workers: int | None = None
    cpus: int = 1
    """Cores (and threads) per worker."""
    gpus: float | None = None
    """GPUs per worker."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How to create a worker."""

    target: str
    """``"module:callable"``, called with ``argument``; returns an object with ``perform(task)``."""
    argument: Any
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that must be set before a worker imports any numeric library."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {**dict.fromkeys(names, str(self.threads)), "TOKENIZERS_PARALLELISM": "false"}


class TaskRunner:
    """Worker-side task runner; creates the worker object on the first task and keeps it."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._worker: Any = None

    def perform(self, task: WorkerTask) -> TaskResult:
        """Run the task. Exceptions are converted to strings, which can always be pickled.

        KeyboardInterrupt is converted as well: Ctrl-C is handled by the main process, so a plug-in raised it.
        """
        try:
            self._worker = self._worker or resolve(self._spec.target)(self._spec.argument)
            return TaskResult(self._worker.perform(task))
        except UserError as error:
            return TaskResult(fault=str(error), user_error=not isinstance(error, ModelError), trace=trace(error))
        except PluginError as error:
            return TaskResult(fault=str(error), trace=trace(error))
        except BaseException as error:  # the task has failed; the worker continues
            return TaskResult(fault=described(error), trace=trace(error))


@dataclass(slots=True)
class TaskExecutor:
    """Runs the tasks of a queue on a worker pool until none are left."""

    pool: WorkerPool
    clock: Callable[[], float] = time.monotonic
    running: dict[int, tuple[WorkerTask, float]] = field(default_factory=dict)
    """Worker -> its task and start time."""
    idle: deque[int] = field(default_factory=deque)
    retries: deque[WorkerTask] = field(default_factory=deque)
    """Tasks whose worker died."""
    failures: Counter[WorkerTask] = field(default_factory=Counter)
    """Task -> workers that died while running it."""
    alive: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    last_alive: float = 0.0
    """Last time at which a worker was alive."""

    def run(self, queue: TaskQueue) -> Iterator[None]:
        """Run all tasks, yielding after each round of events. All workers are stopped at the end or on error.

        Raises:
            PluginError: no worker is left.
        """
        try:
            self.last_alive = self.clock()
            self.pool.start()
            while queue.unfinished:
                starved = not self._dispatch(queue)
                for event in self.pool.wait(0.02 if starved else 1.0):
                    self._handle(event, queue)
                self._check_liveness()
                yield
        finally:
            self.pool.stop()

    def _dispatch(self, queue: TaskQueue) -> bool:
        """Send tasks to idle workers; returns whether each of them got one."""
        while self.idle:
            task = self.retries.popleft() if self.retries else queue.next_task()
            if task is None:
                return False
            worker = self.idle.popleft()
            self.running[worker] = task, self.clock()
            self.pool.send(worker, task)
        return True

    def _handle(self, event: WorkerEvent, queue: TaskQueue) -> None:
        worker = event.worker
        if event.kind in ("ready", "done"):
            self.idle.append(worker)
        if event.kind == "ready":
            self.alive.add(worker)
            log.info("worker ready", extra={"worker": worker, "where": event.reason})
        elif event.kind == "done":
            task, start = self.running.pop(worker)
            seconds = round(self.clock() - start, 3)
            entry = {"task": task.label, "worker": worker, "seconds": seconds, "fault": event.result.fault}
            entry |= {"traceback": event.result.trace} if event.result.trace else {}
            log.info("task done", extra=entry)
            queue.task_done(task, event.result)
        else:
            self._handle_worker_lost(event, queue)

    def _handle_worker_lost(self, event: WorkerEvent, queue: TaskQueue) -> None:
        """Retry the task of a dead worker, or fail it after `MAX_ATTEMPTS`."""
        worker = event.worker
        self.alive.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        if event.kind == "dead":
            self.dead.add(worker)
        log.warning("worker lost", extra={"worker": worker, "reason": event.reason, "for_good": event.kind == "dead"})
        task, _ = self.running.pop(worker, (None, 0.0))
        if task is None:
            return
        self.failures[task] += 1
        if self.failures[task] < MAX_ATTEMPTS:
            self.retries.append(task)
            return
        fault = f"{MAX_ATTEMPTS} workers died while running {task.label} (last: {event.reason})"
        queue.task_done(task, TaskResult(fault=fault))

    def _check_liveness(self) -> None:
        now = self.clock()
        if self.alive:
            self.last_alive = now
        elif len(self.dead) == self.pool.size:
            raise PluginError(
                f"All {self.pool.size} workers died {MAX_RESTARTS + 1} times; finished work is kept, so the same "
                f"command resumes."
            )
        elif now - self.last_alive > NO_WORKER_TIMEOUT:
            raise PluginError(
                f"No worker was alive for {NO_WORKER_TIMEOUT:.0f} seconds; finished work is kept, so the same command "
                f"resumes."
            )
