"""``python -m benchmarks.runner.worker``: runs one competitor. Needs only numpy.

Orders are JSON lines on standard input, answers JSON lines on the original standard output; the competitor's own output
goes to standard error. Orders are timed here, without the driver's overhead, and their peak resident memory is reset
at the start (``clear_refs``).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np


class Task(Protocol):
    """Interface of a competitor's class; its construction is the phase ``load``.

    Optional: ``note`` (a sentence below the table), ``ready()`` (untimed, before every round), ``warm()`` (replaces the
    warm-up round), ``answer()`` (untimed, replaces the result of ``work``) and ``peak`` (bytes of a child process, used
    if larger).
    """

    def work(self) -> dict[str, Any] | None:
        """Run one round; returns results by name."""


class Worker:
    """Executes orders."""

    def __init__(self) -> None:
        self._task: Any = None
        self._found: Any = None

    def load(self, target: str, settings: dict[str, Any], packages: list[str]) -> dict[str, Any]:
        """Construct the competitor."""

        def step() -> None:
            module, name = target.split(":")
            self._task = getattr(importlib.import_module(module), name)(**settings)

        figures = self._measured(step)
        return {**figures, "versions": _versions(packages), "note": str(getattr(self._task, "note", ""))}

    def warm(self) -> dict[str, Any]:
        """The warm-up round."""
        self._ready()
        return self._measured(getattr(self._task, "warm", self._task.work))

    def work(self) -> dict[str, Any]:
        """A measured round."""
        self._ready()

        def step() -> None:
            self._found = self._task.work()

        return self._measured(step)

    def answer(self, path: str) -> dict[str, Any]:
        """Write the results."""
        found = self._task.answer() if hasattr(self._task, "answer") else self._found
        np.savez(path, **{name: np.asarray(value) for name, value in (found or {}).items()})
        return {}

    def _measured(self, step: Callable[[], object]) -> dict[str, Any]:
        figures = measured(step)
        return {**figures, "peak": max(figures["peak"], getattr(self._task, "peak", 0))}

    def _ready(self) -> None:
        getattr(self._task, "ready", lambda: None)()


def measured(step: Callable[[], object]) -> dict[str, Any]:
    """Wall seconds, CPU seconds (including children) and peak resident bytes of a step."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    processor, start = _processor(), time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "processor": _processor() - processor, "peak": _peak()}


def _processor() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _peak() -> int:
    """Peak of this process since the last reset."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _versions(packages: list[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def serve(orders: IO[str], answers: IO[str]) -> None:
    """Execute orders until the input ends."""
    worker = Worker()
    for line in orders:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("do"))(**order)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent exits for any reason."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Redirect the streams and serve orders; exits with the driver even while paused."""
    die_with_parent()
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(sys.stderr.fileno(), 1)
    serve(orders, answers)


if __name__ == "__main__":
    main()
