"""The benchmarks that nothing else runs still run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("faiss", reason="the peer")


def test_large_corpora_on_a_small_scale(tmp_path: Path) -> None:
    words = ["--documents", "900,5000", "--queries", "7", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *words], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines() if "|" in line][2:]
    steps = ["open, first time", "open again", "iterate", "search", "IndexFlatL2 (in memory)"]
    assert rows == [[size, step] for size in ("900", "5,000") for step in steps]
    assert list(tmp_path.iterdir()) == []  # it cleans up


def test_reports_on_a_small_scale(tmp_path: Path) -> None:
    words = ["2", "31", "20", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", *words], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 models, 31 datasets, 20 queries each")
    assert done.stdout.count("| harness report --format") == 5
    assert list(tmp_path.iterdir()) == []  # it cleans up
