"""Smoke tests of the other benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("faiss", reason="the peer")


def test_large_corpora_on_a_small_scale(tmp_path: Path) -> None:
    words = ["--documents", "900", "--queries", "7", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.studies.scale", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines() if "|" in line][2:]
    steps = ["open, first time", "open again", "iterate", "search", "IndexFlatL2 (in memory)"]
    assert rows == [["900", step] for step in steps]
    assert list(tmp_path.iterdir()) == []  # it cleans up


def test_reports_on_a_small_scale(tmp_path: Path) -> None:
    words = ["2", "31", "20", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.studies.report", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 models, 31 datasets, 20 queries each")
    assert done.stdout.count("| harness report --format") == 5
    assert list(tmp_path.iterdir()) == []  # it cleans up


def test_a_profile_of_encoding_accounts_for_the_whole(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="it profiles an encoder")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from benchmarks.studies.profile import PARTS, run
    from harness.models.runner import Prepared
    from harness.registry.manager import load_registry
    from harness_plugins.forward.unpadded import UnpaddedModel
    from tests.tiny import DIM, transformer

    modules = [transformer(tmp_path / "base", "mpnet"), Pooling(DIM, "mean")]
    SentenceTransformer(modules=modules).save(str(tmp_path / "model"))
    own = UnpaddedModel._attend
    model = Prepared(load_registry().model(f"{tmp_path / 'model'}:forward=packed,device=cpu"), tmp_path)
    parts, operations, whole, tally = run(model, ["the heart pumps blood", "moon", "red planet " * 9])
    assert set(PARTS) < set(parts)
    assert min(parts.values()) >= 0
    assert sum(parts.values()) == pytest.approx(whole)
    assert tally.texts == 3
    assert any(name.endswith(("_linear_pointwise", "addmm")) for name, *_ in operations)
    assert UnpaddedModel._attend is own  # restored
