"""The script for a GPU: its pieces, and a rehearsal on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.gpu import __main__ as program
from benchmarks.gpu.part import Record, Setup
from benchmarks.runner.contest import ROOT

PASSED = {
    "status": "passed",
    "seconds": 1.0,
    "limit": 2,
    "rows": [{"a": 0.5, "share": 0.25}],
    "notes": [],
    "failures": [],
}


def run(setup: Setup, record: Record) -> None:
    """A part of the driver's tests."""
    record.add(program="first", seconds=1.5)
    if setup.device == "slow":
        import time

        time.sleep(60)
    if setup.device == "broken":
        raise RuntimeError("the kernel is missing")


@pytest.mark.parametrize(
    ("device", "seconds", "failure"),
    [
        ("fine", 30, ""),
        ("slow", 10, "it was stopped after its 10 seconds"),
        ("broken", 30, "RuntimeError: the kernel is"),
    ],
)
def test_a_part_keeps_its_rows_whatever_happens(device: str, seconds: int, failure: str, tmp_path: Path) -> None:
    found = program.run_part("tests.benchmarks.test_gpu", Setup(str(tmp_path), device), seconds)
    assert found["rows"] == [{"program": "first", "seconds": 1.5}]
    assert found["status"] == ("failed" if failure else "passed")
    assert " ".join(found["failures"]).startswith(failure)


def test_a_failed_part_stops_no_other_and_sets_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the script asks for it")
    seen: list[str] = []

    def part(name: str, setup: Setup, seconds: float) -> Any:
        seen.append(name)
        return {**PASSED, "status": "failed", "failures": ["no memory"]} if name == "encode" else PASSED

    monkeypatch.setattr(program, "run_part", part)
    words = ["--small", "--device", "cpu", "--output", str(tmp_path)]
    done = CliRunner().invoke(program.main, words)
    assert (done.exit_code, seen) == (1, list(program.PARTS))
    page = (tmp_path / "gpu.md").read_text()
    assert page.count("Passed in 1 s.") == 3
    assert "- failed: no memory" in page
    assert "25.0%" in page
    assert [*json.loads((tmp_path / "gpu.json").read_text())["parts"]] == list(program.PARTS)
    assert CliRunner().invoke(program.main, [*words, "--part", "search"]).exit_code == 0


def test_its_parts_take_less_than_ten_minutes() -> None:
    assert sum(part.seconds for part in program.PARTS.values()) <= 575


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the script asks for it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(program.main, ["--output", str(tmp_path)])
    assert done.exit_code == 2
    assert "rehearse with --small --device cpu" in done.output


def test_weights_in_parts_are_the_float16_of_the_whole(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="models are its folders")
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer

    from benchmarks.gpu import models

    models.random_model("mpnet", tmp_path / "whole", small=True)
    parts = models.split(tmp_path / "whole", tmp_path / "weights" / "mpnet", megabytes=0.02)
    assert len(parts) > 3
    setup = Setup(str(tmp_path / "scratch"), weights=str(tmp_path / "weights"))
    folder, kind = models.model_folder("mpnet", setup)
    assert kind == models.REAL
    assert models.model_folder("mpnet", setup) == (folder, kind)
    exact = load_file(tmp_path / "whole" / models.WEIGHTS)
    for name, value in load_file(folder / models.WEIGHTS).items():
        np.testing.assert_array_equal(value, exact[name].astype(value.dtype))
    model = SentenceTransformer(str(folder), device="cpu")
    for length in (8, 30):
        texts = models.texts_of(model.tokenizer, length, 5)
        assert {len(ids) for ids in model.tokenizer(texts)["input_ids"]} == {length}
    parts[1].write_bytes(parts[1].read_bytes()[::-1])
    with pytest.raises(ValueError, match="damaged"):
        models.join(tmp_path / "weights" / "mpnet", tmp_path / "again")
    parts[2].unlink()
    with pytest.raises(ValueError, match=r"lacks model\.safetensors\.002 of its"):
        models.join(tmp_path / "weights" / "mpnet", tmp_path / "again")


def test_the_searches_find_what_float64_finds() -> None:
    pytest.importorskip("torch", reason="vectors are made on the device")
    pytest.importorskip("faiss", reason="the peer")
    from benchmarks.gpu import search
    from benchmarks.peers import flat

    corpus, centre = search.vectors(500, 8, "cpu")
    asked = search.vectors(6, 8, "cpu", seed=1)[0]
    every = np.linalg.norm(asked[:, None].astype(np.float64) - corpus[None], axis=2)
    np.testing.assert_allclose(centre, corpus.mean(axis=0, dtype=np.float64))
    rows, distances = search.exact(corpus, asked, 20, "cpu")
    np.testing.assert_array_equal(rows, np.argsort(every, axis=1)[:, :20])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :20])
    for peer in (flat.OnDevice(corpus, "cpu"), flat.Torch(corpus, "cpu")):
        found, values = peer.search(asked, 20)
        np.testing.assert_array_equal(np.sort(found), np.sort(rows))
        np.testing.assert_allclose(np.sort(values), distances, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_script_runs_at_toy_size_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="it measures models")
    words = ["bash", "benchmarks/gpu.sh", "--small", "--device", "cpu", "--output", str(tmp_path)]
    given = {**os.environ, "PYTHON": sys.executable, "GPU_SECONDS": "1700"}
    done = subprocess.run(words, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [*found] == list(program.PARTS)
    for part in found.values():
        assert (part["status"], part["failures"]) == ("passed", [])
    assert {(row["model"], row["dtype"], row["passed"]) for row in found["agreement"]["rows"]} == {
        (model, dtype, "yes") for model in ("mpnet", "minilm") for dtype in ("float32", "bfloat16")
    }
    programs = {row["program"] for row in found["encode"]["rows"]}
    assert programs == {"harness, packed", "harness, stock", "sentence-transformers"}
    assert {row["program"] for row in found["train"]["rows"]} >= {"baseline", "isotropy", "frozen"}
