"""Trained runs as models: selection, refusals, and the training record in results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer

from harness.registry.manager import load_registry
from harness.storage.atomic import content_key
from harness.types import UserError
from harness_plugins.model_folder.pinned import MPNET
from harness_plugins.sentence_transformers.trained import EXPERIMENTS, known_base, seen_by_base
from tests.conftest import write_dataset
from tests.runs import write_checkpoint, write_run

LATER = "2025-01-02T00:00:00+00:00"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda seed: root / str(seed) if (root / str(seed)).exists() else write_checkpoint(root / str(seed), seed)


@pytest.fixture
def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default root of runs, ./runs."""
    monkeypatch.delenv("HARNESS_RUNS", raising=False)
    return Path("runs")


def served(text: str) -> Path:
    return Path(str(load_registry().model(text).options["path"]))


def refusal(text: str) -> str:
    with pytest.raises(UserError) as raised:
        load_registry().model(text)
    return str(raised.value)


def test_what_is_not_trained_yet_says_the_command(harness, runs: Path, toy: Path) -> None:
    rows = {row["name"]: row for row in json.loads(harness("models", "--json").out)}
    for name in EXPERIMENTS:
        assert rows[name]["status"] == f"not trained yet: harness train {name}"
        assert rows[name]["kind"] == "dense"
    done = harness("benchmark", "-m", "bm25", "-m", "baseline", "-d", "nfcorpus", "--json")
    assert done.code == 2
    assert done.err == "harness: baseline: not trained yet: harness train baseline\n"  # and nothing was fetched before
    assert not Path("results").exists()
    assert "not trained yet: harness train baseline" in harness("check", "baseline").err


def test_the_newest_finished_run_is_served(harness, runs: Path, checkpoints, monkeypatch, tmp_path: Path) -> None:
    write_run(runs / "isotropy" / "seed43", checkpoints(0), finished=LATER)
    write_run(runs / "isotropy" / "seed42", checkpoints(1))
    write_run(runs / "isotropy" / "seed44", None, status="running", finished=None)
    write_run(runs / "isotropy" / "seed45", checkpoints(0), status="failed", reason="out of memory", finished=LATER)
    write_run(runs / "frozen" / "seed1", checkpoints(0))
    assert served("isotropy") == Path("runs/isotropy/seed43/checkpoint")
    rows = {row["name"]: row["status"] for row in json.loads(harness("models", "--json").out)}
    assert [rows[name] for name in EXPERIMENTS] == ["not trained yet: harness train baseline", "ready", "ready"]
    write_run(runs / "isotropy" / "weight=1,seed9", checkpoints(1), finished="2025-01-02T01:30:00+02:00")  # not later
    assert served("isotropy") == Path("runs/isotropy/seed43/checkpoint")
    monkeypatch.setenv("HARNESS_RUNS", str((tmp_path / "runs").rename(tmp_path / "elsewhere")))
    assert served("isotropy") == tmp_path / "elsewhere" / "isotropy" / "seed43" / "checkpoint"


def test_a_run_may_be_named_or_given_by_its_path(runs: Path, checkpoints) -> None:
    write_run(runs / "isotropy" / "seed43", checkpoints(0), finished=LATER)
    write_run(runs / "isotropy" / "weight=0.05,seed42", checkpoints(1))
    write_run(runs / "mine" / "seed1", checkpoints(1))
    for text in ("isotropy:run=weight=0.05+seed42", "isotropy:path=runs/isotropy/weight=0.05"):
        if "path" in text:
            (runs / "isotropy" / "weight=0.05").symlink_to("weight=0.05,seed42")
        assert served(text).resolve() == (runs / "isotropy" / "weight=0.05,seed42" / "checkpoint").resolve()
    assert served("baseline:experiment=mine") == Path("runs/mine/seed1/checkpoint")
    assert served(f"baseline:path={checkpoints(0)}") == checkpoints(0)
    assert load_registry().model("isotropy").label == "isotropy"
    assert load_registry().model("isotropy:run=seed43").label == "isotropy:run=seed43"
    known = refusal("isotropy:run=seed50")
    assert "no run is called seed50" in known
    assert "seed43, weight=0.05, weight=0.05+seed42" in known
    assert refusal("frozen:run=seed1").endswith("there is none: harness train frozen")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no checkpoint": (lambda run: (run / "checkpoint").rename(run / "gone"), "it has no modules.json"),
    "no weights": (lambda run: (run / "checkpoint/model.safetensors").unlink(), "holds no .safetensors weights"),
    "weights cut short": (lambda run: cut(run / "checkpoint/model.safetensors"), "model.safetensors is cut short"),
    "a head cut short": (lambda run: cut(run / "checkpoint/2_Dense/model.safetensors"), "is cut short"),
    "empty weights": (lambda run: (run / "checkpoint/model.safetensors").write_bytes(b""), "missing or empty"),
    "no tokenizer": (lambda run: [f.unlink() for f in (run / "checkpoint").glob("*token*")], "holds no tokenizer"),
    "no settings": (lambda run: (run / "checkpoint/config.json").unlink(), "config.json is missing or empty"),
    "no pooling": (lambda run: (run / "checkpoint/1_Pooling/config.json").unlink(), "config.json is missing or empty"),
    "no list": (lambda run: (run / "checkpoint/modules.json").write_text("[7]"), "not a list of modules"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_run_is_named_and_no_older_one_served_instead(harness, runs, checkpoints, what: str) -> None:
    write_run(runs / "isotropy" / "seed42", checkpoints(1))
    newest = write_run(runs / "isotropy" / "seed43", checkpoints(0), finished=LATER)
    spoil, words = DAMAGED[what]
    spoil(newest)
    for text in ("isotropy", "isotropy:run=seed43", f"isotropy:path={newest}"):
        sentence = refusal(text)
        assert sentence.startswith(f"isotropy: broken: the run {newest} is damaged: ")
        assert words in sentence
    status = {row["name"]: row["status"] for row in json.loads(harness("models", "--json").out)}["isotropy"]
    assert status.startswith("broken: the run")
    assert served("isotropy:run=seed42") == runs / "isotropy" / "seed42" / "checkpoint"


def test_other_weights_than_the_record_is_about_are_not_served(harness, runs: Path, checkpoints, toy: Path) -> None:
    run = write_run(runs / "isotropy" / "seed42", checkpoints(0))
    weights = run / "checkpoint" / "2_Dense" / "model.safetensors"
    weights.write_bytes((checkpoints(1) / "2_Dense" / "model.safetensors").read_bytes())
    for words in (("benchmark", "-m", "isotropy", "-d", toy), ("release", run, "-o", "out")):
        done = harness(*words)
        assert done.code == 2
        assert "are not those that the run.json beside it was written for" in done.err
    assert not list(Path("results").glob("*/*"))
    assert not Path("out").exists()


def test_runs_that_are_not_finished_are_named_when_there_is_no_other(runs: Path, checkpoints) -> None:
    write_run(runs / "isotropy" / "a", checkpoints(0), status="running", finished=None)
    write_run(runs / "isotropy" / "b", None, status="failed", reason="the loss is NaN", finished=None)
    (runs / "isotropy" / "c").mkdir()  # killed before its first record
    for name, content in (("d", "{"), ("e", "[]"), ("f", '{"format": 2}'), ("g", '{"format": 1, "status": "odd"}')):
        (runs / "isotropy" / name).mkdir()
        (runs / "isotropy" / name / "run.json").write_text(content)
    write_run(runs / "isotropy" / "h", checkpoints(0), finished="yesterday")
    sentence = refusal("isotropy")
    assert sentence.startswith("isotropy: not trained yet (")
    assert sentence.endswith("): harness train isotropy")
    for words in (
        *("a is still running, or was interrupted", "b failed (the loss is NaN)", "d has no run.json that can be read"),
        *("e has no run.json", "f has a run.json of format 2", "g has the status 'odd'", "h has no run.json that can"),
    ):
        assert words in sentence
    assert "broken: the run runs/isotropy/b failed (the loss is NaN)" in refusal("isotropy:run=b")
    assert "a is still running, or was interrupted" in refusal("isotropy:path=runs/isotropy/a/checkpoint")


def test_results_say_how_the_model_was_trained_and_mark_its_own_data(harness, runs: Path, checkpoints, toy) -> None:
    run = write_run(runs / "isotropy" / "seed42", checkpoints(0), trained_on=["toy"], base={"path": "/models/other"})
    words = ("-d", toy, "--json", "--dtype", "float32")
    done = harness("benchmark", "-m", "isotropy", "-m", run / "checkpoint", *words)
    assert done.code == 0, done.err
    first, same = json.loads(done.out)
    assert first["model"] == "isotropy:dtype=float32"
    record = json.loads((run / "run.json").read_text())
    for result in (first, same):  # the folder itself, opened by its path, has the same history
        assert result["in_domain"] is True
        described = result["manifest"]["model"]
        told = {key: value for key, value in record.items() if key != "curves"}
        assert described["training"] == told | {"base": {"path": "other"}}, "where it lay is nobody's business"
        assert described["trained_on"] == ["toy"]
    assert first["measures"] == same["measures"]
    again = json.loads(harness("benchmark", "-m", "isotropy", *words).out)[0]
    assert again["cell"] == "cached"
    write_run(runs / "isotropy" / "seed43", checkpoints(1), finished=LATER)
    other = json.loads(harness("benchmark", "-m", "isotropy", *words).out)[0]
    assert (other["cell"], other["model"], other["in_domain"]) == ("ok", first["model"], False)
    assert other["manifest"]["key"] != first["manifest"]["key"]


def test_vectors_are_those_of_the_run(runs: Path, checkpoints) -> None:
    write_run(runs / "frozen" / "seed1", checkpoints(1))
    texts = ["the heart pumps blood", "red planet"]
    made = load_registry().model("frozen:dtype=float32,device=cpu").load().encode(texts, role="query")
    expected = SentenceTransformer(str(checkpoints(1)), device="cpu").encode_query(texts, show_progress_bar=False)
    np.testing.assert_allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(
    "base",
    [
        {"path": "somewhere/models/mpnet", "fingerprint": "0"},
        {"name": "sentence-transformers/all-mpnet-base-v2@main"},
        {"name": "mpnet:path=a/copy", "path": "a/copy"},
        {"name": "copy@012345", "path": "a/copy", "fingerprint": content_key(dict(MPNET.sha256))},
        {"path": "/a/copy", "fingerprint": {"files": {"model.safetensors": MPNET.sha256["model.safetensors"]}}},
    ],
)
def test_what_the_base_saw_is_in_domain_too(harness, runs: Path, checkpoints, base, tmp_path: Path) -> None:
    assert known_base({"base": base}) == "all-mpnet-base-v2"
    write_run(runs / "isotropy" / "seed42", checkpoints(0), base=base, trained_on=["fiqa"])
    ref = load_registry().model("isotropy")
    assert ref.trained_on == ("fiqa", "msmarco", "nq", "quora", "cqadupstack", "scidocs")


def test_a_run_on_top_of_a_run_inherits_what_that_saw(runs: Path, checkpoints) -> None:
    first = write_run(runs / "baseline" / "seed42", checkpoints(0), base={"path": "elsewhere"}, trained_on=["fiqa"])
    base = {"path": str(first / "checkpoint")}
    write_run(runs / "isotropy" / "seed42", checkpoints(0), base=base, trained_on=["nq"])
    assert seen_by_base({"base": base}) == ("fiqa",)
    assert load_registry().model("isotropy").trained_on == ("nq", "fiqa")


def test_a_group_is_marked_by_its_name(harness, runs: Path, checkpoints, tmp_path: Path) -> None:
    write_run(runs / "isotropy" / "seed42", checkpoints(0), base={}, trained_on=["forums"])
    folder = write_dataset(tmp_path / "one", {"d": "bread"}, {"q": "bread"}, [("q", "d", 1)])
    (folder / "dataset.toml").write_text('name = "forums/one"\n')
    done = harness("benchmark", "-m", "isotropy", "-d", folder, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["in_domain"] is True
