"""The unpadded pass for GPUs, run on a CPU: compared with transformers, and compiled once for all batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="encoders need sentence-transformers (the dense extra)")

import torch
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import create_block_mask

from harness_plugins.forward import double_buffer, flex_attention
from harness_plugins.forward.flex_attention import BLOCK, MAX_PADDING, BatchLayout, FlexAttentionModel
from harness_plugins.forward.unpadded import UnpaddedModel
from tests.plugins.forward.test_unpadded import FAMILIES, Module, tokens
from tests.plugins.forward.test_unpadded import encoder as random_encoder

ROWS = 640
"""The minimum for the longest text, of 514 positions."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def mixes(seed: int, count: int, longest: int = 60) -> list[list[list[int]]]:
    """Batches of texts with different lengths."""
    generator = np.random.default_rng(seed)
    sizes = (generator.integers(0, longest, generator.integers(1, 12)) for _ in range(count))
    return [[generator.integers(2, 90, length).tolist() for length in lengths] for lengths in sizes]


@pytest.mark.parametrize(("family", "seed"), zip(FAMILIES, (0, 1), strict=True))
def test_hidden_states_are_those_of_transformers(family: str, seed: int) -> None:
    model = random_encoder(family, seed)
    ours = FlexAttentionModel(model, torch.float32, rows=ROWS, backend=None)
    assert ours.rows == ROWS
    assert ours.distance(Module(model), tokens(seed)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_no_token_and_what_is_left_over(family: str) -> None:
    model = random_encoder(family, 3)
    texts: list[list[int]] = [[], [5], [], [7, 1, 8], [9]]  # 1 is the padding token
    with torch.inference_mode():
        spreads: list[torch.Tensor] = []
        plain: list[torch.Tensor] = []
        found = FlexAttentionModel(model, torch.float32, rows=ROWS, backend=None)(texts, spreads)
        kept = [text for text in texts if text]
        exact = UnpaddedModel(model, torch.float32)(kept, plain)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)
    assert len(spreads) == len(plain) == len(model.encoder.layer)
    for ours, theirs in zip(spreads, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def layout(ours: FlexAttentionModel, texts: list[list[int]]) -> BatchLayout:
    flat = np.zeros(BatchLayout.size(ours.rows), np.int32)
    ours.fill_layout(texts, flat)
    return BatchLayout.of(flat, ours.rows)


def dense(count: Any, at: Any) -> Any:
    found = np.zeros(at.shape, bool)
    for row, (number, columns) in enumerate(zip(count, at, strict=True)):
        found[row, columns[:number]] = True
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_the_one_that_torch_makes_of_every_pair(seed: int) -> None:
    ours = FlexAttentionModel(random_encoder("bert", 0), torch.float32, rows=ROWS, backend=None)
    generator = np.random.default_rng(seed)
    lengths = {0: [512], 1: [128, 128, 256, 128], 2: [], 3: [0, 60, 0]}.get(seed, [])
    while seed > 1 and sum(lengths) < 140 * seed:
        lengths.append(int(generator.integers(0, 60)))
    found = layout(ours, [[5] * length for length in lengths])
    texts = torch.from_numpy(found.texts)
    theirs = create_block_mask(lambda b, h, q, k: texts[q] == texts[k], None, None, ROWS, ROWS, "cpu", BLOCK)
    assert theirs.full_kv_num_blocks is not None
    assert theirs.full_kv_indices is not None
    np.testing.assert_array_equal(
        dense(found.some, found.some_at), dense(theirs.kv_num_blocks[0, 0], theirs.kv_indices[0, 0])
    )
    np.testing.assert_array_equal(
        dense(found.whole, found.whole_at), dense(theirs.full_kv_num_blocks[0, 0], theirs.full_kv_indices[0, 0])
    )


def test_rows_left_over_see_one_block_alone() -> None:
    ours = FlexAttentionModel(random_encoder("mpnet", 0), torch.float32, rows=ROWS, backend=None)
    found = layout(ours, [[5] * 100, [6] * 40])
    seen = dense(found.some, found.some_at) | dense(found.whole, found.whole_at)
    np.testing.assert_array_equal(seen[2:], np.eye(ROWS // BLOCK, dtype=bool)[2:])
    assert not (set(found.texts[140:]) & {0, 1})


def test_batches_fill_the_rows_and_bound_what_pooling_pads() -> None:
    ours = FlexAttentionModel(random_encoder("bert", 0), torch.float32, rows=ROWS, backend=None)
    generator = np.random.default_rng(0)
    for lengths in ([512, *[1] * 2000], generator.integers(0, 512, 300).tolist(), [0, 0], [512] * 3):
        parts = list(ours.batches(lengths))
        assert [row for part in parts for row in part] == list(range(len(lengths)))
        for part in parts:
            own = [lengths[row] for row in part]
            assert sum(own) <= ROWS
            assert max(own) * len(own) <= MAX_PADDING * ROWS
    assert len(list(ours.batches([64] * 40))) == 4


def test_distances_are_the_bias_of_every_pair() -> None:
    model = random_encoder("mpnet", 5)
    table = FlexAttentionModel(model, torch.float32, rows=ROWS, backend=None)._table
    assert table is not None
    reach = table.shape[1] // 2
    every = torch.arange(512)
    place = (every[None] - every[:, None]).clamp(-reach, reach) + reach
    with torch.inference_mode():
        exact = model.encoder.compute_position_bias(torch.empty(1, 512, 0))[0]
    assert torch.equal(table[:, place], exact)
    assert reach < 128  # all distances from the last bucket's on are one


def broken(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "bias":
        own = FlexAttentionModel._distances
        monkeypatch.setattr(FlexAttentionModel, "_distances", lambda self, bias_of: 0 * own(self, bias_of))
    elif what == "positions":
        monkeypatch.setattr(
            FlexAttentionModel,
            "_counted",
            lambda self, ids, first: (
                np.arange(len(ids), dtype=np.int32) % 70 + (0 if self.network.padding is None else 2)
            ),
        )
    else:
        own_lay = FlexAttentionModel.fill_layout

        def one_text(self: FlexAttentionModel, texts: Any, flat: Any) -> Any:
            found = own_lay(self, texts, flat)
            BatchLayout.of(flat, self.rows).texts[:] = 0
            return found

        monkeypatch.setattr(FlexAttentionModel, "fill_layout", one_text)


BREAKERS = [("mpnet", "bias"), *((family, what) for family in FAMILIES for what in ("positions", "documents"))]


@pytest.mark.parametrize(("family", "what"), BREAKERS)
def test_what_breaks_it_is_noticed(family: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(what, monkeypatch)
    model, texts = random_encoder(family, 4), [[5, 9, 20, 7, 33], [5, 60, 61, 7, 2], [8, 3]]
    assert FlexAttentionModel(model, torch.float32, rows=ROWS, backend=None).distance(Module(model), texts) > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_all_batches_and_layers_are_one_compilation(family: str) -> None:
    ours = FlexAttentionModel(random_encoder(family, 6), torch.float32, rows=ROWS, backend="eager")
    through = double_buffer.DoubleBuffer(ours, lambda features: features["token_embeddings"].sum(1), None)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for batch in mixes(6, 3):
            ours(batch)
            through(batch)
        ours(tokens(6))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_one_shape_share_what_is_compiled(family: str) -> None:
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for seed in (0, 1):
            model = random_encoder(family, seed)
            with torch.inference_mode(False):
                ours = FlexAttentionModel(model, torch.bfloat16, rows=ROWS, backend="eager")
            ours([[5, 6, 7]])
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_stays_near_float32(family: str) -> None:
    model, texts = random_encoder(family, 5), tokens(5)
    with torch.inference_mode():
        exact = UnpaddedModel(model, torch.float32)(texts)
        near = FlexAttentionModel(model, torch.bfloat16, rows=ROWS, backend=None)(texts)
    assert torch.cosine_similarity(near, exact).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_inductor_makes_of_it_is_as_right(family: str, dtype: torch.dtype) -> None:
    if not torch.cpu._is_avx2_supported():
        pytest.skip("inductor has FlexAttention for processors with AVX2 alone")
    model, texts = random_encoder(family, 7), tokens(7)
    ours = FlexAttentionModel(model, dtype, rows=ROWS)
    try:
        with torch.inference_mode():
            ours([[5]])
    except torch._inductor.exc.InvalidCxxCompiler:
        pytest.skip("inductor needs a C++ compiler")
    if dtype == torch.float32:
        assert ours.distance(Module(model), texts) < 1e-5
    else:
        with torch.inference_mode():
            exact = UnpaddedModel(model, torch.float32)(texts)
            assert torch.cosine_similarity(ours(texts), exact).mean() > 0.999


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu(family: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    model = random_encoder(family, 0)
    texts = tokens(0)
    with torch.inference_mode():
        exact = UnpaddedModel(model, torch.float32)(texts)
        found = FlexAttentionModel(model.to("cuda"), torch.bfloat16, rows=flex_attention.ROWS)(texts).cpu()
    assert torch.cosine_similarity(found, exact).mean() > 0.999
