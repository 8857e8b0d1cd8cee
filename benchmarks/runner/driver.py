"""Controls a competitor's process: sends orders, reads answers, and pauses it while others run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.runner.contest import ROOT, Competitor, Plan

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR", "RAYON")
"""Libraries that take their number of threads from ``NAME_NUM_THREADS``."""


class Unable(Exception):
    """A competitor failed; the message gives the reason."""


class Process:
    """A worker process, stopped (SIGSTOP) between its turns so that it uses no CPU."""

    def __init__(self, competitor: Competitor, plan: Plan, log: Path) -> None:
        python = _python(competitor, plan)
        self._log = log
        self._competitor = competitor
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.runner.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=_environment(plan),
                start_new_session=True,  # own process group, so that its children are stopped and terminated with it
                preexec_fn=_on(plan.threads),
            )
        self._rest = b""

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def load(self, limit: float) -> dict[str, Any]:
        """Load the competitor."""
        given = self._competitor
        return self.ask(limit, do="load", target=given.target, settings=given.settings, packages=given.packages)

    def ask(self, limit: float, **order: Any) -> dict[str, Any]:
        """Send an order and return the answer; `Unable` on failure, exit or timeout (``limit`` seconds)."""
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(limit, str(order["do"])))
        except BrokenPipeError:
            raise Unable(self._end(str(order["do"]))) from None
        self._signal(signal.SIGSTOP)
        if "failed" in answer:
            raise Unable(f"{order['do']}: {answer['failed']}")
        return answer

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _line(self, limit: float, what: str) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + limit
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise Unable(f"{what}: no answer within {limit:,.0f} s")
            if not (more := os.read(self._process.stdout.fileno(), 1 << 16)):
                raise Unable(self._end(what))
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def _end(self, what: str) -> str:
        code = self._process.wait()
        last = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return ": ".join([what, f"it ended with {how}", *last])[:300]


def _python(competitor: Competitor, plan: Plan) -> str:
    """The interpreter of the competitor's environment; `Unable` where it does not exist."""
    if not competitor.environment:
        return sys.executable
    python = plan.peers / competitor.environment / "bin" / "python"
    if not python.exists():
        raise Unable(f"its environment {plan.peers.name}/{competitor.environment} is not made; type: make bench-peers")
    return str(python)


def _environment(plan: Plan) -> dict[str, str]:
    """This environment with the run's number of threads, offline."""
    given = {f"{name}_NUM_THREADS": str(plan.threads) for name in THREADS}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**os.environ, **given, **offline, "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}


def _on(threads: int) -> Any:
    """Restrict a process to this number of cores, for libraries that use all."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cores)
