"""Folders of models that give no vectors are refused, with their kind and how to run them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from harness_plugins.model_folder.kind import kind_of
from tests.folders import (
    change,
    without,
    write_bi_encoder,
    write_cross,
    write_inference_free,
    write_masked,
    write_multi_vector,
    write_plain_cross,
    write_sparse,
)
from tests.runs import write_run
from tests.server import Site

WRITERS: dict[str, Callable[[Path], Path]] = {
    "bi": write_bi_encoder,
    "cross": write_cross,
    "plain cross": write_plain_cross,
    "sparse": write_sparse,
    "inference-free": write_inference_free,
    "multi": write_multi_vector,
    "masked": write_masked,
}
SENTENCES = {
    "cross": "is a cross-encoder, which scores pairs of texts and gives no vectors; to rerank with it, type "
    "-m 'rerank(bm25):model={folder}'.",
    "plain cross": "is a cross-encoder, which scores pairs",
    "masked": "is a masked language model without sentence-transformers modules (a SPLADE model, or a base model), "
    "which gives a text no vector; if it is a SPLADE model, SparseEncoder('{folder}').save_pretrained(other) writes",
}
NO_PAIRS = {
    "bi": "is a bi-encoder, which gives each text a vector and scores no pairs; run it with -m",
    **dict.fromkeys(
        ("sparse", "inference-free"), "is a sparse encoder (such as SPLADE), which scores no pairs; run it with -m"
    ),
    "multi": "is a multi-vector encoder (such as ColBERT), which scores no pairs; run it with -m",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of each kind, written once."""
    root, made = tmp_path_factory.mktemp("kinds"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = WRITERS[name](root / name.replace(" ", "-"))
        return made[name]

    return folder


def told(done: object, code: int = 2) -> str:
    assert done.code == code, done.out + done.err  # type: ignore[attr-defined]
    assert "Traceback" not in done.err  # type: ignore[attr-defined]
    return str(done.err.splitlines()[-1])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SENTENCES)
def test_it_is_refused_by_every_command_in_one_sentence(harness, folders, toy: Path, home: Path, name: str) -> None:
    folder = folders(name)
    expected = f"{folder} {SENTENCES[name].format(folder=folder)}"
    assert expected in told(harness("benchmark", "-m", folder, "-d", toy))
    assert expected in told(harness("check", folder))
    assert expected in told(harness("isotropy", "-m", folder, "-d", toy))
    assert not list(Path().glob("results/*/*"))
    assert not (home / "vectors").exists()


def test_what_the_sentence_says_to_type_is_run(harness, folders, toy: Path) -> None:
    for name in ("cross", "plain cross"):
        done = harness("benchmark", "-m", f"rerank(bm25):model={folders(name)}", "-d", toy, "--json")
        assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["bi", "sparse", "inference-free", "multi", "masked"])
def test_rerank_takes_cross_encoders_alone(harness, folders, toy: Path, name: str) -> None:
    folder = folders(name)
    sentence = {**SENTENCES, **NO_PAIRS}[name].format(folder=folder)
    assert f"{folder} {sentence}" in told(harness("benchmark", "-m", f"rerank(bm25):model={folder}", "-d", toy))


def test_a_bi_encoder_of_an_old_release_states_no_type(folders, tmp_path: Path) -> None:
    folder = shutil.copytree(folders("bi"), tmp_path / "old")
    (folder / "config_sentence_transformers.json").unlink()
    without(folder / "sentence_bert_config.json", "transformer_task", "modality_config", "module_output_name")
    assert kind_of(folder) == ("bi-encoder", "")


@pytest.mark.parametrize(
    ("name", "file", "keys"),
    [
        ("sparse", "config_sentence_transformers.json", ("model_type",)),
        ("inference-free", "config_sentence_transformers.json", ("model_type",)),
        ("multi", "config_sentence_transformers.json", ("model_type",)),
        ("cross", "config_sentence_transformers.json", ("model_type",)),
        ("sparse", "sentence_bert_config.json", ("transformer_task",)),
        ("cross", "sentence_bert_config.json", ("transformer_task",)),
    ],
)
def test_one_mark_of_the_kind_is_enough(folders, tmp_path: Path, name: str, file: str, keys: tuple[str, ...]) -> None:
    folder = shutil.copytree(folders(name), tmp_path / "marked")
    expected = kind_of(folder)[0]
    without(folder / file, *keys)
    assert kind_of(folder)[0] == expected != "bi-encoder"


def test_modules_of_pylate_are_a_multi_vector_encoders(folders, tmp_path: Path) -> None:
    folder = shutil.copytree(folders("bi"), tmp_path / "pylate")
    (folder / "config_sentence_transformers.json").unlink()
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "pylate.models.Dense.Dense"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert kind_of(folder) == ("multi-vector encoder", "")


@pytest.mark.parametrize("stated", ["Oracle", "sentencetransformer", 7])
def test_a_type_that_is_not_known_is_refused(harness, folders, tmp_path: Path, toy: Path, stated: object) -> None:
    folder = shutil.copytree(folders("bi"), tmp_path / "odd")
    change(folder / "config_sentence_transformers.json", model_type=stated)
    sentence = f"is a model of the unknown type {str(stated)!r}, which is not supported"
    assert sentence in told(harness("benchmark", "-m", folder, "-d", toy))


def test_nor_is_it_taken_from_the_hub_or_a_run(
    harness, folders, home: Path, site: Site, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.plugins.sentence_transformers.test_hub import publish

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    publish(site, folders("cross"))
    assert "is a cross-encoder, which scores pairs" in told(harness("benchmark", "-m", "st:someone/words", "-d", toy))
    monkeypatch.delenv("HARNESS_RUNS", raising=False)
    write_run(Path("runs/isotropy/seed1"), folders("cross"))
    assert "is a cross-encoder, which scores pairs" in told(harness("benchmark", "-m", "isotropy", "-d", toy))
