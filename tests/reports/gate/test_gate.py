"""``harness gate``: verdicts and exit codes on results made for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.types import UserError
from harness_reports.cli.gate import command
from tests.reports.factory import Results

BASE = np.random.default_rng(1).uniform(0.3, 0.6, 400)


def shifted(mean: float, deviation: float, seed: int = 2) -> list[float]:
    """The baseline's values plus differences of exactly this mean."""
    noise = np.random.default_rng(seed).normal(0, deviation, len(BASE))
    return list(BASE + mean + noise - noise.mean())


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Results, Results]:
    """Results to check, and a baseline with one model on one dataset."""
    new, old = Results(tmp_path / "new"), Results(tmp_path / "old")
    old.add_queries("m", "scifact", list(BASE))
    return new, old


def run(folders: tuple[Results, Results], *arguments: str, env: dict[str, str] | None = None) -> Result:
    places = [str(folders[0].store.root), "--baseline", str(folders[1].store.root)]
    return CliRunner().invoke(command, [*places, *arguments], env={"GITHUB_STEP_SUMMARY": "", **(env or {})})


def checks(folders: tuple[Results, Results], *arguments: str) -> dict[str, str]:
    found: dict[str, Any] = json.loads(run(folders, "--json", *arguments).stdout)
    return {each["dataset"]: each["verdict"] for each in found["checks"]}


@pytest.mark.parametrize(
    ("mean", "deviation", "margin", "verdict", "code"),
    [
        (-0.02, 0.02, "0.5", "worse", 1),  # -2 points, give or take 0.2
        (-0.02, 0.02, "1.9", "undecided", 0),
        (-0.02, 0.02, "3", "no worse", 0),
        (-0.02, 0.5, "0.5", "undecided", 0),  # give or take 5
        (+0.02, 0.5, "0.5", "undecided", 0),
        (+0.02, 0.02, "0", "no worse", 0),
        (0.0, 0.0, "0.5", "no worse", 0),
    ],
)
def test_verdicts_on_one_dataset(
    folders: tuple[Results, Results], mean: float, deviation: float, margin: str, verdict: str, code: int
) -> None:
    folders[0].add_queries("m", "scifact", shifted(mean, deviation))
    ended = run(folders, "--worse-than", margin, "--json")
    content = json.loads(ended.stdout)
    [check] = content["checks"]
    half = 1.966 * deviation / len(BASE) ** 0.5  # Student's t
    assert check["interval"] == pytest.approx((mean - half, mean + half), abs=0.1 * deviation / len(BASE) ** 0.5 + 1e-9)
    assert check["difference"] == pytest.approx(mean, abs=1e-9)
    assert (check["verdict"], ended.exit_code, content["passed"]) == (verdict, code, not code)
    strict = run(folders, "--worse-than", margin, "--undecided", "fail")
    assert strict.exit_code == int(verdict != "no worse")


def test_a_difference_must_be_significant_among_all_datasets(folders: tuple[Results, Results]) -> None:
    """An interval below the margin by a hair (p of about 0.03) on one of four datasets is not enough."""
    new, old = folders
    for dataset, mean in (("scifact", -0.0022), ("fiqa", 0.0), ("mine", 0.0), ("yours", 0.0)):
        old.add_queries("m", dataset, list(BASE))
        new.add_queries("m", dataset, shifted(mean, 0.02))
    margin = ("--worse-than", "0")
    assert checks(folders, *margin)["scifact"] == "undecided"
    assert checks(folders, *margin, "-d", "scifact") == {"scifact": "worse"}


def test_a_loss_over_all_datasets_counts(folders: tuple[Results, Results]) -> None:
    new, old = folders
    for number, dataset in enumerate(("scifact", "fiqa", "mine", "yours")):
        old.add_queries("m", dataset, list(BASE))
        new.add_queries("m", dataset, shifted(-0.0018, 0.02, number))
    found = checks(folders, "--worse-than", "0")
    assert {found[dataset] for dataset in ("scifact", "fiqa", "mine", "yours")} == {"undecided"}
    assert found[""] == "worse"


def test_what_is_missing_or_of_another_version_fails(folders: tuple[Results, Results]) -> None:
    new, old = folders
    old.add_queries("m", "fiqa", list(BASE))
    new.add_queries("m", "scifact", list(BASE), manifest={"dataset": {"fingerprint": {"corpus": "another"}}})
    assert checks(folders) == {"scifact": "not comparable", "fiqa": "missing"}
    assert run(folders).exit_code == 1
    new.add_queries("m", "scifact", list(BASE))
    new.add("m", "fiqa", reason="the disk was full")
    assert checks(folders) == {"scifact": "no worse", "fiqa": "missing"}


def test_models_are_paired_by_name_or_as_told(folders: tuple[Results, Results]) -> None:
    new, old = folders
    new.add_queries("m@abc", "scifact", shifted(-0.1, 0.02))
    assert "m@abc on scifact" in run(folders).stdout  # the only one there and here
    new.add_queries("m", "scifact", list(BASE))
    assert run(folders).stdout.count("worse") == 2  # m alone: "1 no worse; m on scifact ... no worse"
    assert run(folders, "-m", "m@abc", "--baseline-model", "m").exit_code == 1
    old.add_queries("other", "scifact", list(BASE))
    assert run(folders).exit_code == 0
    for arguments, message in (
        (["-m", "n"], "result of a model 'n'"),
        (["-m", "m@abc"], "has no result of m@abc; name the model there with --baseline-model (it has m, other)"),
        (["--baseline-model", "n"], "result of a model 'n'"),
        (["-d", "nfcorpus"], "nfcorpus"),
    ):
        refused = run(folders, *arguments)
        assert isinstance(refused.exception, UserError)
        assert message in str(refused.exception)


def test_a_line_and_a_summary_for_github(folders: tuple[Results, Results], tmp_path: Path) -> None:
    folders[0].add_queries("m", "scifact", shifted(-0.02, 0.02))
    file = tmp_path / "summary.md"
    file.write_text("# before\n")
    ended = run(folders, env={"GITHUB_STEP_SUMMARY": str(file)})
    assert ended.stdout.startswith("FAIL (margin 0.5 points): 1 worse; m on scifact -2.00 [-2.")
    assert ended.stdout.count("\n") == 1
    assert file.read_text().startswith("# before\n## nDCG@10 against the baseline: failed\n")
    assert "| :x: | m " in " ".join(file.read_text().split())
    run(folders, "--summary", str(tmp_path / "other.md"), env={"GITHUB_STEP_SUMMARY": str(file)})
    assert (tmp_path / "other.md").read_text() == file.read_text().removeprefix("# before\n")
