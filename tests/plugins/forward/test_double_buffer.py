"""Double buffering: the vectors of the GPU pass, run on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch

from harness.types import UserError
from harness_plugins.forward import double_buffer
from harness_plugins.forward.flex_attention import BLOCK, FlexAttentionModel
from harness_plugins.forward.outlier_tokens import OutlierLayer
from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers import encoder
from tests.plugins.forward.test_flex_attention import ROWS, broken
from tests.plugins.forward.test_unpadded import encoder as random_encoder
from tests.plugins.forward.test_unpadded import loaded, saved


@pytest.fixture(autouse=True, scope="module")
def fresh() -> None:
    """What one test has compiled, the others use."""
    torch._dynamo.reset()


@pytest.fixture
def on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a GPU."""
    monkeypatch.setattr(encoder, "FLEX_ATTENTION_DEVICES", ("cpu",))
    monkeypatch.setattr(double_buffer, "ROWS", BLOCK)
    monkeypatch.setattr(double_buffer, "BACKEND", "eager")


TEXTS = ["", "moon", "the red planet pumps blood", "query " * 60, *(f"word {'heart ' * n}" for n in range(30))]


@pytest.mark.parametrize(
    ("family", "pooling", "dtype", "closest"),
    [("bert", "mean", "float32", 1 - 1e-6), ("mpnet", "cls", "bfloat16", 0.99)],
)
@pytest.mark.usefixtures("on_a_processor")
def test_vectors_are_those_of_the_folders_own_modules(
    family: str, pooling: str, dtype: str, closest: float, tmp_path: Path
) -> None:
    saved(tmp_path, family, pooling)
    stock = loaded(tmp_path / "model", "dtype=float32,forward=stock").encode(TEXTS, role="query")
    ours = loaded(tmp_path / "model", f"dtype={dtype},forward=packed")
    assert ours._double_buffer is not None  # type: ignore[attr-defined]
    found = ours.encode(TEXTS, role="query")
    assert (found.dtype, found.shape) == (np.float32, stock.shape)
    cosines = (found * stock).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(stock, axis=1)
    assert cosines.min() > closest
    if dtype == "float32":
        np.testing.assert_allclose(found, stock, atol=1e-5)


@pytest.mark.usefixtures("on_a_processor")
def test_undecided_texts_have_the_float32_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "mpnet")
    narrow: Any = loaded(tmp_path / "model", "dtype=bfloat16,forward=packed")
    exact = loaded(tmp_path / "model", "dtype=float32,forward=stock").encode(TEXTS, role="query")
    before = narrow.encode(TEXTS, role="query")
    spreads: list[torch.Tensor] = []
    ids = narrow.tokenize(TEXTS, role="query")
    with torch.inference_mode():
        narrow._double_buffer._forward(ids, spreads)
    largest = torch.stack([text.max() for text in torch.split(spreads[0], [len(text) for text in ids])])
    monkeypatch.setattr("harness_plugins.forward.outlier_tokens.BORDERLINE", (float(largest.median()), float("inf")))
    narrow._double_buffer._outlier_layer = OutlierLayer(0, 1.0)
    after = narrow.encode(TEXTS, role="query")
    again = (largest > largest.median()).numpy()
    assert 0 < again.sum() < len(TEXTS)
    np.testing.assert_allclose(after[again], exact[again], atol=1e-5)
    np.testing.assert_array_equal(after[~again], before[~again])


def test_the_next_batch_starts_before_the_last_one_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    diary: list[str] = []
    for name in ("start", "collect"):
        own = getattr(double_buffer.Slot, name)
        noted = lambda self, *given, own=own, name=name: (diary.append(name), own(self, *given))[1]  # noqa: E731
        monkeypatch.setattr(double_buffer.Slot, name, noted)
    ours = FlexAttentionModel(random_encoder("bert", 8), torch.float32, rows=ROWS, backend="eager")
    through = double_buffer.DoubleBuffer(ours, lambda features: features["token_embeddings"].sum(1), None)
    texts = [[number + 2] * 300 for number in range(8)]  # two fill the rows
    vectors, again = through(texts)
    assert diary == ["start", "start", *["collect", "start"] * 2, "collect", "collect"]
    assert again == []
    with torch.inference_mode():
        alone = torch.stack([UnpaddedModel(random_encoder("bert", 8), torch.float32)([text]).sum(0) for text in texts])
    np.testing.assert_allclose(vectors, alone.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("family", "what"), [("mpnet", "bias"), ("bert", "documents")])
@pytest.mark.usefixtures("on_a_processor")
def test_a_wrong_pass_is_not_loaded(family: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, family)
    broken(what, monkeypatch)
    with pytest.raises(UserError, match=r"for GPUs gave other hidden states .*forward=stock"):
        loaded(tmp_path / "model", "dtype=bfloat16,forward=packed")


@pytest.mark.usefixtures("on_a_processor")
def test_what_cannot_be_compiled_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any, examples: Any) -> Any:
        raise OSError("no compiler\nfor this device")

    saved(tmp_path, "bert")
    monkeypatch.setattr(double_buffer, "BACKEND", fails)
    with pytest.raises(UserError, match=r"for GPUs could not be compiled here \(.*no compiler for this.*forward=stock"):
        loaded(tmp_path / "model", "dtype=bfloat16,forward=packed")
