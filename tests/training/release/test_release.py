"""Folders for the hub: correct model card, loadable without this program, nothing unsafe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer

from harness.storage.atomic import sha256_file
from harness_training.release import verify
from harness_training.release.model_card import MSMARCO
from harness_training.release.model_card import card as card_of
from harness_training.release.model_card import yaml as lines_of
from harness_training.release.release import without_paths
from harness_training.release.stored_scores import measured
from harness_training.release.verify import Loaded
from tests.conftest import write_dataset
from tests.runs import load_here, write_checkpoint, write_run

yaml = pytest.importorskip("yaml", reason="the card's head is read with PyYAML")
LOADED = Loaded(24, 48, "euclidean", {}, 1000, 0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("released") / "model")


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips loading the copy in another process, for tests of the other steps."""
    monkeypatch.setattr("harness_training.release.release.load_cleanly", lambda *_: LOADED)


@pytest.fixture
def run(home: Path, checkpoint: Path) -> Path:
    return write_run(Path("runs/isotropy/seed42"), checkpoint, base={"path": "/home/somebody/models/mpnet"})


def front(card: str) -> dict:
    head = card.split("\n---\n")[0].removeprefix("---\n")
    return yaml.safe_load(head)


def rows(card: str, heading: str) -> list[list[str]]:
    section = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\", "") for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.usefixtures("unloaded")
def test_a_run_is_released_with_what_was_measured(harness, run: Path, toy: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "nq", {"d": "bread", "e": "moon"}, {"q": "bread"}, [("q", "d", 1)])
    assert harness("benchmark", "-m", "isotropy", "-d", toy, "-d", other, "--dtype", "float32").code == 0
    assert harness("benchmark", "-m", "isotropy", "-d", toy, "--limit", "2").code == 0
    assert harness("benchmark", "-m", "isotropy:max_seq_length=4", "-m", "bm25", "-d", toy).code == 0
    assert harness("benchmark", "-m", run / "checkpoint", "-d", toy, "--dtype", "bfloat16").code == 0
    strange = write_run(Path("runs/frozen/seed1"), None)
    write_checkpoint(strange / "checkpoint", seed=5)
    assert harness("benchmark", "-m", "frozen", "-d", toy).code == 0
    done = harness("release", run, "-o", "out/iso", "--name", "lab/iso-mpnet", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["upload"] == "hf upload lab/iso-mpnet out/iso"
    card, manifest = Path("out/iso/README.md").read_text(), told["manifest"]
    stored = [json.loads(file.read_text()) for file in Path("results").glob("*/*/result.json")]
    exact = {r["dataset"]: r for r in stored if r["model"] == "isotropy:dtype=float32"}
    head = front(card)
    assert head["library_name"] == "sentence-transformers"
    assert head["pipeline_tag"] == "sentence-similarity"
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == "sentence-transformers/all-mpnet-base-v2"
    assert head["datasets"] == ["msmarco"]
    (index,) = head["model-index"]
    values = {entry["dataset"]["type"]: entry["metrics"][0] for entry in index["results"]}
    assert {name: metric["value"] for name, metric in values.items()} == {
        name: result["measures"]["nDCG@10"] for name, result in exact.items()
    }
    assert {name: "in-domain" in metric["name"] for name, metric in values.items()} == {"toy": False, "nq": True}
    own = [r for r in stored if not r["model"].startswith(("bm25", "frozen"))]
    assert len(own) == 5
    shown = rows(card, "Measured")
    assert sorted((row[0], row[3]) for row in shown) == sorted(
        (r["dataset"], f"{r['measures']['nDCG@10']:.4f}") for r in own
    )
    notes = [row[6] for row in shown]
    assert sorted(filter(None, notes)) == ["in-domain", "max_seq_length=4", "some queries only"]
    assert {cell["key"]: cell["measures"] for cell in manifest["results"]} == {
        r["manifest"]["key"]: r["measures"] for r in own
    }
    assert MSMARCO in card
    assert {row[0]: row[1] for row in rows(card, "In-domain datasets")} == {
        "msmarco": "this training and its base",
        **dict.fromkeys(["nq", "quora", "cqadupstack", "scidocs"], "its base"),
    }
    facts = {row[0]: row[1] for row in rows(card, "Training")}
    assert facts["training set"] == "sample"
    assert facts["setting loss.scale"] == "0.05"
    assert (facts["its rows"], facts["rows trained on"]) == ("500000", "480")
    assert facts["negatives from"] == "bm25 (top 100), minilm"
    assert (facts["setting isotropy_weight"], facts["setting sigreg_scale"]) == ("1.0", "T-over-N")  # as in 0.2
    assert facts["development nDCG@10"] == "0.4567"
    assert facts["setting triplets"] == "a"
    missing = card.partition("no result on all queries is stored for: ")[2].partition(".")[0].split(", ")
    assert "nq" not in missing
    assert len(missing) == 17
    assert manifest["files"] == {
        file.relative_to("out/iso").as_posix(): {"sha256": sha256_file(file), "bytes": file.stat().st_size}
        for file in Path("out/iso").rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }
    assert json.loads(Path("out/iso/manifest.json").read_text()) == manifest
    for text in (card, json.dumps(manifest)):
        assert "somebody" not in text
        assert str(tmp_path) not in text
    read = pytest.importorskip("huggingface_hub").ModelCard.load("out/iso/README.md").data  # the hub's own reader
    assert read.model_name == "lab/iso-mpnet"
    assert {(r.dataset_type, r.metric_type, r.metric_value) for r in read.eval_results} == {
        (name, "ndcg_at_10", result["measures"]["nDCG@10"]) for name, result in exact.items()
    }


def test_the_folder_is_the_model_and_keeps_its_history(harness, run: Path, checkpoint: Path, toy: Path) -> None:
    done = harness("release", run, "-o", "out")
    assert done.code == 0, done.err
    assert "note: no result in results belongs to this checkpoint" in done.err
    facts = json.loads(Path("out/manifest.json").read_text())["loaded"]
    assert (facts["dim"], facts["max_seq_length"], facts["difference"]) == (LOADED.dim, LOADED.max_seq_length, 0)
    assert done.out.splitlines()[-1].endswith("upload it yourself: hf upload ORG/out out")
    texts = ["what pumps blood", "x" * 500]
    ours, theirs = (SentenceTransformer(str(f), device="cpu").encode_query(texts) for f in ("out", checkpoint))
    np.testing.assert_array_equal(ours, theirs)
    assert all(file.suffix in (".json", ".safetensors", ".md") for file in Path("out").rglob("*") if file.is_file())
    first = json.loads(harness("benchmark", "-m", "./out", "-d", toy, "--json").out)[0]
    assert first["manifest"]["model"]["training"]["settings"]["triplets"] == "a"
    assert first["manifest"]["model"]["trained_on"][0] == "msmarco"
    (cell,) = measured(Path("results"), first["manifest"]["model"]["fingerprint"]["files"], ["toy"])
    assert (cell.measures, cell.in_domain) == (first["measures"], True)
    assert not measured(Path("results"), {"model.safetensors": "0"}, ())


@pytest.mark.usefixtures("unloaded")
def test_a_checkpoint_from_elsewhere_says_what_is_not_known_and_links_inside_are_files(
    harness, home: Path, checkpoint: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, "mine"))
    (folder / "blobs").mkdir()
    (folder / "model.safetensors").rename(folder / "blobs" / "weights")
    (folder / "model.safetensors").symlink_to("blobs/weights")
    done = harness("release", folder, "-o", "out", "--licence", "mit")
    assert done.code == 0, done.err
    assert not Path("out/model.safetensors").is_symlink()
    assert sha256_file(Path("out/model.safetensors")) == sha256_file(checkpoint / "model.safetensors")
    card = Path("out/README.md").read_text()
    assert front(card)["license"] == "mit"
    assert not {"base_model", "datasets", "model-index"} & front(card).keys()
    assert "Nothing was measured" in card
    assert "any may be in-domain" in card
    assert "MS MARCO" not in card
    assert "The base's licence is not on record" in card


def pickle_in(name: str, start: bytes = b"x") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(start + b"....")


UNSAFE: dict[str, tuple[Callable[[Path], object], str]] = {
    "torch's weights": (pickle_in("pytorch_model.bin"), "may be a pickle"),
    "an optimizer": (pickle_in("optimizer.pt"), "may be a pickle"),
    "a pickle in a module": (pickle_in("2_Dense/extra.pkl"), "may be a pickle"),
    "torch's weights under another name": (pickle_in("1_Pooling/notes.txt", b"PK\x03\x04"), "may be a pickle"),
    "a pickle under another name": (pickle_in("vocab.txt", b"\x80\x04"), "may be a pickle"),
    "a link out of the folder": (lambda f: (f / "vocab.txt").symlink_to("/etc/hostname"), "leads out of"),
    "a folder linked to": (lambda f: (f / "3_More").symlink_to("/etc"), "leads out of"),
    "weights cut short": (lambda f: (f / "model.safetensors").write_bytes(b"1" * 99), "is cut short"),
    "no list of modules": (lambda f: (f / "modules.json").unlink(), "not a sentence-transformers folder"),
    "code of its own": (lambda f: own_code(f), "which is not one of sentence-transformers' own"),
    "a tokenizer that is none": (lambda f: (f / "tokenizer.json").write_text("{}"), "could not be loaded"),
}


def own_code(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "harness_training.model.head.Head"  # ours, which nobody else has
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.slow) if what == "a tokenizer that is none" else what for what in UNSAFE],
)
def test_what_is_unsafe_or_does_not_load_is_refused_and_leaves_nothing(harness, home, checkpoint, what: str) -> None:
    folder = Path(shutil.copytree(checkpoint, "mine"))
    corrupt, words = UNSAFE[what]
    corrupt(folder)
    done = harness("release", folder, "-o", "made/out")
    assert done.code == 2
    told = [line for line in done.err.splitlines() if line.startswith("harness: ")]
    assert done.err.splitlines()[-1:] == told
    assert words in told[0]
    assert not list(Path("made").glob("*")) if Path("made").exists() else True


def test_a_copy_that_differs_is_refused(harness, home, checkpoint: Path, monkeypatch) -> None:
    """A file that affects the vectors and is not copied is detected by the vectors."""
    monkeypatch.setattr(verify, "_run", load_here)
    monkeypatch.setattr(
        "harness_training.release.release.files_of",
        lambda folder: [
            file for file in sorted(folder.rglob("*.*")) if file.is_file() and "config_sentence" not in file.name
        ],
    )
    done = harness("release", checkpoint, "-o", "out")  # without that file, the similarity is lost
    assert done.code == 2
    assert "differs from it" in done.err
    assert not Path("out").exists()


def test_the_check_sees_nothing_of_ours_and_no_network(checkpoint: Path, monkeypatch) -> None:
    probe = """
import importlib, json, os, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[2])))
blocked = []
for name in ("harness", "harness_plugins", "harness_reports", "harness_training"):
    try:
        importlib.import_module(name)
    except ImportError:
        blocked.append(name)
print(json.dumps([blocked, sys.flags.isolated, os.environ["HF_HUB_OFFLINE"], "HARNESS_HOME" in os.environ]))
"""
    assert "sys.modules.update(dict.fromkeys(ours))" in verify.PROGRAM
    monkeypatch.setattr(verify, "PROGRAM", probe)
    monkeypatch.setenv("HARNESS_HOME", "x")
    assert verify._run(checkpoint) == [list(verify.OURS), 1, "1", False]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "-o", "out"], "There is no folder nowhere"),
        (["runs/isotropy/seed42", "-o", "runs"], "runs already exists"),
        (["runs/isotropy/seed42", "-o", "out", "--name", "a/b/c"], "is not a valid name for the hub"),
        (["runs/isotropy/seed42", "-o", "out", "--name", "a`b"], "is not a valid name for the hub"),
        (["runs/isotropy/seed42", "-o", "out", "--licence", "My Own: 1"], "is not a licence identifier"),
        (["runs/isotropy/seed43", "-o", "out"], "is still running, or was interrupted"),
        (["runs/isotropy/seed43/checkpoint", "-o", "out"], "is still running, or was interrupted"),
    ],
)
def test_mistakes_are_named(harness, run: Path, words: list[str], sentence: str) -> None:
    write_run(run.with_name("seed43"), run / "checkpoint", status="running", finished=None)
    done = harness("release", *words)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]
    assert not Path("out").exists()
    assert run.exists()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/sets/a", "a"),
        ("/home/me and you/sets/a b", "a b"),
        ("~/sets/a/", "a"),
        ("../sets/a", "a"),
        ("C:\\Users\\me\\a", "a"),
        ("file:///home/me/a", "a"),
        ("trained with --data /home/me/sets/a and more", "trained with --data a and more"),
        ("sentence-transformers/all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("query: ", "query: "),
        ("1/2", "1/2"),
    ],
)
def test_paths_stay_at_home(text: str, left: str) -> None:
    assert without_paths({"x": [text, 1, None]}) == {"x": [left, 1, None]}


@pytest.mark.parametrize(
    "text",
    ["plain", "yes", "1.0", "", "a: b # c", '"q"', "line\nbreak\u2028\x85", "- x", "🙂 \\ \t", "{a}", "\ufeff~", "é"],
)
def test_yaml_gives_every_text_back(text: str) -> None:
    content = {"a": text, "b": [text, 0.1, None, True], "c": [{"d": {"e": text}, "f": [text]}, {"g": []}]}
    assert yaml.safe_load("\n".join(lines_of(content))) == content


def test_names_in_the_tables_are_shown_as_they_are() -> None:
    name = "a|b`c*_d_<e>"
    made = {"name": name, "rows": 1, "sources": [{"name": name, "split": "train"}]}
    record = {"experiment": name, "training_set": made, "trained_on": [name], "base": {"name": name}}
    card = card_of("x", "mit", record, [], LOADED)
    assert front(card)["datasets"] == [name]
    assert "base_model" not in front(card)
    shown = r"a\|b\`c\*\_d\_\<e\>"
    assert f"| training set | {shown} |" in card
    assert f"| {shown} | this training |" in card
    assert f"fine-tuned from {shown}, as the experiment `a|b'c*_d_<e>`" in card
    assert name not in card.split("\n---\n", 1)[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"freeze_base": True}, "Its projection was trained on the frozen small."),
        ({"freeze_base": False}, "It was fine-tuned from small."),
        ({}, "It was fine-tuned from small."),
    ],
)
def test_the_card_says_whether_the_base_was_frozen(settings: dict[str, Any], said: str) -> None:
    assert said in card_of("x", "mit", {"settings": settings, "base": {"name": "small"}}, [], LOADED)
