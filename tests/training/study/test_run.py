"""A study carried out: its folder, interruptions at any time, and what fails."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.planning import speed
from harness_training.study.timeline import Timeline
from tests.conftest import write_dataset
from tests.forked import Forked
from tests.training.models import texts, write_base, write_pairs

pytest.importorskip("bm25s", reason="the study's baseline needs the bm25 extra")

STUDY = """
title = "A tiny study"

[data.pairs]
set = "pairs.jsonl"

[settings]
base = "base"
dim = 8
epochs = 1
batch_size = 8
dev_queries = 8
dev_documents = 20
eval_steps = 5
save_steps = 2

[experiments]
baseline = {}
isotropy = { isotropy_weight = 1 }

[evaluation]
models = ["bm25"]
datasets = ["toy"]
step_0 = true

[primary]
experiment = "isotropy"
against = "baseline"

[[claim]]
name = "better than BM25"
criterion = "isotropy > bm25"

[[claim]]
name = "better than untrained"
criterion = "isotropy > step-0"
"""


def write_study(folder: Path, text: str = STUDY) -> Path:
    """The study's file beside its base, training set and dataset."""
    write_base(folder)
    write_pairs(folder / "pairs.jsonl", 90)
    documents = {f"d{number}": text for number, text in enumerate(texts(12))}
    queries = {f"q{number}": text for number, text in enumerate(texts(4, seed=1))}
    write_dataset(folder / "toy", documents, queries, [(f"q{number}", f"d{number}", 1) for number in range(4)])
    file = folder / "tiny.toml"
    file.write_text(text)
    return file


def quickly() -> None:
    """Speeds of this machine are taken from what little was measured, and the page has no plots."""
    speed.ENOUGH_ENCODING = speed.ENOUGH_INDEXING = 0.01
    speed._scan = lambda device: {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    with suppress(ImportError):
        import vl_convert

        vl_convert.javascript_bundle = lambda *_: ""


class World(NamedTuple):
    """A study's file, and processes that run it in folders of their own."""

    folder: Path
    study: Path

    def run(self, name: str, seconds: float | None = None) -> int:
        """Exit code of a run in the folder and home of that name, killed after some seconds."""
        environment = {**os.environ, "HARNESS_HOME": str(self.folder / f"{name}-home"), "HARNESS_OFFLINE": "1"}
        process = Forked(["study", "run", self.study, "-o", self.folder / name], environment, setup=quickly)
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        code = process.wait()
        assert code in (0, -signal.SIGKILL), process.err
        return code


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("study")
    return World(folder, write_study(folder))


@pytest.fixture(scope="module")
def whole(world: World) -> float:
    """Seconds of an uninterrupted run."""
    start = time.monotonic()
    assert world.run("whole") == 0
    return time.monotonic() - start


def figures(folder: Path) -> dict[str, Any]:
    """Everything that a study found, without times."""
    results = {}
    for file in folder.glob("results/*/*/result.json"):
        content = json.loads(file.read_text())
        results[content["model"], content["dataset"]] = content["measures"], content["geometry"]
    claims = json.loads((folder / "claims.json").read_text())["claims"]
    runs = {
        file.parent.parent.name: json.loads(file.read_text())["checkpoint_key"]
        for file in folder.glob("runs/*/*/run.json")
    }
    return {"results": results, "claims": claims, "runs": runs, "table": _scores((folder / "tables.md").read_text())}


def _scores(text: str) -> str:
    """The first table of a report: scores."""
    return text.partition("\n\n")[0] + text.partition("\n\n")[2].partition("\n\n")[0]


def test_killed_three_times_it_ends_with_the_same_tables(world: World, whole: float) -> None:
    for _ in range(3):
        world.run("killed", random.uniform(0.1, 0.7) * whole)
    assert world.run("killed") == 0
    assert figures(world.folder / "killed") == figures(world.folder / "whole")
    first, second = (json.loads((world.folder / name / "seconds.json").read_text()) for name in ("whole", "killed"))
    assert {*first} == {*second} == {"data", "training", "evaluation", "reports"}


def test_the_folder_of_a_study(world: World, whole: float) -> None:
    folder = world.folder / "whole"
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("study.toml", "registration.json", "plan.json", "seconds.json", "suite.toml", "claims.toml", "claims.json"),
        *("experiments", "runs", "results", "log"),
        *("tables.md", "tables.tex", "tables.csv", "index.html", "claims.md", "methods.md", "time.md"),
    }
    methods = (folder / "methods.md").read_text()
    for said in (
        "We fine-tuned base@",
        "with a linear projection to 8 dimensions, which starts as the rotation to the principal components, on",
        "82 of 90 training rows from pairs, each with a query, a relevant passage and 1 hard negative.",
        "The experiments are baseline (isotropy_weight 0.0, seed 42); isotropy (isotropy_weight 1.0, seed 42).",
        "of 8 queries and 20 passages",
        "Embeddings are not normalised and compared by Euclidean distance.",
        "learning rates of 1e-05 (base) and 0.0005 (projection)",
        "We evaluated 4 models (2 trained models, bm25, isotropy:run=seed42,step=0) on",
        "on 1 dataset (toy) with 4 queries",
        "nDCG@10 of isotropy against baseline on all datasets of the study",
    ):
        assert said in methods, methods
    registration = json.loads((folder / "registration.json").read_text())
    runs = [json.loads(file.read_text()) for file in folder.glob("runs/*/*/run.json")]
    assert len(runs) == 2
    assert all(registration["registered"] <= run["started"] for run in runs)
    claims = json.loads((folder / "claims.json").read_text())["claims"]
    assert [claim["name"] for claim in claims] == ["primary", "better than BM25", "better than untrained"]
    assert claims[0]["values"].keys() == {"isotropy", "baseline"}
    assert claims[2]["values"].keys() == {"isotropy", "step-0"}
    assert "isotropy:run=seed42,step=0" in (folder / "tables.md").read_text()
    planned = Timeline.read(folder / "plan.json")
    assert planned
    assert planned.unknown == []
    assert [(stage.stage, stage.what, stage.steps) for stage in planned.stages if stage.stage == "training"] == [
        ("training", "baseline", 10),
        ("training", "isotropy", 10),
    ]
    assert {run["steps"] for run in runs} == {10}
    assert "| training" in (folder / "time.md").read_text()
    assert re.search(r"^\| reports +\| +\| +\d", (folder / "time.md").read_text(), re.MULTILINE)
    assert "isotropy:run=seed42" in (folder / "tables.md").read_text()


def test_a_changed_study_is_refused(world: World, whole: float, harness) -> None:
    changed = world.study.with_name("changed.toml")
    changed.write_text(STUDY.replace("isotropy_weight = 1", "isotropy_weight = 2"))
    done = harness("study", "run", changed, "-o", world.folder / "whole", "--offline")
    assert done.code == 2
    assert "(experiments changed); restore it, or run the new study in another folder with -o." in done.err


def test_a_failed_run_and_a_failed_cell_do_not_stop_the_others(
    harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENOUGH_ENCODING", "ENOUGH_INDEXING", "_scan"):
        monkeypatch.setattr(speed, name, getattr(speed, name))  # is set back afterwards
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda *_: "", raising=False)
    quickly()
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from harness import ModelSpec, hookimpl\n\n"
        "@hookimpl\ndef harness_models():\n"
        "    yield ModelSpec(name='broken', kind='dense', load='broken:load', summary='fails')\n\n"
        "def load(options):\n    raise RuntimeError('no such luck')\n"
    )
    study = write_study(
        tmp_path,
        STUDY.replace('["bm25"]', '["bm25", "broken"]').replace(
            "isotropy = { isotropy_weight = 1 }",
            "isotropy = { head_learning_rate = 1e30, warmup = 0, max_grad_norm = 0 }",
        ),
    )
    words = ("study", "run", study, "-o", tmp_path / "out", "--offline", "--plugin", broken)
    done = harness(*words)
    assert done.code == 1, done.err
    assert "failed: harness train ended with exit code 1" in done.err
    assert "failed: harness benchmark ended with exit code 1" in done.err
    assert "isotropy/seed42 is not evaluated: it failed (the " in done.err
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert "baseline:run=seed42" in tables
    [primary, *_] = json.loads((tmp_path / "out" / "claims.json").read_text())["claims"]
    assert primary["verdict"] == "not measured"
    assert "Not trained: isotropy/seed42" in (tmp_path / "out" / "methods.md").read_text()
