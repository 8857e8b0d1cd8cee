"""Training runs on a tiny model: learning, exact resuming and error messages."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("accelerate", reason="training needs accelerate (the train extra)")
pytest.importorskip("datasets", reason="training needs datasets (the train extra)")

from safetensors import SafetensorError
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from harness.storage.records import read_sealed
from harness.types import UserError
from harness_training.data.memory import split
from harness_training.experiment import checkpoints, dev_set
from harness_training.experiment import train as training_run
from harness_training.experiment import trainer as training_trainer
from harness_training.experiment.run_record import Run
from harness_training.experiment.sweep import train_all
from harness_training.experiment.train import train
from harness_training.experiment.trainer import Diverged
from harness_training.experiment.trainer_args import make_arguments
from harness_training.model.unpadded import use_unpadded_forward
from tests.conftest import ROOT
from tests.forked import Forked
from tests.training.experiment.world import TINY, World, weights


@pytest.mark.parametrize("experiment", ["baseline", "isotropy", "frozen"])
def test_each_experiment_learns_without_padding_and_leaves_a_stock_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    unpadded: list[bool] = []
    monkeypatch.setattr(
        training_run, "use_unpadded_forward", lambda model: unpadded.append(use_unpadded_forward(model))
    )
    plan, job = world.plan(experiment, epochs=4), world.job(tmp_path)
    record = train(plan, job)
    assert unpadded == ([] if experiment == "frozen" else [True])
    folder = tmp_path / experiment / plan.run
    assert read_sealed(folder / "run.json") == record
    measured = [entry for entry in record["curves"] if "nDCG@10" in entry]
    assert [entry["step"] for entry in measured] == [0, 8, 16, 24, 32, 40, 44]
    assert record["dev"]["nDCG@10"] == max(entry["nDCG@10"] for entry in measured[1:]) > measured[0]["nDCG@10"] + 0.1
    assert record["status"] == "finished"
    assert record["steps"] == 44
    assert record["trained_on"] == ["pairs"]
    assert not (folder / "steps").exists()
    losses = [entry["task_loss"] for entry in record["curves"] if "task_loss" in entry]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert all("regulariser" in entry for entry in record["curves"] if "loss" in entry)

    loaded = SentenceTransformer(str(folder / "checkpoint"), device="cpu", trust_remote_code=False)
    assert loaded.similarity_fn_name == "euclidean"
    held = dev_set.held_out(split(job.rows, plan.settings), plan.settings)
    again = held.measure(lambda texts, role: loaded.encode(texts, show_progress_bar=False))
    assert again["nDCG@10"] == pytest.approx(record["dev"]["nDCG@10"], abs=1e-6)
    assert again["isotropy"] == pytest.approx(record["dev"]["isotropy"], abs=1e-3)

    before = weights(world.folder / "base")
    after = {name: value for name, value in weights(folder / "checkpoint").items() if name.startswith("checkpoint/")}
    same = [np.array_equal(value, after[f"checkpoint/{name.split('/')[1]}"]) for name, value in before.items()]
    assert all(same) if experiment == "frozen" else not any(same[:3])


def test_bfloat16_trains_on_a_processor_too(world: World, tmp_path: Path) -> None:
    record = train(world.plan("baseline", epochs=4, precision="bf16"), world.job(tmp_path))
    measured = [entry["nDCG@10"] for entry in record["curves"] if "nDCG@10" in entry]
    assert record["settings"]["precision"] == "bf16"
    assert record["dev"]["nDCG@10"] > measured[0] + 0.1


def test_held_out_queries_are_not_trained_on(world: World, tmp_path: Path) -> None:
    job, plan = world.job(tmp_path), world.plan("baseline")
    parted = split(job.rows, plan.settings)
    assert len(parted.dev) == 20
    assert len(parted.train) == 180
    assert not set(parted.dev.ids[:, 0].tolist()) & set(parted.train.ids[:, 0].tolist())
    few = split(job.rows, replace(plan.settings, limit=50, seed=1))
    assert (few.dev.ids == parted.dev.ids).all()
    assert (few.train.ids == parted.train.ids[:50]).all()


def test_the_weight_does_what_it_promises(world: World, tmp_path: Path) -> None:
    """The term leads to mean 0 and variance 1 per dimension; without it, training does not."""
    job, spread = world.job(tmp_path), {}
    texts = job.rows.text(sorted(set(job.rows.ids[:, 1:].ravel().tolist())))
    common = {
        "epochs": 60,
        "head_learning_rate": 1e-2,
        "batch_size": 64,
        "init": "pca-rotation",
        "eval_steps": 1000,
        "tau": 1,
    }
    for weight in (0, 100):
        plan = world.plan("frozen", isotropy_weight=weight, **common)  # one measurement: the last step is the best
        train(plan, job)
        model = SentenceTransformer(str(tmp_path / "frozen" / plan.run / "checkpoint"), device="cpu")
        vectors = model.encode(texts, show_progress_bar=False)
        spread[weight] = (np.square(vectors.mean(0)).mean(), np.abs(vectors.var(0) - 1).mean())
    assert spread[100][0] < 0.05
    assert spread[100][1] < 0.35
    assert spread[0][1] > 2 * spread[100][1]


def test_cached_gradients_train_the_same(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.folder / "base", world.folder / "dry", dirs_exist_ok=True)
    file = world.folder / "dry" / "config.json"
    dry = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    file.write_text(json.dumps(json.loads(file.read_bytes()) | dry))
    made = []
    for size in (0, 8):
        plan = world.plan("isotropy", batch_size=64, mini_batch_size=size, learning_rate=1e-4)
        train(plan, world.job(tmp_path, "dry"))
        made.append(weights(tmp_path / "isotropy" / plan.run / "checkpoint"))
    moved = weights(world.folder / "base")
    assert any(np.abs(value - made[0][f"checkpoint/{name[5:]}"]).max() > 1e-4 for name, value in moved.items())
    for name, value in made[0].items():
        np.testing.assert_allclose(made[1][name], value, atol=2e-5, err_msg=name)


def test_a_sweep_goes_on_after_what_is_finished(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.plan("frozen", "isotropy_weight=0,0.5", seeds=2, epochs=1)
    named = [{part for part in plan.run.split(",") if part[:4] in ("isot", "seed")} for plan in made]
    assert named == [{f"isotropy_weight={w}", f"seed{s}"} for w in ("0", "0.5") for s in (42, 43)]
    job = world.job(tmp_path)
    first = train_all(made[:1], job, print)
    begun: list[str] = []
    real = training_run._train
    monkeypatch.setattr(training_run, "_train", lambda run, *rest: begun.append(run.plan.run) or real(run, *rest))
    second = train_all([made[0], made[3]], job, print)
    assert begun == [made[3].run]
    assert second[:1] == first
    assert len({record["checkpoint_key"] for record in second}) == 2


def test_a_loss_that_is_no_number_ends_the_run(world: World, tmp_path: Path) -> None:
    plan, job = world.plan("baseline", head_learning_rate=1e30, save_steps=1), world.job(tmp_path)
    with pytest.raises(Diverged, match=r"NaN or infinite at step \d+"):
        train(plan, job)
    folder = tmp_path / "baseline" / plan.run
    record = json.loads((folder / "run.json").read_bytes())
    assert record["status"] == "failed"
    assert "at step" in record["reason"]
    kept = checkpoints.newest(folder / "steps")
    assert kept is not None
    assert all(np.isfinite(value).all() for value in load_file(kept / "weights.safetensors").values())
    assert not (folder / "checkpoint").exists()


def test_a_full_disk_keeps_the_checkpoint_before(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, job = world.plan("frozen"), world.job(tmp_path)
    real, calls = training_trainer.save_file, []

    def full(weights: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(weights, path)

    monkeypatch.setattr(training_trainer, "save_file", full)
    with pytest.raises(UserError, match=r"step 16 could not be written .*No space left.*the one of step 8 is kept"):
        train(plan, job)
    kept = checkpoints.newest(tmp_path / "frozen" / plan.run / "steps")
    assert kept is not None
    assert kept.name == "checkpoint-8"
    resumed = train(plan, job)
    whole = train(plan, world.job(tmp_path / "whole"))
    assert resumed["checkpoint_key"] == whole["checkpoint_key"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "isotropy_weight=-1"], "-1 is below 0"),
        (["--set", "isotropy_wight=1"], "did you mean isotropy_weight"),
        (["--set", "loss=nce"], "is not one of infonce"),
        (["--sweep", "batch_size="], "names no values"),
        (["--set", "dim=33"], "33 dimensions does not fit"),
        (["--set", "batch_size=500"], "fewer than the batch of 500"),
        (["--set", "precision=fp16"], "on a GPU only"),
        (["--data", "lacking.jsonl"], "lacks the column positive"),
        (["--dev", "scifact"], "one of BEIR's test sets"),
        (["--base", "bm25"], "no weights to train"),
        (["--report-to", "nothing"], "nothing is not supported"),
        (["--data", "nowhere"], "no training set nowhere"),
    ],
)
def test_mistakes_are_one_sentence(world: World, harness, tmp_path: Path, words: list[str], sentence: str) -> None:
    (tmp_path / "lacking.jsonl").write_text('{"query": "a", "negative": "b"}\n')
    (tmp_path / "scifact").mkdir()
    tiny = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    data = ["--data", world.folder / "pairs.jsonl", "--base", world.folder / "base"]
    done = harness("train", "baseline", *data, *tiny, "--offline", *words)
    assert done.code == 2, done.err
    said = [line for line in done.err.splitlines() if line.startswith("harness: ")]
    assert len(said) == 1
    assert sentence in said[0]


def test_a_run_of_other_settings_is_not_resumed(world: World, harness, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    words = ["train", mine, "--data", world.folder / "pairs.jsonl", "--base", world.folder / "base", "--json"]
    lines = [f"{name} = {value}" for name, value in TINY.items()]
    mine.write_text("\n".join([*lines, "freeze_base = true\n"]))
    first = harness(*words)
    assert first.code == 0, first.err
    [record] = json.loads(first.out)
    assert (record["experiment"], record["run"]) == ("mine", "base=base,seed42")
    assert (tmp_path / "runs" / "mine" / record["run"] / "logs").is_dir()
    assert [json.loads(harness(*words).out)[0]["finished"]] == [record["finished"]]
    mine.write_text("\n".join([*lines, "freeze_base = true", "batch_size = 8\n"]))
    refused = harness(*words)
    assert refused.code == 2
    assert "batch_size 16, now 8" in refused.err
    assert harness(*words, "--fresh").code == 0
    mine.write_text("freeze_bse = true\n")
    assert "did you mean freeze_base" in harness(*words).err


def started_by_torchrun(words: list[str], environment: dict[str, str]) -> str:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harness"]
    environment = {**environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*launch, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started_as_by_torchrun(words: list[str], environment: dict[str, str]) -> str:
    """Forked with the variables that torchrun sets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
    common = {**environment, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [Forked(words, {**common, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]
    done = [process.finish() for process in processes]
    assert [each.returncode for each in done] == [0, 0], done
    return "".join(each.stdout for each in done)


@pytest.mark.parametrize(
    "start",
    [pytest.param(started_by_torchrun, marks=pytest.mark.slow), started_as_by_torchrun],
    ids=["torchrun", "here"],
)
def test_two_processes_train_one_run(
    start: Callable[[list[str], dict[str, str]], str], world: World, tmp_path: Path
) -> None:
    words = ["train", "isotropy", "--data", str(world.folder / "pairs.jsonl"), "--base", str(world.folder / "base")]
    tiny = {**TINY, "learn_scale": "true", "mini_batch_size": 4}
    options = [word for name, value in tiny.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"HARNESS_HOME": str(world.folder / "home"), "HARNESS_RUNS": str(tmp_path)}
    assert start([*words, *options, "--report-to", "none"], environment).count("| finished |") == 1
    [file] = tmp_path.glob("isotropy/*/run.json")
    record = json.loads(file.read_bytes())
    measured = [entry["nDCG@10"] for entry in record["curves"] if "nDCG@10" in entry]
    assert len(measured) == 4
    assert record["dev"]["nDCG@10"] > measured[0] + 0.05
    assert record["steps"] == 22


def test_a_run_that_diverges_at_once_names_no_checkpoint(world: World, tmp_path: Path, harness: Any) -> None:
    settings = {**TINY, "head_learning_rate": 1e30, "epochs": 1}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    words += ["--data", str(world.folder / "pairs.jsonl"), "--base", str(world.folder / "base"), "--report-to", "none"]
    done = harness("train", "baseline", *words)
    assert done.code == 1
    assert "no checkpoint was saved before" in done.err
    assert "Evaluate one" not in done.err
    assert "None" not in done.out
    (failed,) = (line for line in done.out.splitlines() if "failed" in line)
    assert [cell.strip() for cell in failed.split("|")][2:4] == ["failed", "-"]


def test_a_disk_that_is_full_at_the_end_is_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the final model is written: safetensors' error, not the operating system's."""
    plan, job = world.plan("frozen", epochs=1), world.job(tmp_path)

    def full(model: Any, folder: str, **_: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformer, "save_pretrained", full)
        with pytest.raises(UserError, match=r"could not be written to .*No space left.*run the same command again"):
            train(plan, job)
    assert not (tmp_path / "frozen" / plan.run / "checkpoint").exists()
    assert train(plan, job)["status"] == "finished"


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (100, 1), (101, 2), (324, 4), (5000, 50)])
def test_a_run_logs_at_most_a_hundred_losses(world: World, tmp_path: Path, steps: int, every: int) -> None:
    plan = world.plan("baseline", epochs=1, batch_size=2)
    assert make_arguments(Run(tmp_path, plan), 2 * steps, {}, 1, ()).logging_steps == every
