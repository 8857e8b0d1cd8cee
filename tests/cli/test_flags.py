"""What every command has: tracebacks, more or fewer words on stderr, examples in its help."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from harness.cli.main import State, cli
from tests.conftest import Done
from tests.documentation import parsed

pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")

RAISES = """
from harness import ModelSpec, hookimpl

class Model:
    dim = 4
    def encode(self, texts, *, role):
        raise KeyError("boom")

def load(options):
    return Model()

@hookimpl
def harness_models():
    yield ModelSpec("raises", "dense", f"{__name__}:load", "raises")
"""


def commands(group: click.Group, ctx: click.Context, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, ctx, *above, name)
        else:
            yield (*above, name), command


COMMANDS = dict(commands(cli, click.Context(cli, obj=State())))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_has_two_examples_that_can_be_typed(words: tuple[str, ...], harness: Callable[..., Done]) -> None:
    done = harness(*words, "--help")
    assert done.code == 0
    _, _, listed = done.out.partition("\n  Examples:\n")
    lines = [line.strip() for line in listed.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"harness {' '.join(words)}")
        parsed(line)
    for option in ("--debug", "-v, --verbose", "-q, --quiet"):
        assert option in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_a_traceback_is_had_of_any_error(
    place: str, harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["benchmark", "-m", "bm52", "-d", "x"]
    plain = harness(*words)
    assert "Traceback" not in plain.err
    if place == "environment":
        monkeypatch.setenv("HARNESS_DEBUG", "1")
    done = harness(*(["--debug", *words] if place == "before" else [*words, "--debug"] if place == "after" else words))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert "harness/registry/manager.py" in done.err
    assert done.err.endswith(f"UserError: {plain.err.removeprefix('harness: ')}{plain.err}")


def test_the_traceback_of_a_plugin_is_had(harness: Callable[..., Done], toy: Path, tmp_path: Path) -> None:
    file = tmp_path / "raises.py"
    file.write_text(RAISES)
    words = ["benchmark", "-m", "raises", "--plugin", file, "-d", toy]
    plain, debugged = harness(*words), harness(*words, "--debug")
    assert plain.code == debugged.code == 1
    assert plain.out == debugged.out
    assert "Traceback" not in plain.err
    assert "it raised KeyError: 'boom' (raises.py:7)" in plain.err
    assert 'raise KeyError("boom")' in debugged.err
    assert harness("check", "raises", "--plugin", file).err.count("Traceback") == 0
    assert 'raise KeyError("boom")' in harness("check", "raises", "--plugin", file, "--debug").err


def test_an_interrupt_is_told_as_ever_with_and_without_a_traceback(
    harness: Callable[..., Done], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.evaluation.open_datasets.open_all", interrupted)
    done = harness("benchmark", "-m", "bm25", "-d", toy)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == (
        "harness: Interrupted; finished work is kept, and the same command resumes from there."
    )
    assert "Traceback" not in done.err


def test_more_and_fewer_words(harness: Callable[..., Done], toy: Path) -> None:
    (toy / "qrels" / "test.tsv").open("a").write("q1\tghost\t2\n")
    words = ["benchmark", "-m", "bm25", "-d", toy, "--force"]
    plain, quiet, loud = harness(*words), harness(*words, "-q"), harness("-v", *words)
    assert plain.out == quiet.out == loud.out
    assert "note: toy: 1 judgement" in plain.err
    assert "searching toy" in plain.err
    assert quiet.err == ""
    events = [line for line in loud.err.splitlines() if " begun " in line or " ended " in line]
    assert [line.split(" ", 1)[1].split(" seconds=")[0] for line in events] == [
        "begun model=bm25 dataset=toy",
        "ended model=bm25 dataset=toy",
    ]
    assert not [handler for handler in logging.getLogger("harness").handlers if type(handler) is logging.StreamHandler]
    failed = harness("benchmark", "-m", "bm52", "-d", toy, "-q")
    assert failed.err.startswith("harness: There is no model 'bm52'")


@pytest.mark.parametrize("words", [["index"], ["data"]])
def test_a_group_alone_shows_its_help(words: list[str], harness: Callable[..., Done]) -> None:
    done = harness(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == harness(*words, "--help").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("benchmark bm25 pydocs", "names models with -m and datasets with -d, as in: harness benchmark -m bm25 -d py"),
        ("benchmark bm25", "as in: harness benchmark -m bm25."),
        ("plan bm25 cqadupstack", "as in: harness plan -m bm25 -d cqadupstack."),
        ("difficulty bm25", "as in: harness difficulty -m bm25."),
        ("index export minilm", "harness index export names models with -m"),
        ("suites demo", "Got unexpected extra argument (demo)"),
    ],
)  # fmt: skip
def test_bare_words_are_told_where_they_belong(words: str, sentence: str, harness: Callable[..., Done]) -> None:
    done = harness(*words.split())
    assert done.code == 2
    assert sentence in done.err or "Missing option" in done.err
    assert "--help" in done.err
