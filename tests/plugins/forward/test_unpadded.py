"""The unpadded forward pass against transformers' own, and the three things that break it silently."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from harness.datasets.beir import open_dataset
from harness.models.runner import Prepared, dataset_vectors
from harness.registry.load_fallback import Otherwise
from harness.registry.manager import load_registry
from harness.types import DenseModel, UserError
from harness_plugins.forward import attention, products
from harness_plugins.forward.architectures import family_in
from harness_plugins.forward.unpadded import UnpaddedModel
from tests.tiny import DIM, transformer

FAMILIES = ("bert", "mpnet")
SIZES = {"vocab_size": 90, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
LENGTHS = (1, 2, 3, 3, 7, 8, 8, 8, 40, 127, 128, 129, 129, 300, 511, 512)


def encoder(family: str, seed: int) -> Any:
    """Random weights, with position biases of realistic size."""
    torch.manual_seed(seed)
    kind, config = (BertModel, BertConfig) if family == "bert" else (MPNetModel, MPNetConfig)
    model = kind(config(**SIZES, max_position_embeddings=514, pad_token_id=1, initializer_range=0.1)).eval()
    if family == "mpnet":
        torch.nn.init.normal_(model.encoder.relative_attention_bias.weight, std=3)
    return model


class Module:
    """What sentence-transformers' module does with a model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"token_embeddings": self.model(**features).last_hidden_state}


def tokens(seed: int) -> list[list[int]]:
    """Texts of many lengths, some with the padding token inside."""
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 90, length).tolist() for length in generator.permutation(LENGTHS)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hidden_states_are_those_of_transformers(family: str, seed: int) -> None:
    model = encoder(family, seed)
    assert UnpaddedModel(model, torch.float32).distance(Module(model), tokens(seed)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_does_not_depend_on_its_neighbours(family: str) -> None:
    ours, texts = UnpaddedModel(encoder(family, 3), torch.float32), tokens(3)
    with torch.inference_mode():
        together = torch.split(ours(texts), [len(text) for text in texts])
        for text, state in zip(texts, together, strict=True):
            np.testing.assert_allclose(state.numpy(), ours([text]).numpy(), atol=1e-5)


def broken(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "bias":
        whole = UnpaddedModel._bias_of
        monkeypatch.setattr(UnpaddedModel, "_bias_of", lambda self, length: 0 * whole(self, length))
    elif what == "positions":
        counted = [0]

        def running(self: UnpaddedModel, text: list[int]) -> Any:
            counted[0] += len(text)
            return np.arange(counted[0] - len(text), counted[0]) % 70 + (0 if self.network.padding is None else 2)

        monkeypatch.setattr(UnpaddedModel, "_positions", running)
    else:  # texts of equal length attend to each other
        own = UnpaddedModel._attend
        monkeypatch.setattr(
            UnpaddedModel,
            "_attend",
            lambda self, layer, given, found, length: own(self, layer, given, found, len(found)),
        )


@pytest.mark.parametrize(
    ("family", "what"), [("mpnet", "bias"), *((f, w) for f in FAMILIES for w in ("positions", "documents"))]
)
def test_what_breaks_it_is_noticed(family: str, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken(monkeypatch, what)
    model, texts = encoder(family, 4), [[5, 9, 20, 7, 33], [5, 60, 61, 7, 2], [8, 3]]
    assert UnpaddedModel(model, torch.float32).distance(Module(model), texts) > 0.01
    saved(tmp_path, family)
    if what != "documents":  # the probes at loading differ in length
        with pytest.raises(UserError, match=r"differs from the unpadded one by .*forward=stock"):
            loaded(tmp_path / "model")


def saved(folder: Path, family: str, pooling: str = "mean") -> None:
    SentenceTransformer(modules=[transformer(folder / "base", family), Pooling(DIM, pooling)]).save(
        str(folder / "model")
    )


def loaded(folder: Path, options: str = "dtype=float32") -> DenseModel:
    model: DenseModel = load_registry().model(f"{folder}:{options}").load()
    return model


def disguised(folder: Path, family: str) -> Path:
    """A folder whose config.json states GELU but whose module uses ReLU."""
    saved(folder, family)
    file = folder / "model" / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"config_kwargs": {"hidden_act": "relu"}}))
    return folder / "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_another_pass_falls_back_to_its_own(
    family: str, harness, toy: Path, home: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    folder = disguised(tmp_path, family)
    assert family_in(folder) is not None
    stock = load_registry().model(f"{folder}:forward=stock,dtype=float32,device=cpu")
    words = ("benchmark", "-m", f"{folder}:dtype=float32,device=cpu", "-d", toy, "--json")
    done = harness(*words)
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    [(label, reason)] = cell["manifest"]["run"]["fallbacks"].items()
    assert label == cell["model"]
    assert f"note: {label} is {reason}\n" in done.err
    assert re.match(r"taken with forward=stock, because this model's own forward pass differs .* by 0\.\d+, so", reason)
    assert cell["manifest"]["model"]["fingerprint"] == stock.fingerprint
    assert [place.name for place in (home / "vectors").iterdir()] == [stock.key[:32]]
    with open_dataset(toy, cache=tmp_path / "cache") as dataset:
        texts = [document.content for document in dataset.corpus.iter()]
        found = dataset_vectors(Prepared(stock, home), dataset)["document"][0]
        ours = found.gather(np.arange(len(texts)))
    theirs = SentenceTransformer(str(folder), device="cpu").encode_document(texts, normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert json.loads(harness(*words).out)[0]["cell"] == "cached"
    refused = harness("benchmark", "-m", f"{folder}:forward=packed", "-d", toy)
    assert refused.code == 2
    assert "This model's own forward pass differs from the unpadded one by" in refused.err
    assert "type forward=stock" in refused.err


def test_parts_of_another_name_are_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "bert")

    def renamed(*_: Any) -> None:
        raise AttributeError("no attribute 'query'")

    monkeypatch.setattr(UnpaddedModel, "_layer", renamed)
    with pytest.raises(Otherwise, match=r"does not fit its parts \(no attribute 'query'\); type forward=stock"):
        loaded(tmp_path / "model")


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_stock_pass(family: str, tmp_path: Path) -> None:
    saved(tmp_path, family)
    texts = ["", "moon", "the red planet pumps blood", "query " * 60]
    stock = loaded(tmp_path / "model", "dtype=float32,forward=stock").encode(texts, role="query")
    for dtype, closest in (("float32", 1 - 1e-6), ("bfloat16", 0.999)):
        ours = loaded(tmp_path / "model", f"dtype={dtype},forward=packed").encode(texts, role="query")
        cosines = (ours * stock).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(stock, axis=1)
        assert cosines.min() > closest


def test_each_pass_has_its_own_fingerprint(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    refs = [load_registry().model(f"{tmp_path / 'model'}:device=cpu,forward={f}") for f in ("auto", "packed", "stock")]
    auto, ours, stock = (ref.fingerprint["implementation"] for ref in refs)
    assert auto == ours != stock


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"hidden_act": "relu"}, False),
        ({"position_embedding_type": "relative_key"}, False),
        ({"model_type": "albert"}, False),
        ({"is_decoder": True}, False),
    ],
)
def test_only_plain_encoders_of_these_families(changes: dict[str, Any], fits: bool, tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert (family_in(file.parent) is not None) == fits
    ref = load_registry().model(f"{file.parent}:forward=packed")
    if not fits:
        with pytest.raises(UserError, match=r"no plain BERT, .* or Gemma 3 encoder"):
            _ = ref.fingerprint


def test_a_folder_without_a_config_is_not_of_a_family(tmp_path: Path) -> None:
    assert family_in(tmp_path) is None


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 64, 500])
def test_products_reordered_once_are_as_right_as_plain_ones(
    gelu: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight, bias = torch.randn(96, 48, generator=generator), torch.randn(96, generator=generator)
    given = torch.randn(rows, 48, generator=generator).bfloat16()
    exact = given.double() @ weight.bfloat16().double().T + bias.bfloat16().double()
    exact = torch.nn.functional.gelu(exact) if gelu else exact
    activation: products.Activation | None = "gelu" if gelu else None
    laid_out = products.Product(weight, bias, torch.bfloat16, activation=activation)(given)
    monkeypatch.setattr(products, "_reorders_weights", lambda device: False)
    plain = products.Product(weight, bias, torch.bfloat16, activation=activation)(given)
    for found in (laid_out, plain):
        assert (found.double() - exact).abs().max() <= 2**-7 * exact.abs().max()
    assert (laid_out.double() - exact).abs().max() <= (plain.double() - exact).abs().max() * 1.01


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_stays_near_float32_with_either_product(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = encoder(family, 5), tokens(5)
    with torch.inference_mode():
        exact = UnpaddedModel(model, torch.float32)(texts)
        near = UnpaddedModel(model, torch.bfloat16)(texts)
        monkeypatch.setattr(products, "_reorders_weights", lambda device: False)
        plain = UnpaddedModel(model, torch.bfloat16)(texts)
        monkeypatch.setattr(attention, "LONG", 1 << 20)
        together = UnpaddedModel(model, torch.bfloat16)(texts)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(near, exact).mean() > 0.999
    assert cosine(near, exact).mean() >= cosine(plain, exact).mean() - 1e-4
    torch.testing.assert_close(plain, together, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_counted_are_those_of_the_descriptor_and_of_attention(family: str, tmp_path: Path) -> None:
    saved(tmp_path, family)
    ref = load_registry().model(f"{tmp_path / 'model'}:dtype=float32,device=cpu")
    model, linear, layers = ref.load(), ref.figures["flops_per_token"], 2
    assert model.flops([7, 1]) == 8 * linear + 4 * DIM * layers * (7**2 + 1)
    assert model.products == ("float32", "cpu")
