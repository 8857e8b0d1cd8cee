"""Embeddings of the base: the pass that evaluation uses, equal to sentence-transformers' own, with its fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers (the train extra)")

import torch

from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers.agreement import AGREEMENT
from harness_plugins.sentence_transformers.encoder import TokenEncoder, UnpaddedEncoder
from harness_training.experiment.settings import Settings
from harness_training.model.base_embeddings import Base, BaseEmbeddings
from harness_training.model.head import load_base, projection
from tests.tiny import DIM
from tests.training.models import texts, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def embeddings(base: Path, home: Path, precision: str = "fp32", forward: str = "auto", device: str = "cpu") -> Any:
    settings = Settings(precision=precision)
    return BaseEmbeddings(Base("base", base, (), forward), settings, home, device, lambda *_: None)


def stock(base: Path, given: list[str]) -> Any:
    """What sentence-transformers computes in float32."""
    return load_base(base, "cpu").encode(given, show_progress_bar=False)


def test_in_float32_vectors_and_head_are_those_of_sentence_transformers(base: Path, tmp_path: Path) -> None:
    given, ours = texts(60), embeddings(base, tmp_path)
    found, exact = ours.of(given, "document"), stock(base, given)
    assert isinstance(ours._encoder, UnpaddedEncoder)
    apart = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert apart.max() < AGREEMENT
    (weight, bias), (other, shift) = (projection(torch.from_numpy(each), 4) for each in (found, exact))
    torch.testing.assert_close(weight, other, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(bias, shift, atol=1e-3, rtol=1e-3)


def test_in_bfloat16_they_are_as_near_as_the_stock_pass(base: Path, tmp_path: Path) -> None:
    given = texts(60)
    exact = stock(base, given)
    least = []
    for forward in ("auto", "stock"):
        found = embeddings(base, tmp_path, "bf16", forward).of(given, "query")
        cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
        least.append(cosines.min())
    assert least[0] > 0.999
    assert 1 - least[0] < 2 * (1 - least[1]) + 1e-5


def test_passes_and_precisions_have_keys_of_their_own(base: Path, tmp_path: Path) -> None:
    every = [
        embeddings(base, tmp_path, precision, forward)
        for precision in ("fp32", "bf16")
        for forward in ("auto", "stock")
    ]
    assert len({each.key for each in every}) == 4
    every[0].of(["moon"], "query")
    again = embeddings(base, tmp_path)
    again._encoder.encode_tokens = None  # stored: nothing is encoded
    assert again.of(["moon"], "query").shape == (1, DIM)


def test_a_base_that_the_fast_pass_does_not_repeat_is_embedded_as_before(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = texts(20)
    exact, plain = stock(base, given), embeddings(base, tmp_path, forward="stock")
    own = UnpaddedModel._bias_of
    monkeypatch.setattr(UnpaddedModel, "_bias_of", lambda self, length: own(self, length) + torch.arange(length))
    ours = embeddings(base, tmp_path)
    np.testing.assert_allclose(ours.of(given, "document"), exact, atol=1e-5)
    assert type(ours._encoder) is TokenEncoder
    assert ours.key == plain.key
