"""Tokenizers of folders that were saved again."""

from __future__ import annotations

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
    packed, stock = ref(folder, "forward=packed").load(), ref(tmp_path, "forward=stock").load()
    for role in ROLES:
        assert packed.tokenize(TEXTS, role=role) == stock.tokenize(TEXTS, role=role)
