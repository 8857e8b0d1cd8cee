"""Signals end a command cleanly the first time, at once the second; and a log says what happened to every cell."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.system import log_file
from harness.system.log import note
from tests.conftest import ROOT, Done

STUBBORN = """
import time

import numpy as np

from harness import ModelSpec, hookimpl


class Stubborn:
    dim = 4

    def encode(self, texts, *, role):
        try:
            print("encoding", flush=True)
            time.sleep(60)
        finally:
            time.sleep(WAIT)


@hookimpl
def harness_models():
    yield ModelSpec("stubborn", "dense", f"{__name__}:load", "takes its time")


def load(options):
    return Stubborn()
"""


def start(toy: Path, place: Path, wait: float, *more: str, prefix: str = "") -> subprocess.Popen[str]:
    """A benchmark that is encoding, and needs ``wait`` seconds to stop."""
    (place / "stubborn_model.py").write_text(STUBBORN.replace("WAIT", str(wait)))
    words = [sys.executable, "-m", "harness", "benchmark", "--plugin", str(place / "stubborn_model.py")]
    words += ["-m", "stubborn", "-d", str(toy), "--results", str(place / "results"), *more]
    process = subprocess.Popen(
        ["sh", "-c", f"{prefix} exec {shlex.join(words)}"],
        env={**os.environ, "HARNESS_HOME": str(place / "home"), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "encoding\n"
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_ends_in_one_sentence_and_leaves_nothing_behind(
    toy: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = start(toy, tmp_path, 0, "--log", str(tmp_path / "logs" / "log.jsonl"))
    process.send_signal(number)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert err.splitlines()[-1].startswith("harness: Interrupted; finished work is kept")
    assert "Traceback" not in err
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".old", ".lock")]
    assert not list((tmp_path / "results").rglob("*.*"))
    events = [json.loads(line) for line in (tmp_path / "logs" / "log.jsonl").read_text().splitlines()]
    assert [(event["event"], event["model"], event["dataset"]) for event in events] == [
        ("begun", "stubborn", "toy"),
        ("stopped", "stubborn", "toy"),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it_at_once(toy: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(toy, tmp_path, 50)
    start_of_end = time.monotonic()
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None  # it puts things in order, and takes long over it
    process.send_signal(number)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert time.monotonic() - start_of_end < 20
    assert err.splitlines()[-1] == "harness: Stopped at once; what was finished is kept."
    assert "Traceback" not in err


IMPORTING = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == WHERE:
            sys.stdout.write("importing ")
            sys.stdout.flush()
            os.kill(os.getpid(), NUMBER)

signal.signal(NUMBER, BEFORE)
sys.meta_path.insert(0, Finder())
sys.argv = ["harness", "models"]
runpy.run_module("harness", run_name="__main__")
"""
"""The command, sent a signal by itself at the moment when it imports a module."""


@pytest.mark.parametrize(
    ("where", "number", "before", "status"),
    [
        *((where, signal.SIGINT, "signal.default_int_handler", 130) for where in ("click", "harness.types", "pluggy")),
        ("harness.cli.main", signal.SIGTERM, "signal.SIG_DFL", 143),
        ("numpy", signal.SIGTERM, "signal.SIG_DFL", 143),
        ("pluggy", signal.SIGHUP, "signal.SIG_DFL", 129),
        ("numpy", signal.SIGHUP, "signal.SIG_IGN", 0),
    ],
)
def test_a_signal_ends_it_cleanly_while_it_imports(
    where: str, number: signal.Signals, before: str, status: int, tmp_path: Path
) -> None:
    program = IMPORTING.replace("WHERE", repr(where)).replace("NUMBER", str(int(number))).replace("BEFORE", before)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HARNESS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        **{"capture_output": True, "text": True, "check": False},
    )
    assert done.stdout.startswith("importing ")
    assert done.returncode == status, done.stderr
    if status:
        told = "harness: Interrupted; finished work is kept, and the same command resumes from there."
        assert (done.stdout, done.stderr.strip()) == ("importing ", told)


def test_the_package_imports_nothing_by_itself() -> None:
    """So that signals are handled before anything is imported that takes time; its names are there nevertheless."""
    program = (
        "import sys; import harness; heavy = {'numpy', 'click', 'pluggy', 'harness.types'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
        "for name in harness.__all__: getattr(harness, name)\n"
        "from harness import *\n"
        "assert sorted({*harness.LAZY, '__version__'}) == sorted(harness.__all__)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_what_nohup_switched_off_stays_off(toy: Path, tmp_path: Path) -> None:
    process = start(toy, tmp_path, 0, prefix="trap '' HUP;")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_a_reader_that_leaves_ends_it_quietly(harness: Callable[..., Done], toy: Path) -> None:
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0
    command = f"{shlex.quote(sys.executable)} -m harness report --format json; echo $? >&2"
    words = ["bash", "-c", f"({command}) | head -c 1"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "{"
    assert done.stderr.split()[-1] in ("141", "0")  # 0: all of it went into the pipe before its reader left
    assert "Traceback" not in done.stderr


def test_the_log_has_a_line_for_all_that_happens_to_a_cell(harness: Callable[..., Done], toy: Path) -> None:
    words = ("benchmark", "-m", "bm25", "-d", toy, "--log", "log.jsonl")
    assert harness(*words).code == harness(*words).code == 0
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["begun", "ended", "reused"]
    assert {event["model"] for event in events} == {"bm25"}
    assert events[1]["seconds"].keys() >= {"index", "search", "measure"}
    assert events[0]["time"] < events[2]["time"]
    refused = harness("benchmark", "-m", "bm25", "-d", toy, "--log", "log.jsonl/below")
    assert refused.code == 2
    assert "--log" in refused.err


def test_the_log_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MOST_BYTES", 1000)
    with log_file.log_to_file(tmp_path / "log.jsonl"):
        for number in range(200):
            note("ended", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log.jsonl", *(f"log.jsonl.{n}" for n in range(1, log_file.KEPT + 1))]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert json.loads(files[0].read_text().splitlines()[-1])["number"] == 199
    note("ended", number=200)  # to nobody
    assert "200" not in files[0].read_text()
