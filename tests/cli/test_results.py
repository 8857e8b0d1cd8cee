"""``harness results`` lists what is stored and removes what is chosen; a report on a terminal is short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness_reports.cli import report
from tests.conftest import Done

pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")
Command = Callable[..., Done]
RAISES = """
from harness import ModelSpec, hookimpl

def load(options):
    raise KeyError("boom")

@hookimpl
def harness_models():
    yield ModelSpec("raises", "dense", f"{__name__}:load", "raises")
"""


@pytest.fixture
def stored(harness: Command, toy: Path) -> list[dict[str, str]]:
    Path("raises.py").write_text(RAISES)
    words = ("benchmark", "-m", "bm25", "-m", "bm25:k1=2", "-m", "raises", "--plugin", "raises.py", "-d", toy)
    assert harness(*words).code == 1
    return json.loads(harness("results", "--json").out)


def test_what_is_stored_is_listed(stored: list[dict[str, str]], harness: Command) -> None:
    assert [(each["model"], each["dataset"], each["status"]) for each in stored] == [
        ("bm25", "toy", "ok"),
        ("bm25:k1=2.0", "toy", "ok"),
        ("raises", "toy", "failed"),
    ]
    assert "KeyError: 'boom'" in stored[2]["reason"]
    result = json.loads(Path("results/bm25/toy/result.json").read_text())
    assert stored[0]["nDCG@10"] == result["measures"]["nDCG@10"]
    table = harness("results").out
    assert "| bm25:k1=2.0 | toy" in table
    Path("results/bm25/toy/result.json").write_text("{")
    assert "unreadable" in harness("results").out


def test_failed_results_are_removed(stored: list[dict[str, str]], harness: Command) -> None:
    done = harness("results", "rm", "--failed")
    assert (done.code, done.out, done.err) == (0, "removed raises on toy (failed)\n", "1 result removed\n")
    assert sorted(path.name for path in Path("results").iterdir()) == ["bm25", "bm25+k1=2.0"]
    assert harness("results", "rm", "--failed").err == "0 results removed\n"


def test_named_results_are_removed_and_no_others(stored: list[dict[str, str]], harness: Command) -> None:
    assert harness("results", "rm", "-m", "bm25", "-m", "raises", "-d", "toy").code == 0
    assert [path.name for path in Path("results").iterdir()] == ["bm25+k1=2.0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rm",), "Nothing to remove is named; add -m MODEL"),
        (("rm", "-m", "bm52"), "No result in results is of that model and dataset"),
        (("--results", "none"), "There is no results folder none"),
    ],
)
def test_a_mistake_is_one_sentence_and_removes_nothing(
    words: tuple[str, ...], said: str, stored: list[dict[str, str]], harness: Command
) -> None:
    done = harness("results", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len([*Path("results").glob("*/*/result.json")]) == 3


def test_a_report_on_a_terminal_shows_the_scores_alone(
    stored: list[dict[str, str]], harness: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = harness("report").out
    monkeypatch.setattr(report, "on_terminal", lambda: True)
    short, full = harness("report").out, harness("report", "--full").out
    assert full == piped
    assert piped.startswith(short.partition("## Notes")[0].rstrip())
    assert "## Geometry" not in short
    assert "failed: raises on toy" in short
    assert short.splitlines()[-1] == "- Geometry, cost, provenance and all notes: harness report --full."
    assert harness("report", "--json").out == harness("report", "--json", "--full").out
    assert harness("report", "-o", "report.md").code == 0
    assert Path("report.md").read_text() == piped


def test_the_list_of_commands_shows_examples(harness: Command) -> None:
    done = harness()
    lines = [line.strip() for line in done.out.partition("Examples:\n")[2].splitlines()]
    assert len(lines) == 3
    assert all(line.startswith("harness ") for line in lines)
    assert done.out == harness("--help").out
