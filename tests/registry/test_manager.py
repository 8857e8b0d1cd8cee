"""Plug-ins: found, named, refused."""

from __future__ import annotations

import importlib.metadata
import textwrap
from pathlib import Path

import pytest

from harness.registry import option_values
from harness.registry.manager import Registry, load_registry, parse_options
from harness.registry.model_ref import missing_extra
from harness.registry.parser import split_options
from harness.types import ModelSpec, Option, UserError


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("all-MiniLM-L6-v2", "type -m st:sentence-transformers/all-MiniLM-L6-v2 (the same weights are -m minilm)."),
        ("all-minilm-l6", "type -m st:sentence-transformers/all-MiniLM-L6-v2"),
        ("all-mpnet-base-v2", "type -m st:sentence-transformers/all-mpnet-base-v2 (the same weights are -m mpnet)."),
        ("bge-small-en", "For a model of the hub, type -m st:organisation/name."),
        ("results/gone", "There is no folder results/gone; for a model of the hub, type -m st:results/gone;"),
        ("./gone/too", "There is no folder ./gone/too; `harness models`"),
        ("a/b/c", "There is no folder a/b/c; `harness models`"),
        ("~/gone", "There is no folder ~/gone; `harness models`"),
    ],
)
def test_a_name_nearly_of_the_hub_names_the_cure(
    registry: Registry, text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    with pytest.raises(UserError) as caught:
        registry.model(text)
    assert words in str(caught.value)


def test_a_name_of_the_hub_is_its_model_unless_there_is_such_a_folder(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("someone/words", "someone/words@v1:query_prompt=q", "rrf(bm25,someone/words)"):
        bare = text.replace("someone", "st:someone")
        assert registry.model(text) == registry.model(bare)
        assert registry.model(text).label == registry.model(bare).label
    Path("someone/words").mkdir(parents=True)
    assert registry.model("someone/words").spec.name == "checkpoint"


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("bm25,minilm", ["bm25", "minilm"]),
        ("bm25 , minilm", ["bm25", "minilm"]),
        ("bm25:k1=1,b=0.2,minilm", ["bm25:k1=1,b=0.2", "minilm"]),
        ("minilm,bm25:k1=1,b=0.2", ["minilm", "bm25:k1=1,b=0.2"]),
        ("rrf(bm25,minilm):k=20,bm25", ["rrf(bm25,minilm):k=20", "bm25"]),
        ("./one,bm25", ["./one", "bm25"]),
        ("st:someone/words,bm25", ["st:someone/words", "bm25"]),
        ("bm25,minlm", ["bm25", "minlm"]),  # each is told to be unknown by itself
        ("someone/words,bm25", ["someone/words", "bm25"]),
        ("minilm:query_prompt=find,./one", ["minilm:query_prompt=find", "./one"]),
        ("minilm:query_prompt=find, this/that", ["minilm:query_prompt=find, this/that"]),
        ('minilm:query_prompt="a, bm25",bm25', ['minilm:query_prompt="a, bm25"', "bm25"]),
        ("minilm:query_prompt=find, then read", ["minilm:query_prompt=find, then read"]),
        ("bm25:k1=1,b", ["bm25:k1=1,b"]),
        ("./a,b", ["./a,b"]),
        ("bm25,", ["bm25,"]),
        ("rrf(bm25", ["rrf(bm25"]),
    ],
)
def test_a_list_of_models_is_several_where_each_is_one(
    registry: Registry, text: str, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "a,b"):
        Path(folder).mkdir()
    assert registry.texts([text, "bm25", text]) == list(dict.fromkeys([*models, "bm25"]))


def test_a_folder_whose_name_looks_like_options_is_named_by_its_path(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd:max_seq_length=16").mkdir()
    assert registry.model("./odd:max_seq_length=16").options["path"] == "odd:max_seq_length=16"
    assert registry.model("./odd:max_seq_length=16:dtype=float32").options["dtype"] == "float32"


@pytest.mark.parametrize(
    ("typed", "value"),
    [("search: ", "search: "), (" a", " a"), ('" b "', " b "), ('"7"', "7")],
)
def test_blanks_of_text_are_kept_whatever_the_default(typed: str, value: str) -> None:
    spec = ModelSpec("mine", "dense", "x:y", "", options={"prompt": Option("query: ", "x"), "n": Option(3, "x")})
    assert parse_options(spec, {"prompt": option_values.read_option_values(typed, "")})["prompt"] == value
    assert parse_options(spec, {"n": " 7 "})["n"] == 7
    assert parse_options(spec, {"n": option_values.read_option_values('"7"', "")})["n"] == 7


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
