"""Whose tokens are whose: what files tell of a tokenizer, and what the loaded encoder does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness.registry.manager import ModelRef, load_registry
from tests.tiny import DIM, transformer

ROLES = ("query", "document")
TEXTS = ["The Heart pumps " * 9, "", "UPPER lower"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoder")
    model = SentenceTransformer(modules=[transformer(root / "base"), Pooling(DIM, "mean")], device="cpu")
    model.save(str(root / "model"), create_model_card=False)
    return root / "model"


def ref(folder: Path, options: str = "dtype=float32") -> ModelRef:
    return load_registry().model(f"{folder}:{options}")


def test_a_folder_saved_again_has_the_same_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    model.tokenizer(["the heart", "blood"], padding="max_length", truncation=True, max_length=7)
    model.save(str(tmp_path), create_model_card=False)
    assert (folder / "tokenizer.json").read_bytes() != (tmp_path / "tokenizer.json").read_bytes()
    assert ref(folder).tokenizer == ref(tmp_path).tokenizer
    packed, stock = ref(folder, "forward=packed").load(), ref(tmp_path, "forward=stock").load()
    for role in ROLES:
        key = packed.tokens_key(role)
        assert packed.tokenize(TEXTS, role=role) == stock.tokenize(TEXTS, role=role)
        assert key == stock.tokens_key(role) == packed.tokens_key(role)


@pytest.mark.parametrize(
    ("options", "cased", "roles"),
    [
        ("max_seq_length=9", False, ROLES),
        ("document_prompt=the ", False, ("document",)),
        ("dtype=float32", True, ROLES),
    ],
)
def test_what_changes_tokens_changes_the_key(
    folder: Path, tmp_path: Path, options: str, cased: bool, roles: tuple[str, ...]
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    if cased:
        content = json.loads((other / "tokenizer.json").read_text())
        content["normalizer"]["lowercase"] = False
        (other / "tokenizer.json").write_text(json.dumps(content))
    refs = ref(folder), ref(other, options)
    loaded = [each.load() for each in refs]
    for role in ROLES:
        one, two = (each.tokenize(TEXTS, role=role) for each in loaded)
        differ = role in roles
        assert (one != two) is differ
        assert (refs[0].tokenizer[role] != refs[1].tokenizer[role]) is differ
        assert (loaded[0].tokens_key(role) != loaded[1].tokens_key(role)) is differ


def test_a_prompt_that_the_folder_states_is_part_of_the_loaded_models_key(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "the ", "document": ""}
    (other / "config_sentence_transformers.json").write_text(json.dumps(config))
    one, two = ref(folder).load(), ref(other).load()
    assert one.tokens_key("query") != two.tokens_key("query")
    assert one.tokens_key("document") == two.tokens_key("document")


def test_a_folder_without_a_tokenizer_file_states_nothing(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tokenizer.json").rename(other / "vocab.json")
    assert ref(other).tokenizer == {}


@pytest.mark.parametrize("content", ["[]", "{", '"x"', "{}"])
def test_a_spoilt_tokenizer_file_raises_nothing(folder: Path, tmp_path: Path, content: str) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tokenizer.json").write_text(content)
    assert isinstance(ref(other).tokenizer, dict)
