"""Unpadded forward pass of BERT and MPNet encoders for training, with exact gradients and dropout.

Everything but attention works on one matrix of a batch's tokens, so padding costs nothing there. Attention groups texts
of similar length, padded to the longest and masked. MPNet's gradient is exact because its relative position bias is one
[heads, length, length] table shared by all texts, and autograd sums over them.

It replaces the encoder's ``forward`` with padded inputs and outputs, so pooling, losses, cached gradients, saving and
distributed training are unaffected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness_plugins.forward.architectures import family_of
from harness_training.model.attention import as_added, attend

CLASSES = ("BertModel", "MPNetModel")
"""transformers' encoders that are supported."""
WASTE = 1.25
"""Largest ratio of padded tokens to tokens in a call of attention."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts in one call of attention; their tokens are rows ``start`` to ``stop`` of the matrix."""

    start: int
    stop: int
    length: int
    """Length of the longest text."""
    places: Tensor
    """[stop - start], index of each token in the flattened padded texts."""
    mask: Tensor | None
    """[texts, 1, 1, length], True where there is a token; None without padding."""


class _UnpaddedForward:
    """Mixin before an encoder's class; unsupported inputs (left padding, hidden states...) use the original."""

    config: Any
    embeddings: Any
    encoder: Any

    @property
    def _bert(self) -> bool:
        return bool(self.config.model_type == "bert")

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **others: Any) -> Any:
        """Like the original: last hidden states [texts, length, hidden], 0 for padding."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if not self._supported(input_ids, attention_mask, others):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **others)  # type: ignore[misc]
        present = attention_mask.bool()
        lengths = present.sum(1)
        order = torch.argsort(lengths, descending=True, stable=True)
        rows = torch.arange(present.numel(), device=present.device).view(present.shape)[order][present[order]]
        state = self._embedded(input_ids, rows)
        bias = self._bias(present.shape[1], state)
        groups = list(self._groups(lengths[order].tolist(), state.device))
        for layer in self.encoder.layer:
            state = self._layer(layer, state, groups, bias)
        hidden = state.new_zeros(present.numel(), state.shape[1]).index_copy(0, rows, state)
        return BaseModelOutputWithPooling(last_hidden_state=hidden.view(*present.shape, -1))

    def _supported(self, ids: Any, mask: Any, others: dict[str, Any]) -> bool:
        """Whether this is a plain batch with right padding and at least one token per text."""
        types = others.get("token_type_ids")
        asked = [
            v for name, v in others.items() if name not in ("token_type_ids", "return_dict") and v not in (None, False)
        ]
        if ids is None or mask is None or mask.ndim != 2 or asked or (types is not None and bool(types.any())):
            return False
        return bool((mask[:, 0] == 1).all() and (mask[:, 1:] <= mask[:, :-1]).all())

    def _embedded(self, ids: Tensor, rows: Tensor) -> Tensor:
        parts = self.embeddings
        if self._bert:
            places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        else:  # counted from padding + 1, without padding tokens
            counted = (ids != parts.padding_idx).long()
            places = counted.cumsum(1) * counted + parts.padding_idx
        flat = {"input_ids": ids.reshape(-1)[rows][None], "position_ids": places.reshape(-1)[rows][None]}
        embedded: Tensor = parts(**flat)[0]
        return embedded

    def _bias(self, length: int, state: Tensor) -> Tensor | None:
        if self._bert:
            return None
        bias: Tensor = self.encoder.compute_position_bias(state.new_empty(1, length, 0))
        return bias

    def _groups(self, lengths: list[int], device: torch.device) -> Iterator[_Group]:
        """Group texts by length; ``lengths`` are in descending order."""
        first = start = 0
        while first < len(lengths):
            longest, last, tokens = lengths[first], first, 0
            while last < len(lengths) and longest * (last + 1 - first) <= WASTE * (tokens + lengths[last]):
                tokens, last = tokens + lengths[last], last + 1
            mask = torch.arange(longest) < torch.tensor(lengths[first:last])[:, None]
            places = mask.reshape(-1).nonzero()[:, 0].to(device)
            padded = mask[:, None, None].to(device) if not mask.all() else None
            yield _Group(start, start + tokens, longest, places, padded)
            first, start = last, start + tokens

    def _layer(self, layer: Any, state: Tensor, groups: list[_Group], bias: Tensor | None) -> Tensor:
        attention = layer.attention
        own = attention.self if self._bert else attention.attn
        three = (own.query, own.key, own.value) if self._bert else (own.q, own.k, own.v)
        given = [one(state) for one in three]
        drop = own.dropout.p if own.training else 0.0
        found = torch.cat([self._attended([part[g.start : g.stop] for part in given], g, bias, drop) for g in groups])
        if self._bert:
            attended = attention.output(found, state)
        else:
            attended = attention.LayerNorm(attention.dropout(own.o(found)) + state)
        out: Tensor = layer.output(layer.intermediate(attended), attended)
        return out

    def _attended(self, given: list[Tensor], group: _Group, bias: Tensor | None, drop: float) -> Tensor:
        """[tokens, hidden] of query, key and value -> [tokens, hidden]."""
        hidden = given[0].shape[1]
        if group.mask is not None:
            room = len(group.mask) * group.length
            given = [part.new_zeros(room, hidden).index_copy(0, group.places, part) for part in given]
        shape = (-1, group.length, self.config.num_attention_heads, hidden // self.config.num_attention_heads)
        query, key, value = (part.view(shape).transpose(1, 2) for part in given)
        mask = group.mask
        if bias is not None:
            added = bias[:, :, : group.length, : group.length].to(query.dtype)
            mask = added if mask is None else added + as_added(mask, added.dtype)
        out = attend(query, key, value, mask, drop)
        flat = out.transpose(1, 2).reshape(-1, hidden)
        return flat if group.mask is None else flat[group.places]


def use_unpadded_forward(model: Any) -> bool:
    """Switch a sentence-transformers model to the unpadded forward pass, without changing its weights or saved files.

    Returns:
        Whether its encoder is supported.
    """
    encoder: Any = getattr(model[0], "auto_model", None)
    if type(encoder).__name__ not in CLASSES or family_of(encoder.config.to_dict()) is None:
        return False
    own = type(encoder)
    # A subclass instead of a bound method, so that copies on other devices use their own weights.
    encoder.__class__ = type(own.__name__, (_UnpaddedForward, own), {"__module__": own.__module__})
    return True
