"""Unpadded forward pass of BERT and MPNet encoders: concatenated texts and fused attention.

Everything but attention works on one matrix of all tokens. Attention runs over texts of equal length in torch's fused
kernel, so no mask is needed, and MPNet's relative position bias, a function of the distance of two tokens, is a
[heads, length, length] slice of a cached table. transformers pads, masks and expands the bias for every text.

Matrix products use the chosen dtype; LayerNorm, softmax and the residual stream use float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.storage.safe_load import read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import LayerNorm

FAMILIES = {"bert": "BertModel", "mpnet": "MPNetModel"}
"""model_type of config.json -> transformers' class that `UnpaddedModel` reimplements."""
_EXPECTED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
}
"""Required values of config.json, where they are stated."""
LONG = 96
"""Texts of at least this many tokens are attended one by one."""


def applies(folder: Path) -> bool:
    """Whether this module supports the transformer in a folder. Reads one file."""
    try:
        plain = repeats(read_json(folder / "config.json"))
        return plain and not (folder / "adapter_config.json").exists()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def repeats(config: Mapping[str, Any]) -> bool:
    """Whether this module supports a transformer with this config.json."""
    return config["model_type"] in FAMILIES and all(config.get(key, value) == value for key, value in _EXPECTED.items())


class Product:
    """Linear layer x W' + b with an optional GELU; weights are cast, and reordered for oneDNN, once."""

    def __init__(
        self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, gelu: bool = False, reorder: bool = True
    ) -> None:
        import torch

        self.weight, self.bias, self._gelu = weight.detach().to(dtype), bias.detach().to(dtype), gelu
        self._dtype = dtype
        self._reordered = reorder and dtype == torch.bfloat16 and _reorders_weights(weight.device.type)
        if self._reordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, ONEDNN_ROWS)

    def __call__(self, given: Tensor) -> Tensor:
        """[n, in] of any dtype -> [n, out] of the layer's dtype."""
        import torch
        from torch.nn.functional import gelu, linear

        given = given.to(self._dtype)
        if self._reordered:
            after, how = ("gelu", "none") if self._gelu else ("none", "")
            found: Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, after, [], how)
            return found
        found = linear(given, self.weight, self.bias)
        return gelu(found) if self._gelu else found


ONEDNN_ROWS = 2048
"""Batch rows that oneDNN optimises the weight layout for; other sizes are correct and nearly as fast."""


def _reorders_weights(device: str) -> bool:
    """Whether torch has the (private) operations and the processor supports bfloat16."""
    import torch

    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    known = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return device == "cpu" and known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Feed-forward block of a layer: [n, hidden] -> [n, hidden]."""

    widened: Product
    narrowed: Product

    def __call__(self, state: Tensor) -> Tensor:
        """Any dtype in, the products' dtype out."""
        return self.narrowed(self.widened(state))


@dataclass(frozen=True, slots=True)
class _Layer:
    attention: Product
    """Fused query, key and value: weight [3 hidden, hidden], bias."""
    mixed: Product
    after_attention: LayerNorm
    after: LayerNorm


class UnpaddedModel:
    """Computes the last hidden states of a transformers encoder; shares all weights except fused ones."""

    _reorder = True
    """Whether weights may be reordered for oneDNN."""

    def __init__(
        self, model: Any, dtype: torch.dtype, feeds: Sequence[Callable[[Tensor], Tensor]] | None = None
    ) -> None:
        """Fuse and cast the weights.

        Args:
            model: An encoder of one of the `FAMILIES`, in eval mode.
            dtype: Of the matrix products.
            feeds: Replacements of the layers' `FeedForward`.
        """
        self._embeddings, self.dtype = model.embeddings, dtype
        self._bert = model.config.model_type == "bert"
        self._heads = int(model.config.num_attention_heads)
        self._layers = [self._layer(layer) for layer in model.encoder.layer]
        self.feeds: list[Callable[[Tensor], Tensor]] = list(feeds or map(self._feed, model.encoder.layer))
        self._encoder = model.encoder
        self._bias: Tensor | None = None

    def _layer(self, layer: Any) -> _Layer:
        own = layer.attention.self if self._bert else layer.attention.attn
        three = (own.query, own.key, own.value) if self._bert else (own.q, own.k, own.v)
        mixed, norm = (
            (layer.attention.output.dense, layer.attention.output.LayerNorm)
            if self._bert
            else (own.o, layer.attention.LayerNorm)
        )
        import torch

        weight, bias = (torch.cat([getattr(one, part).detach() for one in three]) for part in ("weight", "bias"))
        return _Layer(
            self._product(weight, bias), self._product(mixed.weight, mixed.bias), norm, layer.output.LayerNorm
        )

    def _feed(self, layer: Any) -> FeedForward:
        wide, narrow = layer.intermediate.dense, layer.output.dense
        return FeedForward(self._product(wide.weight, wide.bias, gelu=True), self._product(narrow.weight, narrow.bias))

    def _product(self, weight: Tensor, bias: Tensor, *, gelu: bool = False) -> Product:
        return Product(weight, bias, self.dtype, gelu=gelu, reorder=self._reorder)

    def __call__(self, tokens: Sequence[Sequence[int]], spreads: list[Tensor] | None = None) -> Tensor:
        """Encode texts.

        Args:
            tokens: Token ids per text; texts of equal length should be adjacent.
            spreads: Receives, per layer, the standard deviation of every token's state before the last LayerNorm.

        Returns:
            float32 [all tokens, hidden], in the order given.
        """
        import torch

        lengths = [len(text) for text in tokens]
        runs = [(length, len(list(run))) for length, run in groupby(lengths)]
        state = self._embedded(tokens)
        found = torch.empty_like(state, dtype=self.dtype)
        for layer, feed in zip(self._layers, self.feeds, strict=True):
            given, start = layer.attention(state), 0
            for length, count in runs:
                stop = start + length * count
                self._attend(given[start:stop], found[start:stop], length)
                start = stop
            state, _ = add_and_normalise(state, layer.mixed(found), *_parameters(layer.after_attention))
            state, spread = add_and_normalise(state, feed(state), *_parameters(layer.after))
            if spreads is not None:
                spreads.append(spread)
        return state

    def distance(self, module: Any, tokens: Sequence[Sequence[int]]) -> float:
        """Largest absolute difference from the hidden states of sentence-transformers' module, text by text."""
        import torch

        device, found = self._embeddings.word_embeddings.weight.device, 0.0
        with torch.inference_mode():
            ours = torch.split(self(tokens), [len(text) for text in tokens])
            for text, own in zip(tokens, ours, strict=True):
                ids = torch.tensor([text], device=device)
                theirs = module({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["token_embeddings"]
                found = max(found, float((theirs[0] - own).abs().max()))
        return found

    def _embedded(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        import torch

        parts, device = self._embeddings, self._embeddings.word_embeddings.weight.device
        ids = np.concatenate([np.asarray(text, np.int64) for text in tokens])
        places = torch.from_numpy(np.concatenate([self._positions(text) for text in tokens])).to(device)
        state = parts.word_embeddings(torch.from_numpy(ids).to(device))
        if self._bert:
            state = state + parts.token_type_embeddings.weight[0]
        embedded: Tensor = parts.LayerNorm(state + parts.position_embeddings(places))
        return embedded

    def _positions(self, text: Sequence[int]) -> NDArray[np.int64]:
        """Position ids: from 0 in BERT, from padding + 1 in MPNet, where padding tokens are not counted."""
        if self._bert:
            return np.arange(len(text))
        padding = self._embeddings.padding_idx
        counted = (np.asarray(text) != padding).astype(np.int64)
        return np.asarray(np.cumsum(counted) * counted + padding)

    def _attend(self, given: Tensor, found: Tensor, length: int) -> None:
        """Attention of texts of one length: [texts x length, 3 hidden] -> [texts x length, hidden]."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        heads = self._heads
        size = found.shape[1] // heads
        query, key, value = given.view(-1, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        out = found.view(-1, length, heads, size)
        if self.dtype == torch.float32:
            bias = None if self._bert else self._bias_of(length).expand(len(query), -1, -1, -1)
            out.copy_(scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2))
            return
        # On CPUs the fused kernel has half the speed of these bfloat16 products. Long texts are processed one by one
        # so that intermediate results stay in the cache.
        together = 1 if length >= LONG else len(query)
        for start in range(0, len(query), together):
            part = slice(start, start + together)
            out[part].copy_(self._weighted(query[part], key[part], value[part]).transpose(1, 2))

    def _weighted(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention output from query, key and value, all [texts, heads, length, size]."""
        import torch

        count, length, size = len(query), *query.shape[2:]
        flat = [part.reshape(-1, length, size) for part in (query, key, value)]
        if self._bert:
            scores = torch.baddbmm(flat[0].new_empty(1), flat[0], flat[1].mT, beta=0, alpha=size**-0.5)
        else:
            bias = self._bias_of(length).expand(count, -1, -1, -1).reshape(-1, length, length)
            scores = torch.baddbmm(bias, flat[0], flat[1].mT, alpha=size**-0.5)
        return torch.bmm(torch.softmax(scores, -1, out=scores), flat[2]).view(query.shape)

    def _bias_of(self, length: int) -> Tensor:
        """MPNet's relative position bias [1, heads, length, length], cached for the largest length so far."""
        import torch

        if self._bias is None or self._bias.shape[-1] < length:
            room = torch.empty(1, length, 0, device=self._embeddings.word_embeddings.weight.device)
            self._bias = self._encoder.compute_position_bias(room).to(self.dtype)
        bias: Tensor = self._bias[:, :, :length, :length]
        return bias


def add_and_normalise(state: Tensor, news: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """LayerNorm of a sum in float32, and each row's standard deviation."""
    import torch

    normed, _, inverse = torch.native_layer_norm(state + news.float(), [state.shape[1]], weight, bias, eps)
    return normed, inverse[:, 0].reciprocal()


def _parameters(norm: LayerNorm) -> tuple[Tensor, Tensor, float]:
    return norm.weight, norm.bias, norm.eps
