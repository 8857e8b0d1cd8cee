"""Workers as processes of this machine: one for each GPU, or as many as there are cores for."""

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

from harness.distributed.executor import RESTARTS, Call, Event, Hands, Station, Task
from harness.types import UserError

JOIN_SECONDS = 5.0


class ProcessCrew:
    """Processes started afresh (not forked: threads and GPUs do not survive that), each at the end of a pipe."""

    def __init__(self, call: Call, hands: Hands, gpus: Sequence[str]) -> None:
        """``gpus`` are those that this process may use. UserError where more are asked for than there are."""
        each = len(gpus) and 1 if hands.gpus is None else hands.gpus
        if each not in (0, 1):
            raise UserError(f"A process has a whole GPU or none, not {each:g}; give --gpus-per-task 0 or 1.")
        if each and not gpus:
            raise UserError("--gpus-per-task asks for a GPU, and this machine has none; leave it away.")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.size = hands.workers or (len(gpus) if each else max(1, cores // hands.cpus))
        if each and self.size > len(gpus):
            raise UserError(f"{self.size} workers with a GPU each are asked for, and there are {len(gpus)}.")
        self._call, self._gpus = call, list(gpus[: self.size]) if each else []
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[Connection, int] = {}
        self._ends: dict[int, Connection] = {}
        self._starts = [0] * self.size

    def start(self) -> None:
        """Starts every process."""
        for worker in range(self.size):
            self._start(worker)

    def _start(self, worker: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._call), daemon=True)
        set_here = dict(self._call.environment)
        if self._gpus:
            set_here["CUDA_VISIBLE_DEVICES"] = self._gpus[worker]
        before = {name: os.environ.get(name) for name in set_here}
        os.environ.update(set_here)  # libraries read it while they are imported, before any line of ours runs
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT}
        )  # as it will be in the process, from its birth
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        self._processes[worker], self._ends[worker], self._pipes[ours] = process, ours, worker
        self._starts[worker] += 1

    def send(self, worker: int, task: Task) -> None:
        """Writes the task into the worker's pipe."""
        with suppress(OSError):  # it has died: waiting tells
            self._ends[worker].send(task)

    def wait(self, seconds: float) -> list[Event]:
        """Reads whatever the workers have written; a pipe that ends is a worker's death."""
        events = []
        for pipe in wait(list(self._pipes), seconds):
            assert isinstance(pipe, Connection)
            worker = self._pipes[pipe]
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                events.append(self._died(worker, pipe))
                continue
            ready = isinstance(said, int)
            events.append(Event("ready", worker, reason=f"process {said}") if ready else Event("done", worker, said))
        return events

    def _died(self, worker: int, pipe: Connection) -> Event:
        del self._pipes[pipe]
        pipe.close()
        process = self._processes[worker]
        process.join(JOIN_SECONDS)
        code = process.exitcode
        reason = f"process {process.pid} ended with exit code {code}"
        if code is not None and code < 0:
            reason = f"process {process.pid} was killed by {signal.Signals(-code).name}"
        if self._starts[worker] > RESTARTS:
            return Event("gone", worker, reason=reason)
        self._start(worker)
        return Event("lost", worker, reason=reason)

    def stop(self) -> None:
        """Kills every process: what they have finished is on the disk already."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join(JOIN_SECONDS)
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()


def visible_gpus() -> list[str]:
    """The GPUs this process may use, by number, without asking torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def _serve(pipe: Connection, call: Call) -> None:
    """A worker's life: it ends with its master, however that ends, also in the middle of a task that never does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the master decides
    threading.Thread(target=_end_with_master, daemon=True).start()
    sys.stdout = sys.stderr  # results come from the master alone
    station = Station(call)
    with suppress(EOFError, OSError):
        pipe.send(os.getpid())
        while True:
            pipe.send(station.perform(pipe.recv()))


def _end_with_master() -> None:
    master = multiprocessing.parent_process()
    assert master is not None
    wait([master.sentinel])
    os._exit(1)
