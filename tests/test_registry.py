"""Plug-ins: found, named, refused."""

from __future__ import annotations

import importlib.metadata
import textwrap
from pathlib import Path

import pytest

from harness.expression import split_options
from harness.modelref import missing_extra
from harness.registry import Registry, load_registry
from harness.spec import UserError


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def plugin(folder: Path, text: str, name: str = "mine_for_test") -> Path:
    file = folder / f"{name}.py"
    file.write_text("from harness import DatasetSpec, ModelSpec, Option, hookimpl\n" + textwrap.dedent(text))
    return file


def test_built_ins_come_in_through_entry_points(registry: Registry) -> None:
    assert {"bm25", "mpnet", "minilm", "checkpoint"} <= set(registry.models)
    assert "pydocs" in registry.datasets
    assert not registry.broken
    group = {entry.name for entry in importlib.metadata.entry_points(group="harness")}
    assert {registry.models[name].plugin for name in registry.models} <= group


def test_options_are_typed_checked_and_part_of_the_label(registry: Registry) -> None:
    ref = registry.model("bm25:k1=1.2,fields=multifield")
    assert ref.options["k1"] == 1.2
    assert ref.options["b"] == 0.4
    assert ref.label == "bm25:fields=multifield,k1=1.2"
    assert registry.model("bm25").label == "bm25"
    assert registry.model("bm25").key != ref.key
    assert registry.model("bm25:k1=0.9").key == registry.model("bm25").key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bm52", ["no model 'bm52'", "did you mean bm25"]),
        ("nothing-like-it", ["no model 'nothing-like-it'", "known:"]),
        ("bm25:k9=1", ["no option of bm25 'k9'", "k1"]),
        ("bm25:k1=high", ["k1", "'high' is not a number"]),
        ("bm25:k1=-1", ["k1", "below 0"]),
        ("bm25:k1=nan", ["k1", "not finite"]),
        ("bm25:fields=title", ["fields", "not one of", "multifield"]),
        ("bm25:k1=1,b", ["'b'", "key=value"]),
        ("checkpoint", ["needs a folder"]),
        ("./no/such/folder", ["no folder", "harness models"]),
    ],
)
def test_what_cannot_be_resolved_is_one_clear_sentence(registry: Registry, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        registry.model(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_colon_in_a_path_is_no_option() -> None:
    assert split_options("/data/a:b/run") == ("/data/a:b/run", {})
    assert split_options("/data/a:b/run:dtype=float32") == ("/data/a:b/run", {"dtype": "float32"})


BROKEN = {
    "syntax": "def (",
    "raises": "raise RuntimeError('no GPU today')",
    "misspelt hook": "@hookimpl\ndef harness_modells():\n    yield",
    "wrong type": "@hookimpl\ndef harness_models():\n    yield 'bm25'",
    "name taken": '@hookimpl\ndef harness_models():\n    yield ModelSpec("bm25", "dense", "x:y", "")',
    "dataset from nowhere": '@hookimpl\ndef harness_datasets():\n    yield DatasetSpec("mine", "who knows where")',
    "fails when listing": "@hookimpl\ndef harness_models():\n    raise ValueError('oops')",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_one_broken_plugin_never_breaks_the_rest(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"broken_{fault.replace(' ', '_')}"
    plugin(tmp_path, BROKEN[fault], name)
    monkeypatch.syspath_prepend(tmp_path)
    entries = list(importlib.metadata.entry_points(group="harness"))
    bad = importlib.metadata.EntryPoint("aaa-broken", name, "harness")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [bad, *entries])
    if fault == "name taken":
        bad = importlib.metadata.EntryPoint("zzz-broken", name, "harness")
    registry = load_registry()
    assert [b.plugin for b in registry.broken] == [bad.name]
    assert registry.broken[0].reason
    assert {"bm25", "mpnet", "minilm"} <= set(registry.models)
    monkeypatch.setenv("HARNESS_STRICT_PLUGINS", "1")
    with pytest.raises(Exception, match=r".+"):
        load_registry()


def test_a_plugin_file_runs_without_installing(tmp_path: Path) -> None:
    file = plugin(
        tmp_path,
        """
        def load(options):
            return options

        @hookimpl
        def harness_models():
            yield ModelSpec("mine", "dense", f"{__name__}:load", "mine", options={"n": Option(3, "a number")})
        """,
    )
    ref = load_registry([file]).model("mine:n=4")
    assert ref.load() == {"n": 4}
    before = ref.key
    file.write_text(file.read_text() + "\n# another version\n")
    assert load_registry([file]).model("mine:n=4").key != before  # no fingerprint given: the source file is one


@pytest.mark.parametrize("fault", BROKEN)
def test_a_plugin_file_that_was_asked_for_must_load(fault: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="plug-in file"):
        load_registry([plugin(tmp_path, BROKEN[fault], f"asked_{fault.replace(' ', '_')}")])


def test_a_plugin_file_must_exist_and_not_hide_a_module(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no plug-in file"):
        load_registry([tmp_path / "absent.py"])
    with pytest.raises(UserError, match="rename the file"):
        load_registry([plugin(tmp_path, "", "json")])


def test_a_missing_extra_is_one_sentence_with_the_pip_line() -> None:
    needs = "mpnet needs"
    type_ = 'type: pip install "retrieval-harness[dense]"'
    assert missing_extra("mpnet", ["faiss"], "dense") == f"{needs} faiss, which is not installed; {type_}"
    assert missing_extra("mpnet", ["a", "b"], "dense") == f"{needs} a and b, which are not installed; {type_}"
    sentence = f"{needs} a, b and c, which are not installed; type: pip install a b c"
    assert missing_extra("mpnet", ["a", "b", "c"], "") == sentence
