"""Models that turn out, once loaded, to be had with other options only: it takes them so, under the right key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from harness.models.runner import Prepared
from harness.registry.load_fallback import Otherwise
from harness.registry.manager import load_registry
from harness.types import UserError

PLUGIN = '''
"""Counts of letters, which cannot be had in the fast way."""

from pathlib import Path

import numpy as np

from harness import ModelFacts, ModelSpec, Option, Otherwise, hookimpl

LOADS = Path(__file__).with_name("loads")


class Letters:
    dim = 32

    def encode(self, texts, *, role):
        letters = [np.frombuffer(text.encode(), np.uint8) % self.dim for text in texts]
        return np.asarray([np.bincount(row, minlength=self.dim) for row in letters], np.float32)


def load(options):
    with LOADS.open("a") as stream:
        stream.write(f"{options['way']}\\n")
    if options["fault"]:
        raise ValueError("no luck")
    if options["way"] != "slow":
        raise Otherwise("its letters are too many", way="slow")
    return Letters()


def trial(options):
    return options["way"] == "auto"


@hookimpl
def harness_models():
    options = {"way": Option("auto", "how", choices=("auto", "fast", "slow")), "fault": Option(False, "whether")}
    facts = ModelFacts(may_fall_back=f"{__name__}:trial")
    yield ModelSpec("letters", "dense", f"{__name__}:load", "counts of letters", options=options, facts=facts)
'''
WHY = "note: letters is taken with way=slow, because its letters are too many"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "letters_on_trial.py"
    file.write_text(PLUGIN)
    return file


def loads(plugin: Path) -> list[str]:
    """The ways in which it was loaded since the last look."""
    file = plugin.with_name("loads")
    found = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def key(plugin: Path, model: str) -> str:
    return load_registry([plugin]).model(model).key


def stored(home: Path) -> set[str]:
    return {folder.name for folder in (home / "vectors").iterdir()}


def result(label: str) -> dict[str, Any]:
    return json.loads((Path("results") / label / "toy" / "result.json").read_text())


def test_it_is_taken_otherwise_under_its_label_and_the_other_key(harness, toy: Path, plugin: Path, home: Path) -> None:
    words = ("benchmark", "--plugin", plugin, "-m", "letters", "-d", toy, "--json")
    done = harness(*words)
    assert done.code == 0, done.err
    assert done.err.count(WHY) == 1
    [cell] = json.loads(done.out)
    assert (cell["model"], cell["cell"]) == ("letters", "ok")
    described = cell["manifest"]["model"]
    assert (described["options"]["way"], described["passed"]) == ("slow", {})
    assert cell["manifest"]["run"]["fallbacks"] == {"letters": WHY.partition(" is ")[2]}
    assert stored(home) == {key(plugin, "letters:way=slow")[:32]}
    assert loads(plugin) == ["auto", "slow"]
    again = harness(*words)
    assert json.loads(again.out)[0]["cell"] == "cached"
    assert again.err.count(WHY) == 1
    assert loads(plugin) == []  # it is remembered


def test_what_is_remembered_is_tried_again_when_damaged_or_of_other_versions(
    harness, toy: Path, plugin: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("benchmark", "--plugin", plugin, "-m", "letters", "-d", toy, "--json")
    assert harness(*words).code == 0
    [file] = (home / "trials").iterdir()
    for change in (
        lambda: file.write_text("{"),
        lambda: monkeypatch.setattr("harness.registry.load_fallback.versions", dict),
    ):
        loads(plugin)
        change()
        assert json.loads(harness(*words).out)[0]["cell"] == "cached"
        assert loads(plugin) == ["auto"]


@pytest.mark.parametrize("model", ["whiten(letters)", "rrf(letters,letters:way=slow)", "rrf(whiten(letters),letters)"])
def test_as_a_member(harness, toy: Path, plugin: Path, home: Path, model: str) -> None:
    words = ("benchmark", "--plugin", plugin, "-m", model, "-d", toy, "--json")
    done = harness(*words)
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    assert cell["model"] == model
    assert done.err.count(WHY) == 1
    assert cell["manifest"]["run"]["fallbacks"] == {"letters": WHY.partition(" is ")[2]}
    asked = (
        model.replace("letters:way=slow", "x").replace("letters", "letters:way=slow").replace("x", "letters:way=slow")
    )
    if model.startswith("whiten"):
        assert cell["manifest"]["model"]["fingerprint"] == load_registry([plugin]).model(asked).fingerprint
    assert key(plugin, "letters")[:32] not in stored(home)
    assert json.loads(harness(*words).out)[0]["cell"] == "cached"


def test_by_workers_it_is_what_one_process_makes(harness, toy: Path, plugin: Path, home: Path, tmp_path: Path) -> None:
    words = ["benchmark", "--plugin", plugin, "-m", "letters", "-m", "rrf(letters,bm25)", "-d", toy, "--json"]
    alone = harness(*words, "--results", tmp_path / "alone")
    other = {**os.environ, "HARNESS_HOME": str(tmp_path / "other"), "OMP_NUM_THREADS": "1"}
    crew = [*words, "--executor", "processes", "--workers", "2"]
    for status in ("ok", "cached"):
        line = [sys.executable, "-m", "harness", *map(str, crew)]
        done = subprocess.run(line, env=other, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(WHY) == 1
        for ours, theirs in zip(json.loads(done.stdout), json.loads(alone.out), strict=True):
            assert (ours["model"], ours["cell"], ours["measures"]) == (theirs["model"], status, theirs["measures"])
            assert ours["manifest"]["key"] == theirs["manifest"]["key"]
            assert ours["manifest"]["run"]["fallbacks"] == theirs["manifest"]["run"]["fallbacks"]
    assert stored(tmp_path / "other") == stored(home)


@pytest.mark.parametrize("command", [("check", "letters"), ("isotropy", "-m", "letters", "-d", "toy")])
def test_other_commands_take_it_so_too(harness, toy: Path, plugin: Path, command: tuple[str, ...]) -> None:
    done = harness(command[0], "--plugin", plugin, *command[1:-1], toy if "-d" in command else command[-1])
    assert done.code == 0, done.out + done.err
    assert WHY in done.err


def test_a_recorded_cell_is_verified_as_it_was_taken(harness, toy: Path, plugin: Path) -> None:
    harness("benchmark", "--plugin", plugin, "-m", "letters", "-d", toy)
    done = harness("verify", "--plugin", plugin, "results")
    assert done.code == 0, done.out + done.err
    assert "| OK " in done.out


def test_who_asks_for_it_by_name_is_refused(harness, toy: Path, plugin: Path) -> None:
    done = harness("benchmark", "--plugin", plugin, "-m", "letters:way=fast", "-d", toy)
    assert done.code == 2
    assert "Its letters are too many; type way=slow, as in -m 'NAME:way=slow'." in done.err
    model = load_registry([plugin]).model("letters")
    with pytest.raises(UserError, match="type way=slow"):
        model.load()


def test_plans_for_another_device_load_nothing(
    harness, toy: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    monkeypatch.setattr("harness.planning.speed._scan", lambda device: scanned)
    assert harness("plan", "--plugin", plugin, "-m", "letters", "-d", toy, "--device", "h100").code == 0
    assert loads(plugin) == []


def test_what_cannot_be_loaded_at_all_fails_its_own_cell(harness, toy: Path, plugin: Path, home: Path) -> None:
    done = harness("benchmark", "--plugin", plugin, "-m", "letters:fault=true", "-m", "letters", "-d", toy, "--json")
    assert done.code == 1
    failed, other = json.loads(done.out)
    assert "no luck" in failed["reason"]
    assert other["cell"] == "ok"
    assert len([*(home / "trials").iterdir()]) == 1


def test_a_home_that_cannot_be_written_costs_time_alone(
    plugin: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UserError("disk full")

    monkeypatch.setattr("harness.registry.load_fallback.write_json", full)
    told: list[str] = []
    progress: Callable[[str, int, int], None] = lambda what, *_: told.append(what)  # noqa: E731
    model = Prepared(load_registry([plugin]).model("letters"), home, progress=progress)
    assert model.ref.own_key == key(plugin, "letters:way=slow")
    assert WHY in told
    assert model.dense.dim == 32


def test_the_sentence_is_whole() -> None:
    assert str(Otherwise("it is blue", a=1, b="x")) == "It is blue; type a=1,b=x, as in -m 'NAME:a=1,b=x'."


def test_a_model_that_is_refused_is_refused_where_results_are_stored(
    harness, toy: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("benchmark", "--plugin", plugin, "-m", "letters", "-d", toy)
    assert harness(*words).code == 0
    text = plugin.read_text().replace('raise Otherwise("its letters are too many", way="slow")', 'raise Refused("No.")')
    plugin.write_text(text.replace("hookimpl\n", "Refused, hookimpl\n", 1))
    monkeypatch.setattr(
        "harness.registry.model_ref.ModelRef.own_key", "0" * 64
    )  # as if its source were no part of the key
    for _ in range(2):
        done = harness(*words)
        assert (done.code, done.err.splitlines()[-1]) == (2, "harness: No.")
