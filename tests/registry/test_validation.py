"""What a plug-in states is checked when it is registered: a wrong descriptor is named, and the rest works."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import DatasetSpec, ModelFacts, ModelFiles, ModelSpec, Option, Packages, PluginError, UserError, Weights
from harness.registry.manager import load_registry
from harness.registry.validation import check_dataset, check_model
from harness.types import Counts, Source
from tests.conftest import Done

ANY: dict = {"name": "mine", "kind": "dense", "load": "mine:load", "summary": "mine"}
WEIGHTS: dict = {"name": "mine", "hub": "me/mine@main", "sha256": {"model.safetensors": "0" * 64}}
DATA: dict = {"name": "mine", "summary": "mine", "build": "mine:build"}
SOURCE: dict = {"kind": "zip", "place": "https://x/y.zip"}


def option(*given: object, **more: object) -> dict:
    return {"options": {"how": Option(*given, **more)}}  # type: ignore[arg-type]


MODELS = [
    (option(None, "h", role="queries"), "role of the option 'how' of the model 'mine' is 'queries'; it must be query"),
    ({"name": "a/b"}, "name of the model 'a/b' is 'a/b'; it must be a name of letters"),
    ({"name": "a:b"}, "name of the model"),
    ({"name": "../up"}, "name of the model"),
    ({"name": ""}, "name of the model"),
    ({"name": 7}, "name of the model 7 is 7"),
    ({"kind": "spares"}, "kind of the model 'mine' is 'spares'; it must be one of dense, sparse, multivector, lexical"),
    ({"load": "mine"}, "load of the model 'mine' is 'mine'; it must be 'module:callable'"),
    ({"load": ""}, "load of the model"),
    ({"load": len}, "load of the model"),
    ({"fingerprint": "mine.fingerprint"}, "fingerprint of the model 'mine' is 'mine.fingerprint'"),
    ({"summary": None}, "summary of the model 'mine' is None; it must be a string"),
    ({"similarity": "cosin"}, "similarity of the model 'mine' is 'cosin'; it must be one of euclidean, cosine, dot"),
    ({"packages": Packages("torch")}, "modules of the model 'mine' is 'torch'; it must be a tuple of strings"),
    ({"trained_on": "msmarco"}, "trained_on of the model"),
    ({"trained_on": ("msmarco", 7)}, "trained_on of the model"),
    ({"facts": ModelFacts(-1)}, "dim of the model 'mine' is -1; it must be a number, 0 or more"),
    ({"facts": ModelFacts(True)}, "dim of the model"),
    ({"facts": ModelFacts(flops_per_token=float("nan"))}, "flops_per_token of the model"),
    ({"files": ModelFiles(path_option="path")}, "path_option of the model 'mine' is 'path'; it must be the name"),
    ({"options": [Option(1, "a number")]}, "options of the model"),
    ({"options": {"how": 7}}, "the option 'how' of the model 'mine' is of type int; it must be an Option"),
    ({"options": {"a b": Option(1, "x")}}, "options of the model 'mine' is 'a b'"),
    (option((1, 2), "a pair"), "default of the option 'how' of the model 'mine' is (1, 2); it must be text"),
    (option(float("inf"), "x"), "default of the option 'how' of the model 'mine' is inf; it must be finite"),
    (option("raise", None), "help of the option 'how' of the model 'mine' is None"),
    (option("raise", "how", choices=None), "choices of the option 'how' of the model 'mine' is None"),
    (option("raise", "how", choices="raise"), "choices of the option"),
    (option(1, "how", choices=("1", "2")), "choices of the option 'how' of the model 'mine' is ('1', '2')"),
    (option(True, "how", choices=(0, 1)), "choices of the option"),
    (option("huge", "how", choices=("small", "large")), "default of the option 'how' of the model 'mine' is 'huge'"),
    (option(5, "how", maximum=3), "default of the option 'how' of the model 'mine' is 5; it must be from None to 3"),
    (option(5, "how", minimum=6, maximum=4), "default of the option"),
    (option(5, "how", minimum="1"), "minimum of the option 'how' of the model 'mine' is '1'"),
    (option("5", "how", minimum=1), "minimum of the option 'how' of the model 'mine' is 1; it must be None"),
    ({"files": "me/mine"}, "files of the model 'mine' is 'me/mine'; it must be a ModelFiles"),
    ({"files": ModelFiles("me/mine")}, "weights of the model"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"hub": "mine"}))}, "hub of the weights of the model 'mine' is 'mine'"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"name": "a/b"}))}, "name of the weights of the model"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"sha256": {}}))}, "sha256 of the weights"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"sha256": {"../x": "0" * 64}}))}, "sha256 of the weights"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"sha256": {"x": "0" * 32}}))}, "sha256 of x of the weights"),
    ({"files": ModelFiles(Weights(**WEIGHTS | {"bytes": -1}))}, "bytes of the weights"),
]  # fmt: skip
DATASETS = [
    ({"name": "a/b/c"}, "name of the dataset"),
    ({"name": "with blank"}, "name of the dataset"),
    ({"name": None}, "name of the dataset"),
    ({"build": "mine.build"}, "build of the dataset 'mine' is 'mine.build'; it must be 'module:callable'"),
    ({"key": "key"}, "key of the dataset"),
    ({"split": "a/b"}, "split of the dataset"),
    ({"exclude_self": "yes"}, "exclude_self of the dataset 'mine' is 'yes'; it must be True or False"),
    ({"tokens": "many"}, "tokens of the dataset"),
    ({"build": ""}, "the dataset 'mine' has no build, no sources and no instructions to get it"),
    ({"sources": "https://x"}, "sources of the dataset"),
    ({"sources": ("https://x",)}, "sources of the dataset"),
    ({"sources": (Source(**SOURCE | {"kind": "tar"}),)}, "kind of a source of the dataset 'mine' is 'tar'"),
    ({"sources": (Source(**SOURCE | {"place": ""}),)}, "place of a source of the dataset"),
    ({"sources": (Source(**SOURCE | {"md5": "123"}),)}, "md5 of a source of the dataset"),
    ({"counts": (1, 2, 3)}, "counts of the dataset"),
    ({"counts": Counts(1, 2, -3)}, "judgements of the counts of the dataset 'mine' is -3"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "words"), MODELS)
def test_a_wrong_field_of_a_model_is_named(changed: dict, words: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_model(ModelSpec(**ANY | changed))
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(("changed", "words"), DATASETS)
def test_a_wrong_field_of_a_dataset_is_named(changed: dict, words: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_dataset(DatasetSpec(**DATA | changed))
    assert str(caught.value).startswith(words)


def test_what_is_right_passes() -> None:
    options = {
        "text": Option("a", "x", choices=("a", "b")),
        "prompt": Option(None, "x"),
        "share": Option(0.5, "x", choices=(0, 0.5, 1), minimum=0, maximum=1),
        "flag": Option(False, "x"),
    }
    packages, files = Packages(["torch"]), ModelFiles(Weights(**WEIGHTS))  # type: ignore[arg-type]
    check_model(ModelSpec(**ANY | {"options": options, "packages": packages, "files": files}))
    check_dataset(DatasetSpec(**DATA | {"name": "group/member", "build": "", "sources": [Source(**SOURCE)]}))
    for ref in load_registry().models.values():
        check_model(ref.spec)
    for dataset in load_registry().datasets.values():
        check_dataset(dataset)


WRONG = """
from harness import DatasetSpec, ModelSpec, Option, hookimpl

@hookimpl
def harness_models():
    yield ModelSpec("whole", "dense", f"{__name__}:load", "whole")
    yield ModelSpec("wrong", "dense", f"{__name__}:load", "wrong", options={"how": Option("a", "x", choices=None)})
"""


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str, name: str) -> None:
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    entries = list(importlib.metadata.entry_points(group="harness"))
    mine = importlib.metadata.EntryPoint(name, name, "harness")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [mine, *entries])


def test_a_wrong_descriptor_is_listed_and_the_rest_works(
    harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed(monkeypatch, tmp_path, WRONG, "wrong_descriptor")
    reason = "choices of the option 'how' of the model 'wrong' is None; it must be a tuple, () where any value will do"
    for command in ("models", "datasets"):
        done = harness(command, "--json")
        rows = {row["name"]: row for row in json.loads(done.out)}
        assert done.code == 0
        assert rows["wrong_descriptor"]["status"] == "broken"
        assert rows["wrong_descriptor"]["summary"] == reason
        assert harness(command).code == 0
    assert {"bm25", "minilm"} <= {*load_registry().models}
    assert "whole" not in load_registry().models
    assert harness("models", "--options").code == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n", "no function in it is marked @hookimpl"),
        ("def harness_models(): return []\n", "no function in it is marked @hookimpl"),
        ("raise SystemExit('gone')\n", "SystemExit: gone"),
        ("class Odd(BaseException): pass\nraise Odd\n", "Odd"),
        ("from harness import hookimpl\n@hookimpl\ndef harness_models(): raise SystemExit(3)\n", "SystemExit: 3"),
        ("from harness import hookimpl\n@hookimpl\ndef harness_datasets(): raise SystemExit(3)\n", "SystemExit: 3"),
        (WRONG.replace("choices=None", "choices=('b',)"), "default of the option 'how'"),
        (WRONG.replace('"wrong", "dense"', '"whole", "dense"'), "the name 'whole' is already taken"),
    ],
)
def test_a_file_that_cannot_be_registered_is_refused_in_one_sentence(
    harness: Callable[..., Done], tmp_path: Path, code: str, words: str
) -> None:
    file = tmp_path / "refused_plugin.py"
    file.write_text(code.replace(", choices=None", "") if "already taken" in words else code)
    done = harness("models", "--plugin", file)
    assert done.code == 2
    assert done.err.startswith(f"harness: The plug-in file {file} failed: {words}")
    assert done.err.endswith("; fix it and run again.\n")
    assert len(done.err.splitlines()) == 1
    with pytest.raises(UserError, match="refused_plugin"):
        load_registry([file])


def test_an_installed_one_that_exits_is_listed(
    harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed(monkeypatch, tmp_path, "import sys\nsys.exit(0)\n", "exiting_plugin")
    done = harness("models", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert done.code == 0
    assert rows["exiting_plugin"]["summary"] == "SystemExit: 0 (exiting_plugin.py:2)"
    assert "bm25" in rows
