"""The fault campaign on a small scale: a few cases of every kind that can happen here, and nothing is lost."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

for module in ("faiss", "bm25s", "safetensors"):
    pytest.importorskip(module, reason="the campaign's models need it")

EACH = (
    *("kill at a moment", "kill at a call", "refused write", "flipped bit", "torn file", "swapped records"),
    *("small disk", "clock jump", "8 processes", "two versions", "replaced corpus"),
    *("something else", "another shape", "other names", "--force killed"),
)
HEAVY = [pytest.mark.slow, pytest.mark.timeout(1800)]
RAY = ["ray workers killed", "ray nodes killed", "link cut"]


def campaign(tmp_path: Path, *words: str) -> tuple[dict[str, list[str]], str]:
    """Kind -> its row: cases, faults, survived."""
    command = [sys.executable, "-m", "tests.robustness.faults", "--failures", str(tmp_path / "failures.jsonl"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line][2:]
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "failures.jsonl").exists()
    return {kind: row for kind, *row in rows}, done.stderr


@pytest.mark.parametrize(
    ("kinds", "kills"),
    [
        pytest.param(EACH, "12", id="each"),
        pytest.param(["bomb"], "50", id="bomb", marks=HEAVY),
        pytest.param(["training damaged"], "100", id="training", marks=HEAVY),
        pytest.param(RAY, "40", id="ray", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost(tmp_path: Path, kinds: Sequence[str], kills: str) -> None:
    words = [word for kind in kinds for word in ("--only", kind)]
    rows, told = campaign(tmp_path, "--kills", kills, "--seed", "11", *words)
    assert list(rows) == [*kinds]
    for kind, (cases, _, survived, _) in rows.items():
        if "skipped" not in survived:
            assert survived == f"{cases} / {cases}", (kind, told)
            assert int(cases) >= 1


def test_what_is_lost_is_kept_with_the_command_that_repeats_it(tmp_path: Path) -> None:
    careless = (
        "import sys, harness.results.store, harness.storage.records;"
        "harness.storage.records.opened = harness.storage.records.unsealed;"  # as if records had no checksum
        "from tests.robustness.faults import damage; damage.FILES = {'result': damage.FILES['result']};"
        "damage.flip = lambda data, chance: data.replace(b'\"R@100\": ', b'\"R@100\": 1', 1);"
        "from tests.robustness.faults.__main__ import campaign; campaign(sys.argv[1:])"
    )
    failures = tmp_path / "failures.jsonl"
    words = ["--only", "flipped bit", "--seed", "3", "--case", "8", "--failures", str(failures)]
    done = subprocess.run([sys.executable, "-c", careless, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "| 0 / 1 " in done.stdout
    (kept,) = map(json.loads, failures.read_text().splitlines())
    assert kept["again"] == 'python -m tests.robustness.faults --seed 3 --only "flipped bit" --case 8'
    assert "the report says something else" in kept["wrong"]


@pytest.mark.parametrize("name", ["faults", "fuzz", "soak"])
def test_each_program_says_how_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.setattr("tests.robustness.faults.shim.preload", lambda words: None)  # which starts it again
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(f"tests.robustness.{name}", run_name="__main__")
    assert "usage" in capsys.readouterr().out.lower()
