"""Tokenizers of folders that were saved again; batch sizes by processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness.embeddings.batch_size import Tunable
from harness.embeddings.encode import encode_texts
from harness.registry.manager import ModelRef, load_registry
from harness.system.environment import features
from harness_plugins.forward import int8
from harness_plugins.sentence_transformers import encoder
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


@pytest.mark.parametrize(
    ("amx", "dtype", "choices"), [(True, "bfloat16", 4), (False, "bfloat16", 1), (True, "float32", 1)]
)
def test_only_bfloat16_on_amx_has_a_choice_of_batch_sizes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, amx: bool, dtype: str, choices: int
) -> None:
    monkeypatch.setattr(encoder, "has_amx", lambda: amx)
    model = ref(folder, f"dtype={dtype},forward=packed,device=cpu").load()
    assert isinstance(model, Tunable)
    assert (model.token_budget, len(model.token_budgets)) == (2048, choices)
    before = encode_texts(model, "it", TEXTS * 30, "document")
    model.token_budget = 4096
    np.testing.assert_allclose(encode_texts(model, "it", TEXTS * 30, "document"), before, atol=1e-2)
    assert model.token_budget == 4096


def test_advice_names_the_gain_of_int8_and_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ref(folder, "dtype=bfloat16,forward=packed,device=cpu").load()
    if features() & {"avx512_vnni", "amx_int8"}:
        assert int8.gain(model._plain) > 0
    monkeypatch.setattr(int8, "gain", lambda _: 1.94)
    assert "1.9 times as fast with dtype=int8" in model.advice()
    monkeypatch.setattr(int8, "gain", lambda _: 1.2)
    assert model.advice() == ""
    assert str(model.dtype) == "torch.bfloat16"
