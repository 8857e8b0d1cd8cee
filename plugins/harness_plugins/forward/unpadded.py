"""Unpadded forward pass of encoders: concatenated texts and fused attention.

Everything but attention works on one matrix of all tokens. Attention runs over texts of equal length, so no padding is
masked, and MPNet's relative position bias, a function of the distance of two tokens, is a [heads, length, length] slice
of a cached table. transformers pads, masks and expands the bias for every text.

`harness_plugins.forward.architectures` describes the families, `harness_plugins.forward.attention` attends. Matrix
products use the chosen dtype; norms, rotary positions, softmax and the residual stream use float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness_plugins.forward.architectures import Layer, LinearWeights, Norm, Norms, network
from harness_plugins.forward.attention import Attention
from harness_plugins.forward.products import FeedForward, GatedFeedForward, Product

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Part = TypeVar("Part", LinearWeights, Norm | None)
TURNS = 512
"""Rotations are computed for multiples of this many positions."""


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """A layer with its weights cast and fused, without the feed-forward block."""

    attention: Product
    """Fused query, key and value; pairs of dimensions that are rotated together are adjacent in the first two."""
    mixed: Product
    attend: Attention
    attended: Norms
    fed: Norms
    norms: tuple[Norm | None, Norm | None]
    """Of the heads of queries and of keys."""
    rotation: str


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
            feeds: Replacements of the layers' feed-forward blocks.
        """
        self.network, self.dtype = network(model), dtype
        self.device: torch.device = self.network.words.weight.device
        self._layers = [self._layer(layer) for layer in self.network.layers]
        self.feeds: list[Callable[[Tensor], Tensor]] = list(feeds or map(self._feed, self.network.layers))
        self._bias: Tensor | None = None
        self._turns: dict[str, Tensor] = {}

    def _layer(self, layer: Layer) -> FusedLayer:
        import torch

        three = [*map(self._adjacent, (layer.queries, layer.keys)), layer.values]
        biases = [part.bias for part in three if part.bias is not None]
        fused = LinearWeights(torch.cat([part.weight for part in three]), torch.cat(biases) if biases else None)
        return FusedLayer(
            attention=self._product(fused),
            mixed=self._product(layer.mixed),
            attend=Attention(self.network.scale, layer.window, aligned=self.network.rotation is not None),
            attended=layer.attended,
            fed=layer.fed,
            norms=(self._adjacent(layer.query_norm), self._adjacent(layer.key_norm)),
            rotation=layer.rotation,
        )

    def _adjacent(self, part: Part) -> Part:
        """Reorder the dimensions of every head so that those that are rotated together are adjacent."""
        if part is None or self.network.rotation is None:
            return part
        half = self.network.size // 2
        weight, bias = (
            one if one is None else one.view(-1, 2, half, *one.shape[1:]).transpose(1, 2).reshape(one.shape)
            for one in (part.weight, part.bias)
        )
        assert weight is not None
        return part._replace(weight=weight, bias=bias)

    def _feed(self, layer: Layer) -> FeedForward | GatedFeedForward:
        activated = layer.widened if layer.gate is None else layer.gate
        first = Product(*activated, self.dtype, activation=self.network.activation, reorder=self._reorder)
        narrowed = self._product(layer.narrowed)
        if layer.gate is None:
            return FeedForward(first, narrowed)
        return GatedFeedForward(first, self._product(layer.widened), narrowed)

    def _product(self, part: LinearWeights) -> Product:
        return Product(*part, self.dtype, reorder=self._reorder)

    def __call__(self, tokens: Sequence[Sequence[int]], spreads: list[Tensor] | None = None) -> Tensor:
        """Encode texts.

        Args:
            tokens: Token ids per text; texts of equal length should be adjacent.
            spreads: Receives, per layer, the standard deviation of every token's state before the last LayerNorm, where
                the layer ends with one.

        Returns:
            float32 [all tokens, hidden], in the order given.
        """
        lengths = [len(text) for text in tokens]
        runs = [(length, len(list(run))) for length, run in groupby(lengths) if length]
        state = self._embedded(tokens)
        for layer, feed in zip(self._layers, self.feeds, strict=True):
            given = state if layer.attended.before is None else layer.attended.before(state)
            state, _ = _join(layer.attended, state, layer.mixed(self._attended(layer, given, runs)))
            given = state if layer.fed.before is None else layer.fed.before(state)
            state, spread = _join(layer.fed, state, feed(given))
            if spreads is not None and spread is not None:
                spreads.append(spread)
        return state if self.network.final is None else self.network.final(state)

    def distance(self, module: Any, tokens: Sequence[Sequence[int]]) -> float:
        """Largest difference from the hidden states of sentence-transformers' module, text by text.

        Absolute, or in multiples of the root mean square of a text's states where that is above 1.
        """
        import torch

        found = 0.0
        with torch.inference_mode():
            ours = torch.split(self(tokens), [len(text) for text in tokens])
            for text, own in ((text, own) for text, own in zip(tokens, ours, strict=True) if text):
                ids = torch.tensor([text], device=self.device)
                theirs = module({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["token_embeddings"]
                largest = (theirs[0] - own).abs().max() / theirs.square().mean().sqrt().clamp(min=1)
                found = max(found, float(largest))
        return found

    def _embedded(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        import torch

        ids = np.concatenate([np.asarray(text, np.int64) for text in tokens])
        places = torch.from_numpy(np.concatenate([self._positions(text) for text in tokens])).to(self.device)
        return self._embed(torch.from_numpy(ids).to(self.device), places)

    def _embed(self, ids: Tensor, places: Tensor) -> Tensor:
        """Token ids and position ids -> float32 states before the first layer."""
        own = self.network
        state: Tensor = own.words(ids)
        if own.added is not None:
            state = state + own.added
        if own.positions is not None:
            state = state + own.positions(places)
        return state if own.norm is None else own.norm(state)

    def _positions(self, text: Sequence[int]) -> NDArray[np.int64]:
        """Position ids, as `Network.padding` says."""
        padding = self.network.padding
        if padding is None:
            return np.arange(len(text))
        counted = (np.asarray(text) != padding).astype(np.int64)
        return np.asarray(np.cumsum(counted) * counted + padding)

    def _turn(self, name: str, length: int) -> Tensor | None:
        """complex64 [length, size / 2], the rotation of every position; None where the network has none."""
        if self.network.rotation is None:
            return None
        if name not in self._turns or len(self._turns[name]) < length:
            self._turns[name] = self.network.rotation(name, -(-length // TURNS) * TURNS)
        return self._turns[name][:length]

    def _attended(self, layer: FusedLayer, state: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Attention of all texts: [tokens, hidden] -> [tokens, heads x size] of the products' dtype."""
        import torch

        own, start = self.network, 0
        given = layer.attention(state).view(len(state), -1, own.size)
        parts = torch.split(given, [own.heads, own.key_heads, own.key_heads], 1)
        found = given.new_empty(len(given), own.heads, own.size)
        for length, count in runs:
            stop = start + length * count
            self._attend(layer, [part[start:stop] for part in parts], found[start:stop], length)
            start = stop
        return found.flatten(1)

    def _attend(self, layer: FusedLayer, given: Sequence[Tensor], found: Tensor, length: int) -> None:
        """Attention of texts of one length: query, key and value [texts x length, heads, size] -> the same."""
        query, key, value, out = (part.view(-1, length, *part.shape[1:]).transpose(1, 2) for part in (*given, found))
        turn = self._turn(layer.rotation, length)
        query, key = (_turned(part, norm, turn) for part, norm in zip((query, key), layer.norms, strict=True))
        layer.attend(query, key, value, out, None if self.network.bias is None else self._bias_of(length))

    def _bias_of(self, length: int) -> Tensor:
        """The bias of attention [1, heads, length, length], cached for the largest length so far."""
        if self._bias is None or self._bias.shape[-1] < length:
            assert self.network.bias is not None
            self._bias = self.network.bias(length).to(self.dtype)
        bias: Tensor = self._bias[:, :, :length, :length]
        return bias


def add_and_normalise(
    state: Tensor, news: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """LayerNorm of a sum in float32, and each row's standard deviation."""
    import torch

    normed, _, inverse = torch.native_layer_norm(state + news.float(), [state.shape[1]], weight, bias, eps)
    return normed, inverse[:, 0].reciprocal()


def _turned(part: Tensor, norm: Norm | None, turn: Tensor | None) -> Tensor:
    """Normalise and rotate heads [texts, heads, length, size], in float32."""
    import torch

    if norm is None and turn is None:
        return part
    heads = part.contiguous()  # before the conversion: together they take twice as long
    state = heads.float() if norm is None else norm(heads.float())
    if turn is not None:
        torch.view_as_complex(state.view(*state.shape[:3], -1, 2)).mul_(turn)
    return state.to(part.dtype)


def _join(norms: Norms, state: Tensor, news: Tensor) -> tuple[Tensor, Tensor | None]:
    """Add a branch to the states; the standard deviation of each sum comes with a norm after it."""
    news = news if norms.inside is None else norms.inside(news.float())
    if norms.after is None:
        return state + news, None
    return add_and_normalise(state, news, norms.after.weight, norms.after.bias, norms.after.eps)
