"""What ``python -m benchmarks`` has besides contests can be reached."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from benchmarks.__main__ import OTHERS
from benchmarks.runner.contest import ROOT


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_has_its_main(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


@pytest.mark.parametrize("words", [["faults", "--only", "clock jump", "--case", "0"], ["soak", "--help"]])
def test_words_reach_it(words: list[str]) -> None:
    program = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
