"""Processes forked from one that has imported torch and all else that commands need, once for all tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

LIGHT = (
    *("bm25s", "faiss", "ir_measures", "pandas", "platformdirs", "pyarrow.parquet", "pytrec_eval", "regex", "tabulate"),
    *("rich.progress", "scipy.linalg", "scipy.sparse.linalg", "threadpoolctl", "harness.cli.main"),
    *("harness.cli.benchmark", "harness.evaluation.pipeline", "harness.results.frame", "harness.datasets.acquire"),
    *("harness.system.log_file", "harness_plugins.bm25.scoring"),
)
"""What a benchmark without torch imports."""
HEAVY = (
    *("pytest", "sentence_transformers", "datasets", "accelerate", "transformers"),
    *("harness_plugins.sentence_transformers.encoder", "harness_training.experiment.train"),
)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([*LIGHT, *HEAVY, "tests.warm"])  # what is not installed is left out


def forks() -> ForkServerContext:
    """Starts processes that are forked from one that has imported all this."""
    before = {**os.environ}
    os.environ |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    try:
        ensure_running()  # with this environment
    finally:
        os.environ.clear()
        os.environ.update(before)
    return FORKS


def fork(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Starts a function in a forked process."""
    process = forks().Process(target=target, args=arguments)
    process.start()
    return process


class Forked:
    """A command line of the harness in a forked process; what tests use of ``subprocess.Popen``."""

    def __init__(
        self,
        words: list[object],
        environment: Mapping[str, str] = os.environ,
        folder: Path | None = None,
        setup: Callable[[], object] | None = None,
    ) -> None:
        """Start it in a folder and a session of its own; ``setup`` is called there first."""
        self._place = tempfile.TemporaryDirectory()
        self._files = [Path(self._place.name) / name for name in ("out", "err")]
        for file in self._files:
            file.touch()
        given = [str(word) for word in words], {**environment}, folder or Path.cwd(), self._files, setup
        self._process = fork(_run, *given)
        self.pid = self._process.pid or 0

    @property
    def out(self) -> str:
        """What it has written to stdout."""
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        """What it has written to stderr."""
        return self._files[1].read_text()

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 240) -> int:
        """Its exit code, once it has ended."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"it has not ended after {seconds:.0f} seconds: {self.err}"
        return code

    def finish(self) -> CompletedProcess[str]:
        """Exit code and output, once it has ended."""
        return CompletedProcess((), self.wait(), self.out, self.err)

    def await_line(self, line: str) -> None:
        """Returns when it has written a line to stderr."""
        while line not in self.err.splitlines():
            assert self.poll() is None, self.err
            time.sleep(0.01)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()


def run(words: list[object], environment: Mapping[str, str] = os.environ, **more: Path) -> CompletedProcess[str]:
    """Runs a command line of the harness in a forked process to its end."""
    return Forked(words, environment, **more).finish()


def _run(
    words: list[str], environment: dict[str, str], folder: Path, files: list[Path], setup: Callable[[], object] | None
) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["harness", *words]
    if setup:
        setup()
    from harness.cli.start import main

    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
