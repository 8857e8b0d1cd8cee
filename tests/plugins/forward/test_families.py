"""Every family of the unpadded pass against transformers, and its folders against sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoTokenizer

from harness.embeddings.encode import encode_texts
from harness.registry.load_fallback import Otherwise
from harness.registry.manager import load_registry
from harness.types import DenseModel, UserError
from harness_plugins.forward import attention, int8
from harness_plugins.forward.architectures import FAMILIES
from harness_plugins.forward.attention import Window
from harness_plugins.forward.flex_attention import BLOCK, FlexAttentionModel
from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers.encoder import UnpaddedEncoder
from tests import tiny
from tests.folders import change
from tests.plugins.forward.test_int8 import needs_vnni
from tests.plugins.forward.test_unpadded import Module
from tests.tiny import DIM, LONGEST, transformer

SIZES = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"max_position_embeddings": 514}
LENGTHS = (1, 2, 5, 5, 8, 9, 17, 18, 40, 129, 300)
"""Shorter and longer than the windows (8 and 16) and than a block of queries (128)."""
SLIDING = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "modernbert, biases": ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    "modernbert, one token": ("modernbert", {"local_attention": 1}),
    "qwen3, biases, local": ("qwen3", {"attention_bias": True, **SLIDING}),
    "qwen3, two-sided": ("qwen3", {"is_causal": False}),
    "qwen3, two-sided, local": ("qwen3", {"is_causal": False, **SLIDING}),
    "gemma3_text, causal": ("gemma3_text", {"use_bidirectional_attention": False}),
}


def random_model(variant: str, seed: int = 0) -> Any:
    family, settings = VARIANTS[variant]
    torch.manual_seed(seed)
    return tiny.model(family, **SIZES, initializer_range=0.15, **settings)


def tokens(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    """Texts with the padding token (1) inside."""
    generator = np.random.default_rng(0)
    return [generator.integers(1, 90, length).tolist() for length in generator.permutation(lengths)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_are_those_of_transformers(variant: str) -> None:
    model, texts = random_model(variant), [*tokens(), []]
    ours = UnpaddedModel(model, torch.float32)
    assert ours.distance(Module(model), texts) < 1e-5
    with torch.inference_mode():
        exact, near = ours(texts), UnpaddedModel(model, torch.bfloat16)(texts)
    assert torch.cosine_similarity(near, exact).mean() > 0.998


@pytest.mark.parametrize("variant", ["modernbert", "qwen3", "qwen3, biases, local", "gemma3_text"])
@pytest.mark.parametrize("what", ["window", "rotation"])
def test_what_breaks_it_is_noticed(variant: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(variant)
    if what == "window":
        monkeypatch.setattr(Window, "of", lambda *_: Window())
    else:
        own = UnpaddedModel._turn
        monkeypatch.setattr(UnpaddedModel, "_turn", lambda self, name, length: own(self, name, length).conj())
    assert UnpaddedModel(model, torch.float32).distance(Module(model), tokens((17, 18, 40))) > 0.01


@pytest.mark.parametrize("variant", ["modernbert", "qwen3", "gemma3_text, causal"])
def test_blocks_of_queries_and_heads_change_nothing(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = random_model(variant), tokens((40, 129, 300))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        ours = UnpaddedModel(model, dtype)
        with torch.inference_mode():
            whole = ours(texts)
            with monkeypatch.context() as narrow:
                narrow.setattr(attention, "BUFFER", 3000)
                narrow.setattr(attention, "ROWS", 7)
                narrow.setattr(attention, "LOCAL_ROWS", 5)
                torch.testing.assert_close(ours(texts), whole, atol=tolerance, rtol=0)


def saved(folder: Path, family: str, pooling: str = "mean", padding: str = "right") -> Path:
    module = transformer(folder / "base", family)
    if padding == "left":
        words = AutoTokenizer.from_pretrained(folder / "base", padding_side="left")
        words.save_pretrained(folder / "base")
        module = Transformer(str(folder / "base"), max_seq_length=LONGEST)
    SentenceTransformer(modules=[module, Pooling(DIM, pooling)]).save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def loaded(folder: Path, options: str) -> DenseModel:
    model: DenseModel = load_registry().model(f"{folder}:device=cpu,{options}").load()
    return model


TEXTS = ["", "moon", "the red planet pumps blood", "query " * 60, "bread, moon and heart. " * 4]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("bert", "mpnet")])
def test_vectors_are_those_of_sentence_transformers(family: str, tmp_path: Path) -> None:
    decoder = family == "qwen3"
    folder = saved(tmp_path, family, "lasttoken" if decoder else "mean", "left" if decoder else "right")
    model = loaded(folder, "dtype=float32")
    assert isinstance(model, UnpaddedEncoder)
    theirs = SentenceTransformer(str(folder), device="cpu").encode_document(TEXTS)
    weights = {name: one.numel() for name, one in model.model[0].model.named_parameters() if one.ndim == 2}
    linear = sum(size for name, size in weights.items() if "embed" not in name and "pooler" not in name)
    pairs = 28 + 1 if decoder else 49 + 1
    size = 24 if family in ("qwen3", "gemma3_text") else DIM // 2
    assert model.flops([7, 1]) == 2 * 8 * linear + 4 * 2 * size * 2 * pairs  # two heads, two layers
    np.testing.assert_allclose(encode_texts(model, "it", TEXTS, "document"), theirs, atol=1e-5)
    near = encode_texts(loaded(folder, "dtype=bfloat16"), "it", TEXTS, "document")
    cosines = (near * theirs).sum(1) / np.linalg.norm(near, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.995


def test_a_model_that_is_not_what_its_config_says_has_the_stock_pass(tmp_path: Path) -> None:
    folder = saved(tmp_path, "modernbert")
    change(folder / "sentence_bert_config.json", config_kwargs={"hidden_activation": "relu"})
    with pytest.raises(Otherwise, match=r"differs from the unpadded one by .*type forward=stock"):
        loaded(folder, "dtype=float32")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        ("qwen3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),
        ("modernbert", {"hidden_activation": "relu"}),
        ("distilbert", {"activation": "relu"}),
    ],
)
def test_what_the_pass_does_not_do_is_left_to_transformers(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved(tmp_path, family)
    registry = load_registry()
    assert "texts end to end" in registry.model(f"{folder}:device=cpu").fingerprint["implementation"]
    change(folder / "config.json", **changes)
    assert "padded batches" in registry.model(f"{folder}:device=cpu").fingerprint["implementation"]


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_encoders_like_bert_have_the_pass_for_gpus(family: str) -> None:
    ours = FlexAttentionModel(random_model(family), torch.float32, rows=BLOCK, backend=None)
    assert ours.distance(Module(random_model(family)), tokens((1, 5, 5, 40))) < 1e-5


@needs_vnni
@pytest.mark.parametrize("family", ["xlm-roberta", "distilbert"])
def test_encoders_like_bert_have_feed_forward_layers_in_int8(family: str) -> None:
    model, texts = random_model(family), tokens()
    plain = UnpaddedModel(model, torch.float32)
    ours = UnpaddedModel(model, torch.bfloat16, int8.feeds(plain, texts))
    with torch.inference_mode():
        assert torch.cosine_similarity(plain(texts), ours(texts)).mean() > 0.998


def test_int8_and_gpus_are_for_encoders_like_bert(tmp_path: Path) -> None:
    folder = saved(tmp_path, "nomic_bert")
    for options, words in (
        ("device=cpu,dtype=int8", "dtype=int8 is for encoders like BERT"),
        ("device=cuda,forward=packed", "or DistilBERT encoder, which forward=packed is for on a GPU"),
    ):
        with pytest.raises(UserError, match=words):
            _ = load_registry().model(f"{folder}:{options}").fingerprint
    stock = load_registry().model(f"{folder}:device=cuda,dtype=float32").fingerprint["implementation"]
    assert "padded batches" in stock


def test_every_family_is_documented_and_of_the_class_that_it_names() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "model-folders.md").read_text()
    for name, family in FAMILIES.items():
        rows = [line for line in documented.splitlines() if f"`{name}`" in line and family.title in line]
        assert [row.endswith("| yes |") for row in rows] == [family.absolute]
        made = tiny.model(name, **SIZES)
        assert (made.config.model_type, type(made).__name__) == (name, family.model)
        assert json.loads(made.config.to_json_string())["model_type"] == name
