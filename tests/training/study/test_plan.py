"""Plans of studies against closed forms."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.acquire import expected_bytes
from harness.planning import speed
from harness.registry.manager import load_registry
from harness_training.experiment.settings import Settings
from harness_training.study.forecast import _joined, _tokens
from harness_training.study.timeline import Stage, Timeline, makespan, took, total_rows
from harness_training.study.training_cost import BaseCost, TrainingSetSize, training_cost

MPNET = 12 * (4 * 768**2 + 2 * 768 * 3072)
"""Parameters of its layers: attention and feed-forward."""
T4 = 65e12 * 0.25
ON_T4 = BaseCost(768, 2 * MPNET, 109_486_464, T4 / (2 * MPNET), T4 / (6 * MPNET), 0.02, 0.005, added=False)
MSMARCO = TrainingSetSize(500_000, 10, 75, held_out=200)


def test_full_fine_tuning_is_three_forward_passes_a_token() -> None:
    cost = training_cost("baseline", Settings(), MSMARCO, ON_T4, runs=2)
    steps = 499_800 // 16 * 3
    assert cost.steps == steps == 93_711
    assert cost.tokens == steps * 16 * 160
    trained = 6 * MPNET * steps * 16 * 160 / T4
    dev = 21 * (2000 * 75 + 200 * 10) * 2 * MPNET / T4  # at the start and twenty times
    assert cost.seconds == pytest.approx(trained + dev)
    assert cost.seconds / 3600 == pytest.approx(2.1, abs=0.05)
    assert cost.shared_seconds == pytest.approx(7680 * 75 * 2 * MPNET / T4)


def test_cached_gradients_take_a_fourth_pass_and_less_memory() -> None:
    plain, cached = (
        training_cost(
            "x", replace(Settings(), batch_size=128, eval_steps=10**6, mini_batch_size=size), MSMARCO, ON_T4, 1
        )
        for size in (0, 8)
    )
    dev = (2000 * 75 + 200 * 10) / ON_T4.forward
    assert (cached.seconds - dev) / (plain.seconds - dev) == pytest.approx(4 / 3)
    assert cached.memory < plain.memory / 4


def test_a_frozen_base_encodes_every_text_once() -> None:
    cost = training_cost("frozen", replace(Settings(), freeze_base=True), MSMARCO, ON_T4, runs=3)
    assert cost.tokens == 499_800 * 160
    few = training_cost("f", replace(Settings(), freeze_base=True), replace(MSMARCO, documents=9000), ON_T4, runs=3)
    assert few.tokens == 499_800 * 10 + 9000 * 75  # every passage once
    assert cost.memory - few.memory == (499_800 * 2 - 9000) * 768 * 4
    dev, start = 2000 * 75 + 200 * 10, 7680 * 75
    assert cost.shared_seconds == pytest.approx((499_800 * 160 + dev + start) / ON_T4.forward)
    assert cost.seconds == pytest.approx(93_711 * 0.005)
    head = 768 * (768 + 512)
    assert cost.memory - training_cost(
        "f", replace(Settings(), freeze_base=True), TrainingSetSize(0, 10, 75), ON_T4, 1
    ).memory == (499_800 * 3 * 768 * 4)
    assert cost.disk == 3 * (109_486_464 + head) * 4 + 3 * head * 12


def test_a_small_step_of_a_fast_device_takes_its_least_and_of_a_processor_the_optimizers_time_too() -> None:
    fast = replace(ON_T4, training=1e9)
    settings = replace(Settings(), eval_steps=10**6)
    dev = (2000 * 75 + 200 * 10) / ON_T4.forward
    assert training_cost("x", settings, MSMARCO, fast, 1).seconds == pytest.approx(93_711 * 0.02 + dev)
    slow = replace(ON_T4, added=True, step=0.5)
    each = 16 * 160 / ON_T4.training + 0.5
    assert training_cost("x", settings, MSMARCO, slow, 1).seconds == pytest.approx(93_711 * each + dev)


def test_texts_are_cut_where_the_model_cuts_them() -> None:
    assert _tokens(["x" * 100, "x" * 10_000], 64) == pytest.approx((2 + 0.21 * 100 + 64) / 2)


def test_several_sets_are_one_with_the_mean_row() -> None:
    mixed = _joined([TrainingSetSize(100, 10, 70), TrainingSetSize(300, 20, 50)])
    assert (mixed.rows, mixed.query_tokens, mixed.passage_tokens) == (400, 17.5, 55)
    assert _joined([TrainingSetSize(100, 10, 70), TrainingSetSize(None, 20, 50)]).rows is None


def test_what_is_unknown_stays_unknown() -> None:
    cost = training_cost("x", Settings(), TrainingSetSize(None, 10, 75), ON_T4, 1)
    assert (cost.steps, cost.tokens, cost.seconds) == (None, None, None)
    assert training_cost("x", Settings(), MSMARCO, replace(ON_T4, forward=0.0), 1).seconds is None


def test_the_next_free_device_takes_the_next_run() -> None:
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1, 3], 2) == 4
    assert makespan([2, 2, 2], 1) == 6
    assert makespan([], 3) == 0


def test_days_and_dollars_on_one_device_and_on_three(tmp_path: Path) -> None:
    stages = (
        Stage("data", "set", jobs=(1800.0,)),
        Stage("training", "a", 2, jobs=(7200.0, 7200.0)),
        Stage("training", "b", 1, jobs=(3600.0,)),
        Stage("evaluation", "a", jobs=(5400.0, 5400.0), divisible=True),
        Stage("evaluation", "c", jobs=None, note="unknown"),
    )
    line = Timeline("t4", 0.5, stages, ("note",))
    assert line.seconds() == 1800 + 18_000 + 10_800
    assert line.seconds(devices=3) == 1800 + 7200 + 3600
    assert line.cost() == pytest.approx(0.5 * 30_600 / 3600)
    assert line.cost(3) == pytest.approx(3 * 0.5 * 12_600 / 3600)
    assert line.unknown == ["c"]
    assert [row["devices"] for row in total_rows(line, 3)] == ["1 x t4", "3 x t4"]
    line.save(tmp_path / "plan.json")
    assert Timeline.read(tmp_path / "plan.json") == line
    assert Timeline.read(tmp_path / "none.json") is None
    text = took(line, {"data": 900.0, "training": 36_000.0})
    assert "| data       | 30.0 min  | 15.0 min | 0.50    |" in text
    assert "Not planned: c." in text


def test_the_brief_on_one_and_on_three_t4(harness, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = {"flops": 1e11, "query_seconds": 1e-3, "processor_flops": 1e11}
    monkeypatch.setattr(speed, "_scan", lambda device: scanned)
    monkeypatch.setattr(speed, "ENOUGH_INDEXING", 0.02)
    done = harness("study", "plan", "brief.toml", "--device", "t4", "--gpus", "3", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    stages = {(stage["stage"], stage["what"]): stage for stage in found["stages"]}
    full = stages["training", "isotropy"]
    assert full["steps"] == 93_711
    [seconds] = full["jobs"]
    # 93,711 steps of 16 rows of 158 tokens, three passes, and 21 evaluations of 2,000 passages
    tokens = 3 * 93_711 * 16 * 158 + 21 * (2000 * 74 + 200 * 10)
    assert seconds == pytest.approx(tokens * 2 * MPNET / T4, rel=0.02)
    assert {stages["evaluation", name]["tokens"] for name in ("mpnet", "frozen")} == {0}  # with the base of step 0
    for name in ("baseline", "isotropy", "step-0"):
        evaluated = stages["evaluation", name]
        assert evaluated["tokens"] == pytest.approx(7.4e9, rel=0.01)
        assert evaluated["tokens"] * 2 * MPNET / T4 < evaluated["jobs"][0]  # and searches, geometry, metrics
    assert found["total_seconds"]["3"] < found["total_seconds"]["1"] / 2.5
    assert np.isclose(found["price"], 0.5)
    assert not Path("studies").exists()


def evaluations(harness, baselines: list[str]) -> dict[str, dict]:
    """The evaluations in a plan of the study brief on SciFact with other baselines, on a T4."""
    shipped = resources.files("harness_training.study").joinpath("shipped/brief.toml").read_text()
    own = shipped.replace('["bm25", "mpnet"]', json.dumps(baselines)).replace('suites = ["beir18"]', "")
    own = own.replace('datasets = ["msmarco"]', 'datasets = ["scifact"]').replace('on = "beir18"', 'on = "scifact"')
    Path("own.toml").write_text(own)
    done = harness("study", "plan", "own.toml", "--device", "t4", "--json")
    assert done.code == 0, done.err
    return {stage["what"]: stage for stage in json.loads(done.out)["stages"] if stage["stage"] == "evaluation"}


def test_a_transform_of_the_base_is_planned_with_its_vectors(harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 0 has encoded the texts: 5,183 documents and 300 queries are mapped from 768 dimensions to 512."""
    scanned = {"flops": 1e11, "query_seconds": 1e-3, "processor_flops": 1e11}
    monkeypatch.setattr(speed, "_scan", lambda device: scanned)
    found = evaluations(harness, ["pca(mpnet):dim=512"])["pca(mpnet):dim=512"]
    mapping = 4 * 768 * (5183 * 768 + 5483 * 512) / 1e11
    searching = 4 * 5183 * 512**2 / 1e11 + 2 * 5183 * 300 * 512 / (8.1e12 * 0.25) + 300 * 1e-3
    assert found["jobs"] == pytest.approx([mapping + searching + 300 * 0.002])
    assert (found["tokens"], found["note"]) == (0, "")


def test_fusions_of_baselines_are_planned_with_what_is_stored(harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 0 has encoded the texts for MPNet; the first fusion makes the index; MiniLM encodes once."""
    scanned = {"flops": 1e11, "query_seconds": 1e-3, "processor_flops": 1e11}
    names = ("bytes_per_second", "index_share", "query_seconds", "query_document_seconds")
    monkeypatch.setattr(speed, "_scan", lambda device: scanned)
    monkeypatch.setattr(speed, "_index", lambda model: dict(zip(names, (1e6, 0.5, 0.01, 0.0), strict=True)))
    fusions = ["rrf(bm25,mpnet)", "linear(bm25,mpnet)", "rrf(mpnet,minilm)", "linear(mpnet,minilm)"]
    found = evaluations(harness, [*fusions, "bm25", "mpnet"])
    jobs = {name: stage["jobs"] for name, stage in found.items()}
    searching = 4 * 5183 * 768**2 / 1e11 + 2 * 5183 * 300 * 768 / (8.1e12 * 0.25) + 300 * 1e-3
    assert jobs["linear(bm25,mpnet)"] == pytest.approx([300 * 0.01 + searching + 300 * 0.002])
    assert jobs["mpnet"] == pytest.approx([searching + 300 * 0.002])
    assert jobs["bm25"] == pytest.approx([300 * 0.01 + 300 * 0.002])
    indexing = jobs["rrf(bm25,mpnet)"][0] - jobs["linear(bm25,mpnet)"][0]
    assert indexing == pytest.approx(expected_bytes(load_registry().datasets["scifact"]) / 1e6)
    encoding = jobs["rrf(mpnet,minilm)"][0] - jobs["linear(mpnet,minilm)"][0]
    assert encoding == pytest.approx((5183 * 303 + 300 * 16) * 2 * MPNET / 8 / T4, rel=1e-3)
    tokens = 5183 * 303 + 300 * 16
    assert [found[name]["tokens"] for name in fusions] == [0, 0, tokens, 0]
