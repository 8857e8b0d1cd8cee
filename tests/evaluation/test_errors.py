"""The boundary to plug-ins: whatever their code raises, wherever, fails the cell in hand, says where, and no more."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ModelError, PluginError, UserError, described, plugin_code, trace
from tests.conftest import Done
from tests.runs import write_checkpoint

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")

PLUGIN = """
import sys

import numpy as np

from harness import (
    Affine, DatasetSpec, Document, Hits, LexicalModel, ModelFacts, ModelSpec, Option, Scored, UserError, hookimpl
)

FAULTS = {
    "exit": SystemExit(0), "stop": GeneratorExit(), "key": KeyError("boom"), "user": UserError("Not this one."),
    "odd": ValueError("caf" + chr(0xDCE9)),
}
SEEN = []


def act(options, where):
    if options["at"] == where:
        raise FAULTS[options["by"]]  # here


class Dense:
    def __init__(self, options):
        self.options = options
        self.similarity = "cosin" if options["at"] == "similarity" else "cosine"
        act(options, "load")

    @property
    def dim(self):
        act(self.options, "dim")
        return 0 if self.options["at"] == "no dim" else 8

    def encode(self, texts, *, role):
        SEEN.append(role)
        act(self.options, "encode")
        act(self.options, f"encode {role}")
        return np.asarray([[len(text) % (place + 2) + 1 for place in range(8)] for text in texts], np.float32)


class Tokens(Dense):
    def tokenize(self, texts, *, role):
        act(self.options, "tokenize")
        return [[len(word) for word in text.split()] for text in texts]

    def encode_tokens(self, tokens, *, role):
        act(self.options, "encode_tokens")
        return np.asarray([[len(ids) + place for place in range(8)] for ids in tokens], np.float32)


class Words:
    def __init__(self, options):
        self.options = options

    def build(self, documents, directory):
        act(self.options, "build")
        (directory / "count").write_text(str(sum(1 for _ in documents)))
        act(self.options, "build's end")

    def search(self, directory, queries, k):
        act(self.options, "search")
        if self.options["at"] == "wrong hits":
            return [[(0, 1.0)] for _ in queries]
        return self.found(queries)

    def found(self, queries):
        for number, query in enumerate(queries):
            if number == 2:
                act(self.options, "search midway")
            yield Hits(np.arange(3), np.array([3.0, 2.0, 1.0]))


class Fused:
    def __init__(self, options):
        self.options, self.depth = options, -1 if options["at"] == "depth" else 10

    def fuse(self, lists):
        act(self.options, "fuse")
        if lists and len(lists[0].rows):
            act(self.options, "fuse a query")
        return lists[0]


class Ranked:
    depth = 10

    def __init__(self, options):
        self.options = options

    def score(self, pairs):
        act(self.options, "score")
        return Scored(np.zeros(len(pairs), np.float32))


class Moved:
    def __init__(self, options):
        self.options = options

    def fit(self, mean, covariance):
        act(self.options, "fit")
        return Affine(np.eye(len(mean)), -mean)


def fingerprint(options):
    act(options, "fingerprint")
    return {"options": dict(options)}


def training(options):
    act(options, "training")
    return {}


def build(folder):
    sys.exit(0)


@hookimpl
def harness_models():
    options = {"at": Option("", "where it fails"), "by": Option("exit", "how", choices=tuple(FAULTS))}
    for kind, made in (("dense", Dense), ("dense", Tokens), ("lexical", Words), ("fusion", Fused),
                       ("reranker", Ranked), ("transform", Moved)):
        yield ModelSpec(made.__name__.lower(), kind, f"{__name__}:{made.__name__}", kind, options=options,
                        fingerprint=f"{__name__}:fingerprint", facts=ModelFacts(training=f"{__name__}:training"))


@hookimpl
def harness_datasets():
    yield DatasetSpec("leaving", "one whose builder exits", build=f"{__name__}:build")
"""
LINE = next(number for number, line in enumerate(PLUGIN.splitlines(), 1) if line.endswith("# here"))
CASES = {
    "dense:at=load": "plug-in faulty_plugin: faulty_plugin:Dense failed: ",
    "dense:at=dim": "",
    "dense:at=encode": "LABEL: batch 1 of document texts (first text: ...): it raised ",
    "dense:at=encode query": "LABEL: batch 1 of query texts (first text: ...): it raised ",
    "dense:at=fingerprint": "plug-in faulty_plugin: faulty_plugin:fingerprint failed: ",
    "dense:at=training": "plug-in faulty_plugin: faulty_plugin:training failed: ",
    "tokens:at=tokenize": "LABEL: tokenize() raised ",
    "tokens:at=encode_tokens": "LABEL: batch 1 of document texts (first text: ...): it raised ",
    "words:at=build": "LABEL: build() raised ",
    "words:at=build's end": "LABEL: build() raised ",
    "words:at=search": "LABEL: search() raised ",
    "words:at=search midway": "LABEL: search() raised ",
    "fused(bm25,dense):at=fuse": "LABEL: fuse() raised ",
    "fused(bm25,dense):at=fuse a query": "LABEL: fuse() raised ",
    "ranked(bm25):at=score": "LABEL: score() raised ",
    "moved(dense):at=fit": "LABEL: fit() raised ",
}
"""Model -> the reason of its failed cell, before what was raised."""
RAISED = {
    "exit": "SystemExit: 0",
    "stop": "GeneratorExit",
    "key": "KeyError: 'boom'",
    "odd": "ValueError: caf\\udce9",
}
TRIED = [
    *((model, "exit") for model in CASES),
    *((model, by) for model in ("dense:at=encode", "words:at=search midway") for by in ("stop", "key", "odd")),
]
UNRECORDED = ("dense:at=fingerprint", "dense:at=training", "fused(bm25,dense):at=fuse")
"""Those of which not even the record of a failure can be made, or that fail before any cell."""


@pytest.fixture
def faulty(home: Path) -> Path:
    (home.parent / "faulty_plugin.py").write_text(PLUGIN)
    return Path("faulty_plugin.py")


@pytest.mark.parametrize(("model", "by"), TRIED)
def test_what_a_plugin_raises_fails_its_cell_alone(
    model: str, by: str, harness: Callable[..., Done], toy: Path, faulty: Path
) -> None:
    label = model if by == "exit" else f"{model},by={by}"
    done = harness("benchmark", "--plugin", faulty, "-m", label, "-m", "bm25", "-d", toy, "--json", "--log", "log")
    assert done.code == 1, done.err
    failed, other = json.loads(done.out)
    assert (failed["model"], failed["cell"], other["cell"]) == (label, "failed", "ok")
    reason = re.sub(r"first text: '.*?'\)", "first text: ...)", failed["reason"])
    assert reason == f"{CASES[model].replace('LABEL', label)}{RAISED[by]} (faulty_plugin.py:{LINE})"
    assert "Traceback" not in done.err
    assert f"failed: {failed['model']} on toy: {failed['reason']}" in done.err.splitlines()
    assert "act(" in failed["traceback"]
    assert failed["traceback"].startswith("Traceback (most recent call last):")
    logged = [json.loads(line) for line in Path("log").read_text().splitlines()]
    assert [line["traceback"] for line in logged if line["event"] == "failed"] == [failed["traceback"]]
    records = [json.loads(file.read_text()) for file in Path("results").glob("*/toy/result.json")]
    recorded = {record["model"]: record for record in records}
    assert recorded["bm25"]["status"] == "ok"
    if model not in UNRECORDED:
        assert recorded[failed["model"]]["reason"] == failed["reason"]
        assert recorded[failed["model"]]["traceback"] == failed["traceback"]


@pytest.mark.parametrize(
    "model", ["dense:at=load", "dense:at=encode", "words:at=build", "words:at=search", "ranked(bm25):at=score"]
)
def test_what_a_plugin_calls_a_mistake_does_not_end_the_others(
    model: str, harness: Callable[..., Done], toy: Path, faulty: Path
) -> None:
    done = harness("benchmark", "--plugin", faulty, "-m", f"{model},by=user", "-m", "bm25", "-d", toy, "--json")
    assert done.code == 1
    failed, other = json.loads(done.out)
    assert (failed["reason"], other["cell"]) == ("Not this one.", "ok")


@pytest.mark.parametrize("by", ["key", "user"])
def test_a_load_that_failed_is_not_repeated_for_the_next_dataset(
    by: str, harness: Callable[..., Done], toy: Path, faulty: Path, tmp_path: Path
) -> None:
    model, other = f"dense:at=load,by={by}", shutil.copytree(toy, tmp_path / "other")
    done = harness("benchmark", "--plugin", faulty, "-m", model, "-m", "bm25", "-d", toy, "-d", other, "--json")
    first, second = (cell for cell in json.loads(done.out) if cell["cell"] == "failed")
    assert (first["dataset"], second["dataset"]) == ("toy", "other")
    assert first["reason"] == second["reason"] != ""
    assert first["traceback"].splitlines()[-1] == second["traceback"].splitlines()[-1]
    assert done.err.splitlines().count(f"loading {model}") == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("dense:at=similarity", "its similarity is 'cosin', which is none of euclidean, cosine, dot"),
        ("dense:at=no dim", "its dim is 0; it must be a positive integer"),
    ],
)
def test_a_wrong_attribute_is_told_before_a_text_is_encoded(
    model: str, words: str, harness: Callable[..., Done], toy: Path, faulty: Path
) -> None:
    done = harness("benchmark", "--plugin", faulty, "-m", model, "-d", toy, "--json")
    assert done.code == 1
    assert words in json.loads(done.out)[0]["reason"]
    assert sys.modules["faulty_plugin"].SEEN == []


def test_a_depth_that_is_none_and_hits_that_are_none_are_told(
    harness: Callable[..., Done], toy: Path, faulty: Path
) -> None:
    models = ("-m", "fused(bm25,dense):at=depth", "-m", "words:at=wrong hits")
    done = harness("benchmark", "--plugin", faulty, *models, "-d", toy, "--json")
    assert [cell["reason"] for cell in json.loads(done.out)] == [
        "fused(bm25,dense):at=depth: its depth is -1; it must be a positive integer.",
        "words:at=wrong hits: search() returned a list; yield Hits(rows, scores).",
    ]


def test_a_dataset_whose_builder_exits_is_named(harness: Callable[..., Done], faulty: Path) -> None:
    done = harness("benchmark", "--plugin", faulty, "-m", "bm25", "-d", "leaving")
    assert done.code == 1
    line = next(number for number, line in enumerate(PLUGIN.splitlines(), 1) if "sys.exit(0)" in line)
    sentence = f"dataset leaving: faulty_plugin:build failed: SystemExit: 0 (faulty_plugin.py:{line})"
    assert done.err.splitlines()[-1] == f"harness: {sentence}"


def test_checks_say_where(harness: Callable[..., Done], faulty: Path) -> None:
    for model in ("dense:at=encode", "words:at=search", "ranked(bm25):at=score", "fused(bm25,dense):at=fuse a query"):
        done = harness("check", "--plugin", faulty, model)
        assert done.code == 1
        assert f"SystemExit: 0 (faulty_plugin.py:{LINE})" in done.out


def spoilt(folder: Path) -> Path:
    """A checkpoint that is there, and that no library can load."""
    config = json.loads((write_checkpoint(folder) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "of-another-planet"}))
    return folder


@pytest.mark.parametrize("executor", [[], ["--executor", "processes", "--workers", "1"]], ids=["here", "processes"])
def test_a_checkpoint_that_cannot_be_loaded_fails_its_cells_and_the_others_go_on(
    executor: list[str], harness: Callable[..., Done], toy: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers", reason="checkpoints need the dense extra")
    for name in ("first", "last"):
        write_checkpoint(tmp_path / name, seed=len(name))
    spoilt(tmp_path / "spoilt")
    (tmp_path / "empty").mkdir()
    models = [word for name in ("first", "spoilt", "empty", "last") for word in ("-m", f"./{name}")]
    done = harness("benchmark", *models, "-d", toy, "--json", *executor)
    assert done.code == 1, done.err
    cells = json.loads(done.out)
    assert [cell["cell"] for cell in cells] == ["ok", "failed", "failed", "ok"]
    assert cells[1]["model"].startswith("spoilt@")
    assert "spoilt could not be loaded by sentence-transformers" in cells[1]["reason"]
    assert "empty is not a sentence-transformers folder" in cells[2]["reason"]
    if executor:
        return  # stored cells and single models are checked in one process
    again = harness("benchmark", *models, "-d", toy, "--json", *executor)
    assert [cell["cell"] for cell in json.loads(again.out)] == ["cached", "failed", "failed", "cached"]
    table = harness("benchmark", *models, "-d", toy, *executor)
    assert table.code == 1
    assert len(table.out.splitlines()) == 2 + 4
    for name, sentence in (("empty", "is not a sentence-transformers folder"), ("spoilt", "could not be loaded")):
        alone = harness("benchmark", "-m", f"./{name}", "-d", toy, *executor)
        assert (alone.code, alone.out) == (2, "")
        assert f"{name} {sentence}" in alone.err.splitlines()[-1]


def test_a_mistake_in_what_is_typed_ends_the_command_before_any_work(harness: Callable[..., Done], toy: Path) -> None:
    for wrong in ("bm52", "bm25:k9=1", "./absent", "linear(bm25,bm25:k1=1):weights=1/2/3"):
        done = harness("benchmark", "-m", "bm25", "-m", wrong, "-d", toy)
        assert (done.code, done.out) == (2, "")
        assert not Path("results/bm25").exists()


def test_packages_are_looked_for_before_a_dataset_is_made(
    harness: Callable[..., Done], home: Path, monkeypatch: pytest.MonkeyPatch, toy: Path
) -> None:
    harness("benchmark", "-m", "bm25", "-d", toy)
    result = json.loads(Path("results/bm25/toy/result.json").read_text())
    monkeypatch.setattr(
        "harness.registry.model_ref._installed", lambda module: module not in ("bm25s", "faiss", "jnius")
    )
    bm25, dense = ('type: pip install "retrieval-harness[' + extra + ']"' for extra in ("bm25", "dense"))
    commands = {
        ("benchmark", "-m", "bm25", "-d", "pydocs"): f"bm25 needs bm25s, which is not installed; {bm25}",
        ("benchmark", "-m", "rrf(bm25,minilm)", "-d", "pydocs"): f"bm25 needs bm25s, which is not installed; {bm25}",
        ("transform", "-m", "minilm", "-d", "pydocs"): f"minilm needs faiss, which is not installed; {dense}",
        ("isotropy", "-m", "minilm", "-d", "pydocs"): f"minilm needs faiss, which is not installed; {dense}",
        ("index", "export", "-m", "minilm", "-d", "pydocs", "-o", "x"): f"minilm needs faiss, which is not installed; "
        f"{dense}",
        ("mine", "-d", "pydocs", "-o", "x"): f"bm25 needs bm25s, which is not installed; {bm25}",
        ("benchmark", "-m", "bm25:engine=pyserini", "-d", "pydocs"): "bm25 needs jnius, which is not installed; "
        'type: pip install "retrieval-harness[pyserini]"',
    }  # fmt: skip
    for words, sentence in commands.items():
        done = harness(*words)
        assert (done.code, done.err) == (2, f"harness: {sentence}\n"), words
        assert not (home / "datasets").exists()
    record = Path("moved/bm25/pydocs/result.json")
    record.parent.mkdir(parents=True)
    result["manifest"]["dataset"]["name"] = "pydocs"
    record.write_text(json.dumps(result | {"dataset": "pydocs", "command": "harness benchmark -m bm25 -d pydocs"}))
    done = harness("verify", "moved")
    assert done.code == 2
    assert f"bm25 needs bm25s, which is not installed; {bm25}" in done.err
    assert not (home / "datasets").exists()


def test_an_exception_is_described_by_the_line_of_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_plugin.py").write_text("import json\n\ndef act():\n    return json.loads('{')\n")
    import outer_plugin  # type: ignore[import-not-found]

    with pytest.raises(PluginError) as caught, plugin_code("It raised", "outer_plugin"):
        outer_plugin.act()
    place = f"{tmp_path / 'outer_plugin.py'}:4"  # not json's own line
    message = "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert str(caught.value) == f"It raised {message} ({place})"
    assert described(caught.value.__cause__, "") == f"{message} ({place})"  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    assert described(caught.value.__cause__, "") == f"{message} (outer_plugin.py:4)"  # type: ignore[arg-type]
    assert "json.loads('{')" in trace(caught.value)
    assert f"{os.sep}json{os.sep}" in trace(caught.value)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("nothing to say")


@pytest.mark.parametrize(
    ("raised", "seen", "words"),
    [
        (ModelError("A."), ModelError, "A."),
        (PluginError("B."), PluginError, "B."),
        (UserError("C."), PluginError, "C."),
        (SystemExit(None), PluginError, "It raised SystemExit"),
        (Mute(), PluginError, "It raised Mute"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_what_is_raised_becomes_one_of_three_errors(
    raised: BaseException, seen: type[BaseException], words: str
) -> None:
    with pytest.raises(seen) as caught, plugin_code("It raised"):
        raise raised
    assert type(caught.value) is seen
    assert str(caught.value).startswith(words)
