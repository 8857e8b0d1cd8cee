"""Texts with a borderline outlier token, and only those, are encoded again in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness_plugins.forward.outlier_tokens import BORDERLINE, OutlierLayer, find_outlier_layer
from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers.checkpoint import OPTIONS, load
from tests.plugins.forward.test_unpadded import encoder
from tests.tiny import DIM, transformer


def test_undecided_is_between_the_median_and_an_outlier_in_that_layer() -> None:
    spread = torch.tensor([0.5, 25.0, 0.6, 0.5, 4.0, 0.5])
    spreads = [torch.full((6,), 4.0), spread]
    assert OutlierLayer(1, 0.5).undecided(spreads, [2, 1, 3]) == [False, False, True]
    assert OutlierLayer(1, 0.5).undecided([*spreads[:1], spread[:3]], [2, 1]) == []
    low, high = BORDERLINE
    edges = torch.tensor([0.99 * low, 1.01 * low, 0.99 * high, 1.01 * high])
    assert OutlierLayer(0, 1.0).undecided([edges], [1, 1, 1, 1]) == [False, True, True, False]


def test_the_layer_is_the_first_one_with_an_outlier() -> None:
    model = encoder("mpnet", 0)
    texts = [list(range(5, 40)), [7, 8, 9]]
    assert find_outlier_layer(UnpaddedModel(model, torch.float32), texts) is None
    made = model.encoder.layer[1].output.dense.bias
    kept = made.detach().clone()
    spreads: list[torch.Tensor] = []
    with torch.inference_mode():
        UnpaddedModel(model, torch.float32)(texts, spreads)
    # Makes the token with a certain state in layer 1 an outlier: the first product's row points in its direction.
    with torch.no_grad():
        layer, seen = model.encoder.layer[1], []
        layer.intermediate.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        model(input_ids=torch.tensor(texts[:1]))
        states = seen[0][0]
        layer.intermediate.dense.weight[0] = 20 * states[3] / states[3].norm()
        gap = (states @ layer.intermediate.dense.weight[0]).sort(descending=True).values
        layer.intermediate.dense.bias[0] = -(gap[0] + gap[1]) / 2
        layer.output.dense.weight[:, 0] = torch.linspace(-2000, 2000, len(kept))
        found = find_outlier_layer(UnpaddedModel(model, torch.float32), texts)
    assert found is not None
    assert found.layer == 1
    assert found.median == pytest.approx(float(spreads[1].median()), rel=0.5)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_undecided_texts_have_the_float32_vectors(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [transformer(tmp_path / "base", family), Pooling(DIM, "mean")]
    SentenceTransformer(modules=modules).save(str(tmp_path / "model"))
    options = {name: option.default for name, option in OPTIONS.items()} | {"path": str(tmp_path / "model")}
    options |= {"device": "cpu", "forward": "packed"}
    narrow, plain = (load({**options, "dtype": dtype}) for dtype in ("bfloat16", "float32"))
    texts = ["", "moon", "the red planet", "heart pumps blood"]
    before = narrow.encode(texts, role="query")
    exact = plain.encode(texts, role="query")
    monkeypatch.setattr(narrow, "_outlier_layer", OutlierLayer(0, 1.0))
    monkeypatch.setattr(OutlierLayer, "undecided", lambda *_: [True, False, True, False])
    after = narrow.encode(texts, role="query")
    np.testing.assert_allclose(after[[0, 2]], exact[[0, 2]], atol=1e-6)
    np.testing.assert_array_equal(after[[1, 3]], before[[1, 3]])
    assert (before != exact).any(axis=1).all()
    monkeypatch.setattr(plain, "_outlier_layer", OutlierLayer(0, 1.0))
    monkeypatch.setattr(OutlierLayer, "undecided", lambda *_: pytest.fail("float32 is not encoded again"))
    np.testing.assert_array_equal(plain.encode(texts, role="query"), exact)
