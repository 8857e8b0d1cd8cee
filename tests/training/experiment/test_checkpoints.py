"""Damaged files of a training run are treated as missing or refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("accelerate", reason="training needs accelerate (the train extra)")
pytest.importorskip("datasets", reason="training needs datasets (the train extra)")

import harness.download.local_weights
from harness.registry.manager import load_registry
from harness.types import UserError
from harness_plugins.sentence_transformers.trained import run_at
from harness_training.data.triplets import RECORD, read
from harness_training.experiment.checkpoints import (
    MARK,
    STATE,
    all_in,
    damaged_file,
    is_complete,
    mark_complete,
    newest,
    rotate,
)
from harness_training.experiment.run_record import read_run
from harness_training.experiment.train import train
from tests.forked import fork
from tests.training.experiment.world import World, assert_identical, weights
from tests.training.models import write_base, write_pairs

SHAPES: tuple[Any, ...] = (None, 7, "x", [], [[1, 2]], {}, {"format": None}, {"a": None}, {"a": [1]}, {"a": {"b": 1}})
"""Invalid contents of a state file that are valid JSON."""


def flip(path: Path, at: int | None = None) -> None:
    """Flip the lowest bit of one byte, keeping size and mtime."""
    data, status = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def checkpoint(steps: Path, step: int, best: int | None = None) -> Path:
    folder = steps / f"checkpoint-{step}"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(200)))
    (folder / "deep" / "state").write_bytes(b"optimizer")
    (folder / STATE).write_text(json.dumps({"global_step": step, "best_global_step": best}))
    mark_complete(folder)
    return folder


@pytest.mark.parametrize("file", ["weights", "deep/state", STATE, MARK])
def test_a_damaged_checkpoint_is_as_good_as_absent(file: str, tmp_path: Path) -> None:
    told: list[str] = []
    older, newer = checkpoint(tmp_path, 3), checkpoint(tmp_path, 6)
    assert newest(tmp_path) == newer
    flip(newer / file)
    assert damaged_file(newer)
    assert newest(tmp_path, lambda what, *_: told.append(what)) == older
    assert len(told) == 1
    assert f"{newer}/" in told[0]
    assert "is damaged or missing; the training resumes before checkpoint-6" in told[0]
    assert all_in(tmp_path) == [older]
    flip(older / file)
    assert newest(tmp_path) is None


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_a_checkpoint_whose_best_is_lost_is_not_resumed(what: str, tmp_path: Path) -> None:
    """The best checkpoint becomes the result, so it is trained again."""
    first, best, last = checkpoint(tmp_path, 3, 3), checkpoint(tmp_path, 6, 6), checkpoint(tmp_path, 9, 6)
    assert newest(tmp_path) == last
    flip(best / "weights") if what == "damaged" else shutil.rmtree(best)
    assert newest(tmp_path) == first
    assert not last.exists()


@pytest.mark.parametrize("best", ["/1", "../1", "\0", True, 1e300])
def test_a_best_step_that_is_no_step_is_damage(best: Any, tmp_path: Path) -> None:
    older = checkpoint(tmp_path, 3)
    checkpoint(tmp_path, 6, best)
    assert newest(tmp_path) == older


def test_half_written_ones_are_passed_over_and_earlier_versions_read(tmp_path: Path) -> None:
    old = checkpoint(tmp_path, 3)
    sizes = {"weights": 200, "deep/state": 9, STATE: (old / STATE).stat().st_size}
    (old / MARK).write_text(json.dumps(sizes))
    (checkpoint(tmp_path, 6) / MARK).unlink()
    assert newest(tmp_path, lambda *_: pytest.fail("nothing is damaged")) == old
    rotate(tmp_path, [])
    assert all_in(tmp_path) == [old]


@pytest.mark.parametrize("content", SHAPES, ids=json.dumps)
def test_a_mark_of_another_shape_is_damage(content: Any, tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 3), checkpoint(tmp_path, 6)
    (newer / MARK).write_text(json.dumps(content))
    if content != {}:
        assert not is_complete(newer)
        assert newest(tmp_path) == older


SETTINGS = {"save_steps": 3, "eval_steps": 5, "logging_steps": 1, "learn_scale": "true", "mini_batch_size": 8}


@dataclass(frozen=True)
class Made:
    """A run killed after step 17, in its second epoch, the same run uninterrupted, and their world."""

    world: World
    killed: Path
    whole: Path


def train_until_killed(folder: Path, root: Path) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == 17:
            os.kill(os.getpid(), signal.SIGKILL)

    world = World(folder)
    train(world.plan("isotropy", **SETTINGS), replace(world.job(root), progress=progress))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("world")
    write_base(folder, calm=0.1)
    write_pairs(folder / "pairs.jsonl")
    found = Made(World(folder), folder / "killed", folder / "whole")
    train(found.world.plan("isotropy", **SETTINGS), found.world.job(found.whole))
    process = fork(train_until_killed, folder, found.killed)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return found


@pytest.mark.parametrize("name", ["", "optimizer.pt", "trainer_state.json", "best weights.safetensors"])
def test_a_killed_run_resumed_over_damage_equals_the_uninterrupted_one(name: str, made: Made, tmp_path: Path) -> None:
    plan = made.world.plan("isotropy", **SETTINGS)
    shutil.copytree(made.killed, tmp_path / "runs")
    steps = tmp_path / "runs" / "isotropy" / plan.run / "steps"
    last = newest(steps)
    assert last is not None
    assert last.name == "checkpoint-15"
    assert json.loads((steps.parent / "run.json").read_bytes())["status"] == "running"
    half = shutil.copytree(last, steps / "checkpoint-16")
    (half / "optimizer.pt").write_bytes(b"half")
    step = json.loads((last / STATE).read_bytes())["best_global_step"] if name.startswith("best") else last.name[11:]
    if name:
        flip(steps / f"checkpoint-{step}" / name.removeprefix("best "))
    record = train(plan, made.world.job(tmp_path / "runs"))
    finished = steps.with_name("checkpoint")
    assert_identical(weights(finished), weights(made.whole / "isotropy" / plan.run / "checkpoint"))
    whole, values = read_run(made.whole, plan).record, ("loss", "isotropy_loss", "nDCG@10", "grad_norm")
    for one, other in zip(whole["curves"], record["curves"], strict=True):
        assert [one.get(value) for value in values] == [other.get(value) for value in values]
    assert (record["best_step"], record["dev"]) == (whole["best_step"], whole["dev"])


def test_a_finished_run_is_its_files(made: Made, tmp_path: Path) -> None:
    """Every file that determines the vectors, not only the weights."""
    plan = made.world.plan("isotropy", **SETTINGS)
    run = made.whole / "isotropy" / plan.run
    files = [file.relative_to(run) for file in (run / "checkpoint").rglob("*") if file.is_file()]
    assert len(files) > 6
    for name in files:
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        harness.download.local_weights._hashed.cache_clear()  # as a process of its own begins
        found = load_registry().model(f"isotropy:path={copy}")
        assert found.fingerprint
        flip(copy / name)
        harness.download.local_weights._hashed.cache_clear()
        for model in (f"isotropy:path={copy}", str(copy / "checkpoint")):
            with pytest.raises(UserError, match=r"checkpoint|run\.json"):
                _ = load_registry().model(model).fingerprint
        shutil.rmtree(copy)


def test_records_that_were_damaged_are_refused(made: Made, tmp_path: Path) -> None:
    """run.json and training-set.json with one value changed, still valid JSON."""
    plan = made.world.plan("isotropy", **SETTINGS)
    shutil.copytree(made.whole, tmp_path / "runs")
    file = tmp_path / "runs" / "isotropy" / plan.run / "run.json"
    changed = file.read_text().replace('"seed": 42', '"seed": 43', 1)
    assert json.loads(changed)
    file.write_text(changed)
    with pytest.raises(UserError, match="checksum"):
        read_run(tmp_path / "runs", plan)
    with pytest.raises(UserError, match="checksum"):
        run_at(file.parent).usable()  # type: ignore[union-attr]
    data = read(made.world.folder / "pairs.jsonl", tmp_path / "home")
    record = data.folder / RECORD
    record.write_text(record.read_text().replace('"name": "pairs"', '"name": "pears"', 1))
    with pytest.raises(UserError, match="checksum"):
        read(data.folder, tmp_path / "home")


@pytest.mark.parametrize("content", SHAPES, ids=json.dumps)
def test_records_of_another_shape_are_refused(content: Any, made: Made, tmp_path: Path) -> None:
    plan = made.world.plan("isotropy", **SETTINGS)
    file = tmp_path / "isotropy" / plan.run / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run\.json is not a run's record"):
        read_run(tmp_path, plan)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / RECORD).write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not a record of a training set"):
        read(tmp_path / "set", tmp_path / "home")
