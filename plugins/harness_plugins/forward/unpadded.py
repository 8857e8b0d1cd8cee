"""Unpadded forward pass of encoders: concatenated texts and fused attention.

Everything but attention works on one matrix of all tokens. Attention runs over texts of equal length in torch's fused
kernel, so no mask is needed, and MPNet's relative position bias, a function of the distance of two tokens, is a
[heads, length, length] slice of a cached table. transformers pads, masks and expands the bias for every text.

`harness_plugins.forward.architectures` describes the families. Matrix products use the chosen dtype; LayerNorm,
softmax and the residual stream use float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness_plugins.forward.architectures import Affine, Layer, Norm, network
from harness_plugins.forward.products import FeedForward, Product

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LONG = 96
"""Texts of at least this many tokens are attended one by one."""


@dataclass(frozen=True, slots=True)
class _Layer:
    attention: Product
    """Fused query, key and value: weight [3 hidden, hidden], bias."""
    mixed: Product
    after_attention: Norm
    after: Norm


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
        self.network, self.dtype = network(model), dtype
        self.device: torch.device = self.network.words.weight.device
        self._layers = [self._layer(layer) for layer in self.network.layers]
        self.feeds: list[Callable[[Tensor], Tensor]] = list(feeds or map(self._feed, self.network.layers))
        self._bias: Tensor | None = None

    def _layer(self, layer: Layer) -> _Layer:
        import torch

        three = (layer.queries, layer.keys, layer.values)
        fused = Affine(*(torch.cat(parts) for parts in zip(*three, strict=True)))
        return _Layer(self._product(fused), self._product(layer.mixed), layer.after_attention, layer.after)

    def _feed(self, layer: Layer) -> FeedForward:
        widened = Product(*layer.widened, self.dtype, activation=self.network.activation, reorder=self._reorder)
        return FeedForward(widened, self._product(layer.narrowed))

    def _product(self, part: Affine) -> Product:
        return Product(*part, self.dtype, reorder=self._reorder)

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
            state, _ = add_and_normalise(state, layer.mixed(found), *layer.after_attention)
            state, spread = add_and_normalise(state, feed(state), *layer.after)
            if spreads is not None:
                spreads.append(spread)
        return state

    def distance(self, module: Any, tokens: Sequence[Sequence[int]]) -> float:
        """Largest absolute difference from the hidden states of sentence-transformers' module, text by text."""
        import torch

        found = 0.0
        with torch.inference_mode():
            ours = torch.split(self(tokens), [len(text) for text in tokens])
            for text, own in zip(tokens, ours, strict=True):
                ids = torch.tensor([text], device=self.device)
                theirs = module({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["token_embeddings"]
                found = max(found, float((theirs[0] - own).abs().max()))
        return found

    def _embedded(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        import torch

        ids = np.concatenate([np.asarray(text, np.int64) for text in tokens])
        places = torch.from_numpy(np.concatenate([self._positions(text) for text in tokens])).to(self.device)
        return self._embed(torch.from_numpy(ids).to(self.device), places)

    def _embed(self, ids: Tensor, places: Tensor) -> Tensor:
        """Token ids and position ids -> states before the first layer."""
        import torch

        own = self.network
        state = own.words(ids)
        if own.added is not None:
            state = state + own.added
        weight, bias, eps = own.norm
        return torch.layer_norm(state + own.positions(places), [state.shape[1]], weight, bias, eps)

    def _positions(self, text: Sequence[int]) -> NDArray[np.int64]:
        """Position ids, as `Network.padding` says."""
        padding = self.network.padding
        if padding is None:
            return np.arange(len(text))
        counted = (np.asarray(text) != padding).astype(np.int64)
        return np.asarray(np.cumsum(counted) * counted + padding)

    def _attend(self, given: Tensor, found: Tensor, length: int) -> None:
        """Attention of texts of one length: [texts x length, 3 hidden] -> [texts x length, hidden]."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        heads = self.network.heads
        size = found.shape[1] // heads
        query, key, value = given.view(-1, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        out = found.view(-1, length, heads, size)
        if self.dtype == torch.float32:
            bias = None if self.network.bias is None else self._bias_of(length).expand(len(query), -1, -1, -1)
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
        if self.network.bias is None:
            scores = torch.baddbmm(flat[0].new_empty(1), flat[0], flat[1].mT, beta=0, alpha=size**-0.5)
        else:
            bias = self._bias_of(length).expand(count, -1, -1, -1).reshape(-1, length, length)
            scores = torch.baddbmm(bias, flat[0], flat[1].mT, alpha=size**-0.5)
        return torch.bmm(torch.softmax(scores, -1, out=scores), flat[2]).view(query.shape)

    def _bias_of(self, length: int) -> Tensor:
        """The bias of attention [1, heads, length, length], cached for the largest length so far."""
        if self._bias is None or self._bias.shape[-1] < length:
            assert self.network.bias is not None
            self._bias = self.network.bias(length).to(self.dtype)
        bias: Tensor = self._bias[:, :, :length, :length]
        return bias


def add_and_normalise(state: Tensor, news: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """LayerNorm of a sum in float32, and each row's standard deviation."""
    import torch

    normed, _, inverse = torch.native_layer_norm(state + news.float(), [state.shape[1]], weight, bias, eps)
    return normed, inverse[:, 0].reciprocal()
