"""The shipped experiments, step 0, and records of version 0.2."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("accelerate", reason="training needs accelerate (the train extra)")
pytest.importorskip("datasets", reason="training needs datasets (the train extra)")

from sentence_transformers import SentenceTransformer

from harness.embeddings import encode
from harness.embeddings.store import Vectors, VectorStore
from harness.registry.manager import load_registry
from harness.storage.atomic import content_key
from harness.storage.records import seal
from harness.types import UserError
from harness_plugins.sentence_transformers.trained import training
from harness_training.experiment.plans import OWN, plans
from harness_training.experiment.settings import Settings
from harness_training.experiment.train import train
from tests.training.experiment.world import World, assert_identical, weights
from tests.training.models import build_model, texts

LAMBDAS = (0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9)
IN_0_2 = (
    "isotropy_weight freeze_base loss tau learn_scale margin regulariser slices dim init init_texts max_seq_length "
    "epochs batch_size mini_batch_size learning_rate head_learning_rate weight_decay warmup schedule max_grad_norm "
    "precision seed limit dev_queries dev_documents eval_steps"
)
"""The settings that version 0.2 recorded in a run's identity."""


def test_all_are_the_three_of_the_study_and_the_others_differ_as_stated() -> None:
    assert [plan.experiment for plan in plans("all", (), (), 1)] == ["baseline", "isotropy", "frozen"]
    baseline, isotropy, frozen = (plans(name, (), (), 1)[0].settings for name in ("baseline", "isotropy", "frozen"))
    assert (baseline.isotropy_weight, isotropy.isotropy_weight, frozen.isotropy_weight) == (0.0, 1.0, 1.0)
    assert isotropy.sigreg_scale == "T"
    assert {plan.settings.init for plan in plans("all", (), (), 1)} == {"pca-rotation"}
    apart = {
        "frozen-baseline": replace(frozen, isotropy_weight=0.0),
        **{f"baseline-b{n}": replace(baseline, batch_size=n, mini_batch_size=16) for n in (128, 512)},
        **{f"isotropy-b{n}": replace(isotropy, batch_size=n, mini_batch_size=16) for n in (128, 512)},
        **{
            f"control-{name}": replace(isotropy, regulariser=name, match="gradient")
            for name in ("mean", "uniformity", "spread-out", "vicreg")
        },
    }
    for name, settings in apart.items():
        assert [plan.settings for plan in plans(name, (), (), 1)] == [settings], name
    listed = [line[1:].partition("]")[0] for line in OWN.read_text().splitlines() if line.startswith("[")]
    assert set(listed) == {"defaults", "baseline", "isotropy", "frozen", *apart, "isotropy-sweep"}


def test_an_experiment_may_list_values() -> None:
    swept = plans("isotropy-sweep", (), (), 1)
    found = [plan.settings.isotropy_weight / (1 + plan.settings.isotropy_weight) for plan in swept]
    assert found == pytest.approx(LAMBDAS, rel=1e-2)
    assert swept[-1].run == "isotropy_weight=9,seed42"
    assert len(plans("isotropy-sweep", (), (), 2)) == 14
    assert [p.settings.isotropy_weight for p in plans("isotropy-sweep", ("isotropy_weight=3",), (), 1)] == [3]
    assert [p.settings.isotropy_weight for p in plans("isotropy-sweep", (), ("isotropy_weight=3,4",), 1)] == [3, 4]


def test_mistakes_in_lists_are_the_users(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    for text, said in (("tau = []", "tau is an empty list"), ("tau = [0.1, -1]", "-1 is below"), ("tu = [1]", "tau")):
        mine.write_text(text)
        with pytest.raises(UserError, match=said):
            plans(str(mine), (), (), 1)


def test_at_weight_zero_isotropy_is_baseline_to_the_bit(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path)
    made = []
    for experiment in ("baseline", "isotropy"):
        plan = world.plan(experiment, isotropy_weight=0, epochs=1)
        train(plan, job)
        made.append(weights(tmp_path / experiment / plan.run / "checkpoint"))
    assert_identical(*made)


def test_gradients_of_the_first_steps_are_recorded_and_a_control_has_the_same(world: World, tmp_path: Path) -> None:
    notes: list[str] = []
    job = world.job(tmp_path, progress=lambda text, *_: notes.append(text))
    found = {}
    for experiment in ("isotropy", "control-vicreg"):
        plan = world.plan(experiment, freeze_base=True, epochs=1, logging_steps=1)
        record = train(plan, job)
        found[experiment] = record
        logged = [entry for entry in record["curves"] if "loss" in entry]
        assert [entry["step"] for entry in logged] == list(range(1, 12))
        first = record["first_gradients"]
        for name in ("task_gradient", "regulariser_gradient", "gradient_cosine"):
            assert first[name] == pytest.approx(np.mean([one[name] for one in logged[:10]]))
        share = record.get("matched_weight", 1.0) * first["regulariser_gradient"] / first["task_gradient"]
        assert first["gradient_share"] == pytest.approx(share)
    steps = {name: record["curves"][1] for name, record in found.items()}
    weight = found["control-vicreg"]["matched_weight"]
    reference = steps["isotropy"]["regulariser_gradient"]
    assert weight * steps["control-vicreg"]["regulariser_gradient"] == pytest.approx(reference, rel=0.05)
    assert "matched_weight" not in found["isotropy"]
    assert steps["isotropy"]["task_gradient"] == pytest.approx(steps["control-vicreg"]["task_gradient"], rel=1e-6)
    told = [note for note in notes if note.startswith("note: ")]
    assert len(told) == 4
    assert "lambda 0.5 of LeJEPA's" in told[0]
    assert f"has {found['isotropy']['first_gradients']['gradient_share']:.2%} of the task's gradient" in told[1]
    assert f"at weight {weight:.3g} has" in told[3]


def test_notes_on_an_experiment_are_given_once_for_all_seeds(world: World, tmp_path: Path) -> None:
    notes: list[str] = []
    job = world.job(tmp_path, progress=lambda text, *_: notes.append(text))
    for plan in world.plan("isotropy", seeds=2, freeze_base=True, epochs=1):
        train(plan, job)
    assert len([note for note in notes if note.startswith("note: isotropy: isotropy_weight 1 adds")]) == 1
    assert len([note for note in notes if "of the task's gradient" in note]) == 2


def test_a_matched_weight_is_kept_when_a_run_resumes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness_training.experiment import trainer as trainers

    plan = world.plan("control-uniformity", freeze_base=True)
    whole = train(plan, world.job(tmp_path / "whole"))
    real = trainers.Trainer._save_checkpoint

    def once(self: Any, *given: Any) -> None:
        real(self, *given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainers.Trainer, "_save_checkpoint", once)
        with pytest.raises(KeyboardInterrupt):
            train(plan, world.job(tmp_path))
    resumed = train(plan, world.job(tmp_path))
    assert resumed["checkpoint_key"] == whole["checkpoint_key"]
    assert resumed["matched_weight"] == whole["matched_weight"] > 0


@pytest.mark.parametrize("experiment", ["baseline", "frozen"])
def test_step_0_is_a_model_of_its_own(world: World, tmp_path: Path, experiment: str) -> None:
    job = world.job(tmp_path)
    for plan in world.plan(experiment, epochs=1, seeds=2, init_texts=9999):
        record = train(plan, job)
        folder = tmp_path / experiment / plan.run / "step0"
        started = SentenceTransformer(str(folder), device="cpu")
        assert started.similarity_fn_name == "euclidean"
        passages = sorted({text for row in job.rows.ids[:, 1:].tolist() for text in job.rows.text(row)})
        untrained = build_model(world.folder / "base", passages, dim=16, init="pca-rotation")
        vectors = np.asarray(started.encode(passages))
        assert vectors == pytest.approx(np.asarray(untrained.encode(passages)), abs=1e-3)
        assert np.square(vectors).sum(1).mean() == pytest.approx(16, rel=0.01)  # the scale that the losses assume
        assert training({"path": str(folder)})["step"] == 0
        assert training({"path": str(folder)})["trained_on"] == []
        assert training({"path": str(folder.parent)})["trained_on"] == ["pairs"]
        assert record["step0_key"] != record["checkpoint_key"]
        assert record["rows"] == 180
    inodes = {file.stat().st_ino for file in tmp_path.glob("*/*/step0/model.safetensors")}
    assert len(inodes) == 1


def test_step_0_is_a_row_of_its_own(world: World, tmp_path: Path, harness: Any, monkeypatch: Any) -> None:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    plan = world.plan("frozen", epochs=1)
    train(plan, world.job(tmp_path / "runs"))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "the heart"}\n{"_id": "b", "text": "red moon"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "moon"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tb\t1\n")
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    rows = ["-m", "frozen:step=0", "-m", "frozen", "-m", f"frozen:path={tmp_path}/runs/frozen/{plan.run}/step0"]
    done = harness("benchmark", *rows[:4], "-d", tmp_path, "--results", tmp_path / "results")
    assert done.code == 0, done.err
    found = {
        file.parent.parent.name: json.loads(file.read_bytes()) for file in tmp_path.glob("results/*/*/result.json")
    }
    steps = {name: one["manifest"]["model"]["training"].get("step") for name, one in found.items()}
    assert sorted(steps.values(), key=str) == [0, None]
    damaged = tmp_path / "runs" / "frozen" / plan.run / "step0" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    refused = harness("benchmark", *rows[:2], "-d", tmp_path, "--results", tmp_path / "again")
    assert refused.code == 2
    assert "step0 was not written" in refused.err or "are not those that the run.json" in refused.err
    damaged.unlink()
    assert "is damaged" in harness("benchmark", *rows[:2], "-d", tmp_path, "--results", tmp_path / "again").err


def test_heads_on_a_frozen_base_share_its_embeddings(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    frozen, full = world.plan("frozen", epochs=1, seeds=2), world.plan("baseline", epochs=1)
    for plan in (*frozen, full):
        train(plan, world.job(tmp_path))
    folders = [tmp_path / plan.experiment / plan.run for plan in (*frozen, full)]
    paths = [folders[0] / "checkpoint", folders[1] / "checkpoint", folders[0] / "step0"]
    paths += [folders[2] / "step0", world.folder / "base", folders[2] / "checkpoint"]
    models = [load_registry().model(str(path)).replace(dtype="float32").load() for path in paths]
    passages, encoded, found = texts(60), [], []
    real = encode.encode_texts
    monkeypatch.setattr(encode, "encode_texts", lambda *given: encoded.append(len(given[2])) or real(*given))
    for number, model in enumerate(models):
        store = VectorStore(tmp_path / "home", f"{number:064d}", "document")
        tally = encode.Tally()
        shards = encode.encode_collection(model, "it", passages, 60, store, "document", lambda *_: None, tally)
        vectors = Vectors.open(store, shards).gather(np.arange(60))
        found.append(vectors)
        assert vectors == pytest.approx(real(model, "it", passages, "document"), abs=1e-5)
        assert tally.texts == (60 if number in (0, 5) else 0)
        assert sum(shard.tokens for shard in shards) == sum(map(len, model.tokenize(passages, role="document")))
    assert encoded == [60, 60]  # the base once, the trained base again
    # Alone, the untouched base is encoded as it is, to the same bytes, and leaves nothing but its vectors.
    base, store = models[4], VectorStore(tmp_path / "elsewhere", "f" * 64, "document")
    alone = encode.encode_collection(base, "it", passages, 60, store, "document", lambda *_: None)
    assert np.array_equal(Vectors.open(store, alone).gather(np.arange(60)), found[4])
    assert [file.name for file in (tmp_path / "elsewhere" / "vectors").iterdir() if file.is_dir()] == ["f" * 32]


def as_in_0_2(folder: Path, settings: Settings) -> None:
    """Rewrite a run's record to what version 0.2 wrote for these settings."""
    file = folder / "run.json"
    record = json.loads(file.read_bytes())
    names = IN_0_2.split()
    record["identity"]["settings"] = {name: value for name, value in asdict(settings).items() if name in names}
    record["settings"] = {**record["identity"]["settings"], "base": "base", "save_steps": 0, "logging_steps": 0}
    record["settings_key"] = content_key({**record["identity"], "revision": 1})
    record.pop("checksum")
    file.write_text(json.dumps(seal(record)))


def test_runs_of_0_2_keep_their_meaning(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path)
    old = {"init": "pca", "sigreg_scale": "T-over-N", "freeze_base": True, "epochs": 1}
    plan = replace(world.plan("isotropy", **old), run="seed42")
    record = train(plan, job)
    folder = tmp_path / "isotropy" / "seed42"
    as_in_0_2(folder, replace(plan.settings, precision="fp32"))
    assert train(plan, job)["finished"] == record["finished"]  # the same inputs: found, not trained again

    today = replace(world.plan("isotropy", freeze_base=True, epochs=1), run="seed42")
    with pytest.raises(UserError) as refused:
        train(today, job)
    assert "init pca, now pca-rotation" in str(refused.value)
    assert "sigreg_scale T-over-N, now T" in str(refused.value)

    unfinished = {**json.loads((folder / "run.json").read_bytes()), "status": "running"}
    unfinished.pop("checksum")
    (folder / "run.json").write_text(json.dumps(seal(unfinished)))
    assert train(plan, job)["checkpoint_key"] == record["checkpoint_key"]


def test_the_weight_of_a_baseline_of_0_2_had_no_scale(world: World) -> None:
    settings = world.plan("baseline", init="pca").settings
    assert set(settings.lasting()) == set(IN_0_2.split())
    assert "sigreg_scale" in world.plan("isotropy").settings.lasting()
    assert "sigreg_scale" not in world.plan("control-mean").settings.lasting()
