"""Descriptions of the encoders that `UnpaddedModel` computes: where the weights lie, and what differs between families.

A family is a reader that turns a transformers model into a `Network`. Everything else about it is the shared pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.storage.safe_load import read_json
from harness_plugins.forward.products import Activation

if TYPE_CHECKING:
    from torch import Tensor


class Affine(NamedTuple):
    """Weight [out, in] and bias [out] of a linear layer."""

    weight: Tensor
    bias: Tensor


class Norm(NamedTuple):
    """LayerNorm."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer, whose two residual branches (attention, feed-forward) are normalised after the sum."""

    queries: Affine
    keys: Affine
    values: Affine
    mixed: Affine
    after_attention: Norm
    widened: Affine
    narrowed: Affine
    after: Norm


@dataclass(frozen=True, slots=True)
class Network:
    """An encoder as the shared pass sees it; shares all weights with the model."""

    words: Any
    """Module: token ids -> states."""
    layers: list[Layer]
    heads: int
    activation: Activation
    norm: Norm
    """Of the embeddings."""
    positions: Any = None
    """Module: position ids -> states that are added."""
    added: Tensor | None = None
    """[hidden], added to every token: the embedding of the first segment."""
    padding: int | None = None
    """Position ids are counted from this number + 1, without padding tokens, which have this id; None: from 0."""
    bias: Callable[[int], Tensor] | None = None
    """Length -> bias of attention [1, heads, length, length], a function of the distance of two tokens."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one type in transformers."""

    model: str
    """Name of the class."""
    read: Callable[[Any], Network]
    expected: Mapping[str, Any]
    """Required values of config.json, where they are stated."""


def applies(folder: Path) -> bool:
    """Whether the unpadded pass supports the transformer in a folder. Reads one file."""
    try:
        plain = repeats(read_json(folder / "config.json"))
        return plain and not (folder / "adapter_config.json").exists()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def repeats(config: Mapping[str, Any]) -> bool:
    """Whether the unpadded pass supports a transformer with this config.json."""
    family = FAMILIES.get(config["model_type"])
    return family is not None and all(config.get(key, value) == value for key, value in family.expected.items())


def network(model: Any) -> Network:
    """Describe a model of one of the `FAMILIES`, in eval mode."""
    return FAMILIES[model.config.model_type].read(model)


def _affine(module: Any) -> Affine:
    return Affine(module.weight.detach(), module.bias.detach())


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), float(module.eps))


def _bert(model: Any) -> Network:
    """BERT, whose parts MPNet names in the same way outside of attention."""
    parts = model.embeddings
    return Network(
        words=parts.word_embeddings,
        layers=[_bert_layer(layer, layer.attention.self, layer.attention.output) for layer in model.encoder.layer],
        heads=int(model.config.num_attention_heads),
        activation="gelu",
        norm=_norm(parts.LayerNorm),
        positions=parts.position_embeddings,
        added=parts.token_type_embeddings.weight[0].detach(),
    )


def _bert_layer(layer: Any, own: Any, output: Any) -> Layer:
    return Layer(
        queries=_affine(own.query),
        keys=_affine(own.key),
        values=_affine(own.value),
        mixed=_affine(output.dense),
        after_attention=_norm(output.LayerNorm),
        widened=_affine(layer.intermediate.dense),
        narrowed=_affine(layer.output.dense),
        after=_norm(layer.output.LayerNorm),
    )


def _mpnet(model: Any) -> Network:
    parts = model.embeddings

    def layer(layer: Any) -> Layer:
        own = layer.attention.attn
        return Layer(
            queries=_affine(own.q),
            keys=_affine(own.k),
            values=_affine(own.v),
            mixed=_affine(own.o),
            after_attention=_norm(layer.attention.LayerNorm),
            widened=_affine(layer.intermediate.dense),
            narrowed=_affine(layer.output.dense),
            after=_norm(layer.output.LayerNorm),
        )

    def bias(length: int) -> Tensor:
        import torch

        room = torch.empty(1, length, 0, device=parts.word_embeddings.weight.device)
        made: Tensor = model.encoder.compute_position_bias(room).detach()
        return made

    return Network(
        words=parts.word_embeddings,
        layers=[layer(each) for each in model.encoder.layer],
        heads=int(model.config.num_attention_heads),
        activation="gelu",
        norm=_norm(parts.LayerNorm),
        positions=parts.position_embeddings,
        padding=int(parts.padding_idx),
        bias=bias,
    )


_PLAIN = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
}
FAMILIES = {"bert": Family("BertModel", _bert, _PLAIN), "mpnet": Family("MPNetModel", _mpnet, _PLAIN)}
"""model_type of config.json -> the family."""
