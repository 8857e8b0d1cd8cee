"""int8 products compared with integer arithmetic, and their accuracy compared with float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.nn.functional import gelu

from harness.registry.manager import load_registry
from harness.system.environment import features
from harness.types import UserError
from harness_plugins.forward import int8
from harness_plugins.forward.calibration import Ranges, ranges
from harness_plugins.forward.int8 import Int8FeedForward, Quantised
from harness_plugins.forward.products import FeedForward, Product
from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers import checkpoint
from tests.plugins.forward.test_unpadded import encoder as network
from tests.tiny import DIM, transformer

VNNI = bool(features() & {"avx512_vnni", "amx_int8"})
needs_vnni = pytest.mark.skipif(not VNNI, reason="int8 products need AVX-512 VNNI or AMX")


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_vnni
@pytest.mark.parametrize("rows", [1, 3, 64, 500])
@pytest.mark.parametrize("gained", [False, True])
def test_products_are_those_of_whole_numbers(rows: int, gained: bool) -> None:
    weight, bias, given = drawn(96, 48), drawn(96, seed=1), drawn(rows, 48, seed=2)
    gains = torch.rand(48) + 0.5 if gained else torch.ones(48)
    product = Quantised(weight, bias, -2.0, 2.5, gains)
    bytes_ = product.rounded(given)
    scaled = (given.double() * gains.double()).numpy() / product.step
    expected = np.clip(np.rint(scaled) + product.zero, 0, 255)
    assert np.abs(bytes_.numpy() - expected).max() <= 1  # a tie may go either way in float32
    assert (bytes_.numpy() != expected).mean() < 0.01
    assert rows < 64 or (bytes_.min(), bytes_.max()) == (0, 255)
    whole = (bytes_.numpy().astype(np.int32) - product.zero) @ product.levels.numpy().astype(np.int32).T
    exact = whole * product.step * product.steps.numpy().astype(np.float64) + bias.numpy()
    np.testing.assert_allclose(product(bytes_).double().numpy(), exact, rtol=2**-8, atol=1e-5)
    wide = product.gelu(bytes_, 0.02, 9).numpy().astype(np.int32)
    rounded = np.clip(np.rint(gelu(torch.from_numpy(exact)).numpy() / 0.02) + 9, 0, 255)
    assert np.abs(wide - rounded).max() <= 1
    assert (wide != rounded).mean() < 0.02


@needs_vnni
def test_loud_neurons_cost_the_others_nothing() -> None:
    wide, narrow, given = drawn(192, 48) / 7, drawn(48, 192, seed=1) / 14, drawn(300, 48, seed=2)
    bias = torch.zeros(192)
    for loud in (0, 40):
        bias[17] = loud
        plain = FeedForward(
            Product(wide, bias, torch.float32, activation="gelu"), Product(narrow, torch.zeros(48), torch.float32)
        )
        seen = Ranges(given.abs().amax(0), plain.widened(given).amax(0))
        exact = plain(given)
        error = (Int8FeedForward(plain, seen)(given).float() - exact).std()
        assert error < 0.012 * exact.std(0).mean() + 2**-8 * exact.abs().max()  # as 8 bits have it, and bfloat16
        scale = plain.widened(given).amax() / 255
        assert loud == 0 or error < scale * 0.29 * (narrow.pow(2).sum(1).mean() ** 0.5) / 2  # one range for all


@needs_vnni
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_it_stays_near_float32_and_a_text_does_not_depend_on_its_neighbours(family: str) -> None:
    model = network(family, 5)
    generator = np.random.default_rng(0)
    texts = [generator.integers(2, 90, length).tolist() for length in (1, 7, 7, 40, 128, 300)]
    plain = UnpaddedModel(model, torch.float32)
    feeds = int8.feeds(plain, texts)
    assert all(isinstance(feed, FeedForward) for feed in plain.feeds)  # as it was before it was watched
    ours = UnpaddedModel(model, torch.bfloat16, feeds)
    with torch.inference_mode():
        exact, near = plain(texts), ours(texts)
        parts = torch.split(near, [len(text) for text in texts])
        alone = [ours([text]) for text in texts]
    assert torch.nn.functional.cosine_similarity(exact, near).mean() > 0.998
    for one, part in zip(alone, parts, strict=True):
        torch.testing.assert_close(one, part, atol=0.05, rtol=0.05)


def test_ranges_are_the_largest_of_every_token() -> None:
    plain, texts = UnpaddedModel(network("mpnet", 1), torch.float32), [[5, 6, 7], [8, 9]]
    states: list[Any] = []
    feeds = list(plain.feeds)
    plain.feeds = [lambda state, feed=feed: (states.append(state), feed(state))[1] for feed in feeds]
    with torch.inference_mode():
        plain(texts)
    plain.feeds = feeds
    for feed, state, seen in zip(feeds, states, ranges(plain, texts), strict=True):
        torch.testing.assert_close(seen.given, state.abs().max(0).values)
        assert isinstance(feed, FeedForward)
        torch.testing.assert_close(seen.widened, feed.widened(state).max(0).values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    modules = [transformer(tmp_path / "base", "mpnet"), Pooling(DIM, "mean")]
    SentenceTransformer(modules=modules).save(str(tmp_path / "model"))
    return tmp_path / "model"


@needs_vnni
def test_the_option_gives_vectors_of_its_own_name(folder: Path, tmp_path: Path) -> None:
    refs = {dtype: load_registry().model(f"{folder}:dtype={dtype},device=cpu") for dtype in ("float32", "int8")}
    assert refs["int8"].fingerprint["implementation"] == checkpoint.IMPLEMENTATIONS["int8"]
    assert refs["int8"].fingerprint["dtype"] == "int8"
    assert refs["int8"].key != refs["float32"].key
    texts = ["", "moon", "the red planet pumps blood", "query " * 60]
    exact, ours = (refs[dtype].load().encode(texts, role="query") for dtype in ("float32", "int8"))
    cosines = (ours * exact).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.995
    assert not np.array_equal(exact, ours)
    assert refs["int8"].load().products == ("int8", "cpu")


def test_what_it_is_not_for_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="packed on a CPU"):
        _ = load_registry().model(f"{folder}:dtype=int8,forward=stock,device=cpu").fingerprint
    with pytest.raises(UserError, match="packed on a CPU"):
        _ = load_registry().model(f"{folder}:dtype=int8,device=cuda").fingerprint
    monkeypatch.setattr(int8, "features", lambda: frozenset({"avx2", "avx512f"}))
    with pytest.raises(UserError, match="VNNI or AMX"):
        load_registry().model(f"{folder}:dtype=int8,device=cpu").load()
    with pytest.raises(UserError, match="int8"):
        load_registry().model(f"rerank(bm25):model={folder},dtype=int8")
