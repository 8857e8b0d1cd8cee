"""A worker pool of processes on this machine: one per GPU, or as many as there are cores for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.distributed.executor import MAX_RESTARTS, Resources, TaskRunner, WorkerEvent, WorkerSpec, WorkerTask
from harness.types import UserError

JOIN_SECONDS = 5.0


class ProcessPool:
    """Spawned processes (a fork would break threads and GPUs), each connected by a pipe."""

    def __init__(self, spec: WorkerSpec, resources: Resources, gpus: Sequence[str]) -> None:
        """Create the pool without starting it.

        Args:
            spec: how to create a worker.
            resources: requested workers, cores and GPUs.
            gpus: GPUs that this process may use (`visible_gpus`).

        Raises:
            UserError: there are fewer GPUs than requested.
        """
        each = len(gpus) and 1 if resources.gpus is None else resources.gpus
        if each not in (0, 1):
            raise UserError(f"A process gets a whole GPU or none, not {each:g}; use --gpus-per-task 0 or 1.")
        if each and not gpus:
            raise UserError("--gpus-per-task asks for a GPU, but this machine has none; omit it.")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.size = resources.workers or (len(gpus) if each else max(1, cores // resources.cpus))
        if each and self.size > len(gpus):
            raise UserError(f"{self.size} workers with one GPU each were requested, but there are {len(gpus)} GPUs.")
        self._spec, self._gpus = spec, list(gpus[: self.size]) if each else []
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[Connection, int] = {}
        self._ends: dict[int, Connection] = {}
        self._starts = [0] * self.size

    def start(self) -> None:
        """Start all processes."""
        for worker in range(self.size):
            self._start(worker)

    def _start(self, worker: int) -> None:
        connection, remote = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(remote, self._spec), daemon=True)
        environment = dict(self._spec.environment)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[worker]
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)  # libraries read it on import, before `_serve` runs
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the process
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        remote.close()
        self._processes[worker], self._ends[worker], self._pipes[connection] = process, connection, worker
        self._starts[worker] += 1

    def send(self, worker: int, task: WorkerTask) -> None:
        """Write the task to the worker's pipe."""
        with suppress(OSError):  # the worker died: wait() will report it
            self._ends[worker].send(task)

    def wait(self, seconds: float) -> list[WorkerEvent]:
        """Read the messages of the workers; EOF on a pipe means that the worker died."""
        events = []
        for pipe in wait(list(self._pipes), seconds):
            assert isinstance(pipe, Connection)
            worker = self._pipes[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                events.append(self._died(worker, pipe))
                continue
            if isinstance(message, int):
                events.append(WorkerEvent("ready", worker, reason=f"process {message}"))
            else:
                events.append(WorkerEvent("done", worker, message))
        return events

    def _died(self, worker: int, pipe: Connection) -> WorkerEvent:
        del self._pipes[pipe]
        pipe.close()
        process = self._processes[worker]
        process.join(JOIN_SECONDS)
        code = process.exitcode
        reason = f"process {process.pid} ended with exit code {code}"
        if code is not None and code < 0:
            reason = f"process {process.pid} was killed by {signal.Signals(-code).name}"
        if self._starts[worker] > MAX_RESTARTS:
            return WorkerEvent("dead", worker, reason=reason)
        self._start(worker)
        return WorkerEvent("lost", worker, reason=reason)

    def stop(self) -> None:
        """Kill all processes; finished work is on disk already."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join(JOIN_SECONDS)
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def _serve(pipe: Connection, spec: WorkerSpec) -> None:
    """Main loop of a worker process. It exits with the main process, also in the middle of a task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the main process handles it
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # only the main process writes results to stdout
    runner = TaskRunner(spec)
    with suppress(EOFError, OSError):
        pipe.send(os.getpid())
        while True:
            pipe.send(runner.perform(pipe.recv()))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
