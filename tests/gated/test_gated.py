"""What the four converters have in common."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.dataset import STATED
from harness.gated import CONVERTERS, INSTRUCTIONS, convert, converted
from tests.conftest import Done
from tests.gated.test_trec_news import ARTICLES, source, write
from tests.test_layers import imports

ROOM = Path(__file__).resolve().parents[2] / "harness" / "gated"
__all__ = ["source"]


def test_every_one_has_instructions_that_name_its_owner_and_its_files() -> None:
    assert CONVERTERS.keys() == INSTRUCTIONS.keys() == {"bioasq", "signal1m", "trec-news", "robust04"}
    for name, target in CONVERTERS.items():
        about = importlib.import_module(target.partition(":")[0]).ABOUT
        assert about.name == name
        assert f"{about.published.documents:,} documents" in INSTRUCTIONS[name]
        assert f"harness fetch {name} --from FOLDER" in INSTRUCTIONS[name]
        assert "http" in INSTRUCTIONS[name]


def test_the_room_knows_no_other_than_those_below_it() -> None:
    for file in ROOM.glob("*.py"):
        ours = {name.split(".")[1] for name in imports(file) if name.startswith("harness.")}
        assert ours <= {"gated", "spec", "atomic", "run"}, file


def test_the_same_files_are_converted_once(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert converted("trec-news", home) is None
    steps: list[str] = []
    first = convert("trec-news", source, home, lambda text, *_: steps.append(text))
    assert steps
    assert first.parent == home / "datasets"
    (source / "notes.txt").write_text("of no account")
    assert convert("trec-news", source, home, lambda *_: pytest.fail("converted again")) == first
    write(source, [*ARTICLES, ARTICLES[3] | {"id": "e" * 32}])
    second = convert("trec-news", source, home, lambda *_: None)
    assert second != first
    assert converted("trec-news", home) == second
    assert convert("trec-news", source, tmp_path / "other", lambda *_: None).name == second.name


def test_dataset_toml_states_source_counts_and_licence(source: Path, tmp_path: Path) -> None:
    folder = convert("trec-news", source, tmp_path / "home", lambda *_: None)
    stated = tomllib.loads((folder / "dataset.toml").read_text())
    assert stated.keys() <= STATED.keys()
    assert stated["versions"]["counts"] == {"documents": 3, "queries": 2, "judgements": 5}
    assert stated["versions"]["missing"]["first"] == ["d" * 32]
    size = sum(path.stat().st_size for path in source.rglob("*.jl"))
    assert stated["versions"]["source"]["articles"] == f"1 files, {size} bytes"
    assert "NIST" in stated["licence"]


def test_from_goes_with_one_licensed_dataset(harness: Callable[..., Done], tmp_path: Path) -> None:
    for words in (["pydocs"], ["bioasq", "robust04"]):
        done = harness("fetch", *words, "--from", tmp_path)
        assert done.code == 2
        assert "--from goes with one licensed dataset" in done.err


def test_instructions_are_printed_and_nothing_is_made(harness: Callable[..., Done], home: Path) -> None:
    for name, text in INSTRUCTIONS.items():
        done = harness("fetch", name)
        assert (done.code, done.out) == (2, text + "\n")
        assert done.err.count("\n") == 1
        assert harness("fetch", name, "--json").out == ""
    assert not list(home.iterdir())
