"""Attention against float64, and the sizes of its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="encoders need torch (the dense extra)")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness_plugins.forward import attention
from harness_plugins.forward.attention import Attention, Window

WINDOWS = [Window(), Window(None, 0), Window(0, 0), Window(6, 0), Window(5, 5), Window(2, 9), Window(None, 3)]


def heads(texts: int, length: int, *counts: int) -> list[Any]:
    """Random query, key and value."""
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(texts, count, length, 8, generator=generator) for count in counts]


def brute_force(query: Any, key: Any, value: Any, window: Window, bias: Any = 0.0) -> Any:
    query, key, value = (part.double().numpy() for part in (query, key, value))
    shared = query.shape[1] // key.shape[1]
    key, value = np.repeat(key, shared, 1), np.repeat(value, shared, 1)
    scores = query @ key.swapaxes(2, 3) * 0.3 + bias
    places = np.arange(query.shape[2])
    ahead = places[None] - places[:, None]
    back, front = (10**6 if limit is None else limit for limit in window)
    scores = np.where((ahead >= -back) & (ahead <= front), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("rows", [128, 5])
@pytest.mark.parametrize("aligned", [False, True])
def test_attention_is_that_of_float64(
    dtype: Any, window: Window, rows: int, aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LOCAL_ROWS", rows)
    monkeypatch.setattr(attention, "ROWS", rows)
    monkeypatch.setattr(attention, "BUFFER", 1 << 22 if rows == 128 else 600)
    monkeypatch.setattr(attention, "LONG", 20)
    for texts, length, queries, keys in ((3, 1, 2, 2), (2, 13, 4, 2), (1, 33, 4, 1), (1, 45, 4, 2)):
        query, key, value = heads(texts, length, queries, keys, keys)
        out = torch.empty(texts, queries, length, 8, dtype=dtype)
        Attention(0.3, window, aligned)(query, key, value, out)
        exact = brute_force(*(part.to(dtype) for part in (query, key, value)), window)
        np.testing.assert_allclose(out.double().numpy(), exact, atol=2e-6 if dtype == torch.float32 else 0.05)


def test_keys_are_filled_up_where_a_row_ends_with_many_numbers() -> None:
    made = [
        Attention(1.0, aligned=True)._filled(torch.ones(1, 2, length, 4), torch.bfloat16) for length in range(1, 99)
    ]
    assert [part.shape[2] for part in made[:41]] == [*range(1, 9), *[32] * 24, *range(33, 41), 64]
    assert all(part[0, 1, :, 0].sum() == length for length, part in enumerate(made, 1))
    assert Attention(1.0)._filled(torch.ones(1, 2, 20, 4), torch.bfloat16).shape[2] == 20


def test_blocks_have_their_part_of_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BUFFER", 100)
    monkeypatch.setattr(attention, "ROWS", 9)
    query, key, value = heads(1, 100, 2, 2, 2)
    bias = torch.randn(1, 2, 100, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = torch.empty_like(query, dtype=torch.bfloat16)
    Attention(0.3)(query, key, value, out, bias)
    exact = brute_force(*(part.bfloat16() for part in (query, key, value)), Window(), bias.double().numpy())
    np.testing.assert_allclose(out.double().numpy(), exact, atol=0.05)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gives, and the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.names = 0, set[str]()

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        found = function(*given, **(named or {}))
        self.names.add(function._schema.name)
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.size = max(self.size, one.untyped_storage().nbytes() // one.element_size())
        return found


def largest(length: int, dtype: Any, window: Window) -> Largest:
    query, key, value = heads(1, length, 4, 2, 2)
    out = torch.empty_like(query, dtype=dtype)
    with torch.no_grad(), Largest() as seen:
        Attention(0.3, window)(query, key, value, out)
    return seen


@pytest.mark.parametrize("window", [Window(), Window(None, 0), Window(64, 64), Window(127, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_in_proportion_to_the_length(dtype: Any, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BUFFER", 1 << 15)
    monkeypatch.setattr(attention, "ROWS", 16)
    short, long = (largest(length, dtype, window) for length in (512, 2048))
    assert long.size <= 4 * short.size
    assert long.size <= max(attention.BUFFER, 4 * 2048 * 8)
    if dtype == torch.float32:  # whose kernel for CPUs has no buffer of all scores
        assert not any("math" in name for name in long.names)
        assert any("flash" in name for name in long.names)


@pytest.mark.parametrize("window", WINDOWS)
def test_pairs_are_those_of_every_query_and_key(window: Window) -> None:
    lengths = [1, 2, 7, 30]
    back, front = (10**6 if limit is None else limit for limit in window)
    expected = sum(-back <= key - query <= front for n in lengths for query in range(n) for key in range(n))
    assert window.pairs(np.array(lengths, np.float64)) == expected
