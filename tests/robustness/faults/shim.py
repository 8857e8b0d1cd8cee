"""The preloaded library (``shim.c``): built at run time, switched on in a forked process."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

VARIABLE = "HARNESS_FAULT_SHIM"


class Mode(IntEnum):
    """What happens at the chosen call, as in ``shim.c``."""

    KILL_BEFORE = 1
    KILL_WITHIN = 2
    KILL_AFTER = 3
    FAIL_ONCE = 4
    FAIL_FROM_HERE = 5
    COUNT_ONLY = 6


def preload(words: list[str]) -> None:
    """Starts the campaign anew with the library preloaded; without a C compiler, and the second time, it goes on."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if made := os.environ.pop(VARIABLE, ""):
        shutil.rmtree(made)
        del os.environ["LD_PRELOAD"]
    if made or compiler is None:
        return
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    library = folder / "shim.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    environment = {**os.environ, VARIABLE: str(folder), "LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, "-m", "tests.robustness.faults", *words], environment)


def present() -> bool:
    """Whether the library is in this process."""
    return hasattr(ctypes.CDLL(None), "fault_arm")


def arm(place: Path, mode: Mode, at: int, error: int = 0) -> Callable[[], None]:
    """For `Suite.start`: the fault at the ``at``-th call that changes a file below ``place``."""

    def setup() -> None:
        library = ctypes.CDLL(None)
        library.fault_arm(str(place).encode(), int(mode), ctypes.c_long(at), error)

    return setup


def clock(first: float, second: float, every: int) -> Callable[[], None]:
    """For `Suite.start`: a wall clock off by ``first`` seconds, then by ``second``, in turns of ``every`` calls."""

    def setup() -> None:
        library = ctypes.CDLL(None)
        library.fault_clock(ctypes.c_double(first), ctypes.c_double(second), ctypes.c_long(every))

    return setup


def calls() -> int:
    """How many calls have been counted in this process."""
    return int(ctypes.CDLL(None).fault_count())
