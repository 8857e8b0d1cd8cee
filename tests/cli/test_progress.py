"""The bar on stderr: each piece of work with its own amounts, in its units."""

from __future__ import annotations

import ast
import io
import re
import sys

import pytest
from rich.progress import Progress

from harness.cli.output import UNIT, progress_bar
from tests.conftest import ROOT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stderr; to be called in the test itself, before which pytest puts its own there."""
    made, update = Terminal(), Progress.update

    def updated(bar: Progress, *task: object, **fields: object) -> None:
        update(bar, *task, **fields)  # type: ignore[arg-type]
        bar.refresh()  # as the bar's own clock does ten times a second

    monkeypatch.setattr(Progress, "update", updated)
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    return made


def last(screen: Terminal, words: str) -> str:
    """The last line shown of some work, without colours."""
    lines = re.split(r"[\r\n]|\x1b\[\d*[A-HJK]", screen.getvalue())
    plain = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line) for line in lines]
    return [line for line in plain if words in line][-1]


def test_bytes_have_a_unit_and_the_next_work_has_amounts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress_bar() as progress:
        progress("reading corpus.jsonl (bytes)", 3_200_000, 21_143_626)
        progress("reading corpus.jsonl (bytes)", 21_143_626, 21_143_626)
        progress("loading bm25", 0, 0)
        progress("searching toy (queries)", 12, 1300)
        progress("searching toy (queries)", 1300, 1300)
        progress("hashing", 5000, 0)
    assert "reading corpus.jsonl ━" in last(screen, "reading")
    assert "21.1 MB/21.1 MB" in last(screen, "reading")
    assert "(bytes)" not in screen.getvalue()
    assert not any(c.isdigit() for c in last(screen, "loading").replace("0:00:00", "").replace("bm25", ""))
    assert "1,300/1,300 queries" in last(screen, "searching")


def test_a_pipe_has_a_line_for_each_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("reading x (bytes)", 0, 5)
        progress("reading x (bytes)", 5, 5)
        progress("loading y", 0, 0)
        progress("", 0, 0)
    assert capsys.readouterr().err == "reading x\nloading y\n"


def test_a_note_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("note: openai:m: [bold]100[/bold] :smile:", 0, 0)
    assert capsys.readouterr().err == "note: openai:m: [bold]100[/bold] :smile:\n"


def test_every_bar_with_a_total_has_a_unit() -> None:
    places = []
    for file in (
        file for room in ("harness", "plugins", "reports", "training") for file in (ROOT / room).rglob("*.py")
    ):
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call) or len(call.args) != 3:
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            described, _, total = call.args
            if not name.endswith("progress") or (isinstance(total, ast.Constant) and total.value == 0):
                continue
            last = described.values[-1] if isinstance(described, ast.JoinedStr) else described
            places.append((file, call.lineno, UNIT.search(str(getattr(last, "value", "")))))
    assert len(places) > 15
    assert [place for *place, unit in places if not unit] == []
