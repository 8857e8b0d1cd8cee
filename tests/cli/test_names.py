"""Names that are not UTF-8: one sentence before any work where they are typed, a note where they are found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Done

ODD = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "words",
    [
        ("-d", f"./{ODD}"),
        ("-d", "toy", "--results", ODD),
        ("-d", "toy", "-m", f"./{ODD}"),
        ("-d", "toy", "--plugin", f"{ODD}.py"),
        ("-d", "toy", "--log", ODD),
    ],
    ids=lambda words: words[-2],
)
def test_what_is_typed_is_utf8(words: tuple[str, ...], toy: Path, tmp_path: Path, harness: Callable[..., Done]) -> None:
    shutil.copytree(toy, tmp_path / ODD)
    done = harness("benchmark", "-m", "bm25", "-d", "toy", *words)
    assert done.code == 2
    assert done.err.startswith("harness: The word '")
    assert r"caf\udce9" in done.err
    assert "is not UTF-8 text; rename that file or folder" in done.err
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ODD, "home", "toy"])  # nothing was done
    assert not [*(tmp_path / "home").iterdir()]


@pytest.mark.parametrize("name", ["HARNESS_HOME", "HARNESS_RESULTS", "HARNESS_LOG", "HARNESS_RUNS", "XDG_CACHE_HOME"])
def test_so_is_what_the_environment_says(
    name: str, toy: Path, tmp_path: Path, harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_HOME")
    monkeypatch.setenv(name, str(tmp_path / ODD))
    done = harness("benchmark", "-m", "bm25", "-d", toy)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert r"caf\udce9" in done.err
    assert not (tmp_path / ODD).exists()


def test_so_is_the_current_folder(
    toy: Path, tmp_path: Path, harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    done = harness("benchmark", "-m", "bm25", "-d", "../toy")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "The current folder" in done.err
    assert [*(tmp_path / ODD).iterdir()] == []
    assert harness("--help").code == 0


def test_another_locale_is_named(toy: Path, tmp_path: Path) -> None:
    toy.rename(tmp_path / "tést漢")
    inherited = {name: value for name, value in os.environ.items() if name not in ("LANG", "LC_CTYPE")}
    plain = {
        **inherited,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "HARNESS_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, "-m", "harness", "benchmark", "-m", "bm25", "-d", "./tést漢"]
    done = subprocess.run(words, cwd=tmp_path, env=plain, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"PYTHONUTF8=1" in done.stderr
    assert done.stderr.count(b"\n") == 1
    done = subprocess.run(words, cwd=tmp_path, env={**plain, "PYTHONUTF8": "1"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv", "json"])
def test_a_report_tells_of_results_under_other_names(
    form: str, toy: Path, tmp_path: Path, harness: Callable[..., Done]
) -> None:
    """A copy, which is skipped, and one that says something else, which gets a row of its own."""
    if form == "html":
        pytest.importorskip("vl_convert")
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0
    results = tmp_path / "results"
    shutil.copytree(results / "bm25" / "toy", results / "bm25" / ODD)
    shutil.copytree(results / "bm25", results / ODD)
    file = results / ODD / "toy" / "result.json"
    content = {name: field for name, field in json.loads(file.read_bytes()).items() if name != "checksum"}
    file.write_text(json.dumps({**content, "measures": {**content["measures"], "nDCG@10": 0.125}}))
    done = harness("report", "--format", form)
    assert done.code == 1
    assert r"bm25/caf\udce9/result.json: a copy of bm25/toy" in done.err
    assert r"bm25 (in caf\udce9)" in done.err
    assert "Traceback" not in done.err
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0


def test_a_dataset_may_hold_files_of_any_name(toy: Path, harness: Callable[..., Done]) -> None:
    (toy / "qrels" / f"{ODD}.tsv").touch()
    (toy / ODD).touch()
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--split", "dev")
    assert (done.code, "Traceback" in done.err) == (2, False)
