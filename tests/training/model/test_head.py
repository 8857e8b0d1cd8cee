"""The initial model and its folder, compared with numpy and plain sentence-transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers (the train extra)")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness.types import UserError
from harness_training.model.head import head, head_pattern, projection, save_model
from tests.tiny import DIM, transformer
from tests.training.models import build_model, texts, write_base

SAMPLE = texts(300)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("models"))


def embedded(model: SentenceTransformer, sample: list[str] = SAMPLE) -> Any:
    return np.asarray(model.encode(sample), dtype=np.float64)


@pytest.fixture(scope="module")
def pooled(base: Path) -> Any:
    """The base's embeddings before its Normalize."""
    model = SentenceTransformer(str(base))
    return embedded(SentenceTransformer(modules=[model[0], model[1]]))


def test_principal_components_give_mean_zero_and_variance_one(base: Path, pooled: Any) -> None:
    model = build_model(base, SAMPLE, dim=16)
    vectors = embedded(model)
    assert np.abs(vectors.mean(0)).max() < 1e-5
    assert vectors.var(0, ddof=1) == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(vectors.T) == pytest.approx(np.eye(16), abs=1e-4)
    values, directions = np.linalg.eigh(np.cov(pooled.T))
    known = (pooled - pooled.mean(0)) @ directions[:, ::-1][:, :16] / np.sqrt(values[::-1][:16])
    assert np.abs(vectors) == pytest.approx(np.abs(known), abs=1e-3)


def test_rotation_keeps_the_distances_within_the_components(base: Path, pooled: Any) -> None:
    """All of them here: a layer norm leaves one direction without variance."""
    vectors = embedded(build_model(base, SAMPLE, dim=DIM - 1, init="pca-rotation"))
    assert vectors.var(0, ddof=1).mean() == pytest.approx(1, abs=1e-4)
    after = np.linalg.norm(vectors - vectors[0], axis=1)
    before = np.linalg.norm(pooled - pooled[0], axis=1)
    assert after == pytest.approx(before * after.sum() / before.sum(), abs=1e-3)


def test_random_directions_differ_in_nothing_but_the_directions(base: Path) -> None:
    vectors = embedded(build_model(base, SAMPLE, dim=16, init="random"))
    assert np.abs(vectors.mean(0)).max() < 1e-4
    assert vectors.var(0, ddof=1) == pytest.approx(1, abs=1e-4)
    assert np.abs(np.corrcoef(vectors.T) - np.eye(16)).max() > 0.3
    assert np.array_equal(vectors, embedded(build_model(base, SAMPLE, dim=16, init="random")))
    assert not np.allclose(vectors, embedded(build_model(base, SAMPLE, dim=16, init="random", seed=1)))


def test_a_checkpoint_loads_in_plain_sentence_transformers(base: Path, tmp_path: Path) -> None:
    model = build_model(base, SAMPLE, dim=16)
    with torch.no_grad():  # as after some training: the first layer is no longer the identity
        model[2].linear.weight.add_(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0)))
    save_model(model, tmp_path / "checkpoint")
    loaded = SentenceTransformer(str(tmp_path / "checkpoint"))
    assert np.array_equal(loaded.encode(SAMPLE[:20]), model.encode(SAMPLE[:20]))
    assert loaded.similarity_fn_name == "euclidean"
    assert [type(module).__module__.split(".")[0] for module in loaded] == ["sentence_transformers"] * 4
    assert loaded.get_embedding_dimension() == 16


def test_the_harness_evaluates_a_checkpoint(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    from harness.registry.manager import load_registry

    model = build_model(base, SAMPLE, dim=16)
    save_model(model, tmp_path / "checkpoint")
    reference = load_registry().model(f"checkpoint:path={tmp_path / 'checkpoint'},dtype=float32,device=cpu")
    loaded = reference.load()
    assert loaded.similarity == "euclidean"
    assert loaded.encode(SAMPLE[:9], role="query") == pytest.approx(model.encode(SAMPLE[:9]), abs=1e-5)


def test_first_layer_starts_as_identity_and_learns_at_once(base: Path) -> None:
    model = build_model(base, SAMPLE, dim=16)
    features = model.preprocess(SAMPLE[:8])
    model(features)["sentence_embedding"].square().sum().backward()
    assert not model[2].linear.weight.any()
    assert model[2].linear.weight.grad.abs().max() > 1e-3


def test_the_head_of_mpnet_has_about_a_million_parameters() -> None:
    layers = head(torch.zeros(512, 768), torch.zeros(512))
    assert sum(parameter.numel() for layer in layers for parameter in layer.parameters()) == 984_320


def test_the_pattern_finds_the_parameters_of_the_head_alone(base: Path) -> None:
    model = build_model(base, SAMPLE, dim=16)
    pattern = re.compile(head_pattern(model))
    found = {name for name, _ in model.named_parameters() if pattern.search(name)}
    assert found == {name for name, _ in model.named_parameters() if name.split(".")[0] in ("2", "3")}


def test_prompts_and_length_of_the_base_are_kept(base: Path, tmp_path: Path) -> None:
    prompted = SentenceTransformer(str(base), prompts={"query": "query ", "document": "passage "})
    prompted.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    model = build_model(tmp_path / "prompted", SAMPLE, dim=16, max_seq_length=12)
    assert model.prompts == {"query": "query ", "document": "passage "}
    assert model.max_seq_length == 12
    assert np.abs(np.asarray(model.encode_document(SAMPLE)).mean(0)).max() < 1e-5


def test_mistakes_are_the_users(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which has 32"):
        build_model(base, SAMPLE, dim=33)
    with pytest.raises(UserError, match="at least 33"):
        build_model(base, SAMPLE[:32], dim=16)
    with pytest.raises(UserError, match=r"modules\.json"):
        build_model(tmp_path, SAMPLE)
    with pytest.raises(UserError, match="do not spread over 32"):
        build_model(base, SAMPLE[:5] * 10, dim=32)
    with pytest.raises(UserError, match="starts as pca"):
        projection(torch.randn(40, 4), 2, init="best")  # type: ignore[arg-type]
    cls = SentenceTransformer(modules=[transformer(tmp_path / "t"), Pooling(DIM, "cls")])
    cls.save_pretrained(str(tmp_path / "cls"), create_model_card=False)
    with pytest.raises(UserError, match="mean Pooling"):
        build_model(tmp_path / "cls", SAMPLE, dim=16)
