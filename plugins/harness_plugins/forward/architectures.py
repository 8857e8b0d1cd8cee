"""Descriptions of the encoders that `UnpaddedModel` computes: where the weights lie, and what differs between families.

A family is a reader that turns a transformers model into a `Network`. Everything else about it is the shared pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.storage.safe_load import read_json
from harness_plugins.forward.attention import EVERYTHING, Window
from harness_plugins.forward.products import Activation

if TYPE_CHECKING:
    from torch import Tensor


class LinearWeights(NamedTuple):
    """Weight [out, in] and bias [out] of a linear layer."""

    weight: Tensor
    bias: Tensor | None


class Norm(NamedTuple):
    """LayerNorm, or RMSNorm."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    rms: bool = False

    def __call__(self, state: Tensor) -> Tensor:
        """Normalise [..., n]."""
        import torch

        size = state.shape[-1]
        if not self.rms:
            return torch.layer_norm(state, [size], self.weight, self.bias, self.eps)
        # torch.rms_norm writes the squares of a float32 state to memory.
        squares = torch.linalg.vector_norm(state, dim=-1, keepdim=True).square_()
        normed: Tensor = (state * squares.div_(size).add_(self.eps).rsqrt_()).mul_(self.weight)
        return normed


class Norms(NamedTuple):
    """Norms of a residual branch: state -> after(state + inside(branch(before(state))))."""

    before: Norm | None = None
    inside: Norm | None = None
    after: Norm | None = None
    """LayerNorm."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: the residual branches of attention and of the feed-forward block."""

    queries: LinearWeights
    keys: LinearWeights
    values: LinearWeights
    mixed: LinearWeights
    widened: LinearWeights
    narrowed: LinearWeights
    attended: Norms
    """Of the branch of attention."""
    fed: Norms
    """Of the branch of the feed-forward block."""
    gate: LinearWeights | None = None
    """With the activation; multiplies ``widened``, which has none then."""
    query_norm: Norm | None = None
    """Of each head."""
    key_norm: Norm | None = None
    window: Window = EVERYTHING
    rotation: str = ""
    """Which of the network's rotations."""


@dataclass(frozen=True, slots=True)
class Network:
    """An encoder as the shared pass sees it; shares all weights with the model."""

    words: Any
    """Module: token ids -> states."""
    layers: list[Layer]
    heads: int
    key_heads: int
    size: int
    """Dimensions of a head."""
    activation: Activation
    scale: float
    """Of the products of queries and keys."""
    norm: Norm | None = None
    """Of the embeddings."""
    final: Norm | None = None
    """Of the last layer's states."""
    positions: Any = None
    """Module: position ids -> states that are added."""
    added: Tensor | None = None
    """[hidden], added to every token: the embedding of the first segment."""
    padding: int | None = None
    """Position ids are counted from this number + 1, without padding tokens, which have this id; None: from 0."""
    bias: Callable[[int], Tensor] | None = None
    """Length -> bias of attention [1, heads, length, length], a function of the distance of two tokens."""
    rotation: Callable[[str, int], Tensor] | None = None
    """Name and length -> complex64 [length, size / 2], by which dimensions j and j + size / 2 of a head, as real and
    imaginary part, are multiplied at each position."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one type in transformers."""

    title: str
    model: str
    """Name of the class."""
    read: Callable[[Any], Network]
    expected: Mapping[str, Any]
    """Required values of config.json, where they are stated."""
    absolute: bool = False
    """Learned positions, LayerNorm after each branch and GELU without a gate. Only these have a pass for GPUs and
    feed-forward layers in int8."""


def family_in(folder: Path) -> Family | None:
    """The family of the transformer in a folder; None where the unpadded pass does not support it. Reads one file."""
    try:
        adapted = (folder / "adapter_config.json").exists()
        return None if adapted else family_of(read_json(folder / "config.json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family of a transformer with this config.json; None where the unpadded pass does not support it."""
    family = FAMILIES.get(config["model_type"])
    if family is None or any(config.get(key, value) != value for key, value in family.expected.items()):
        return None
    return family if _rotates_plainly(config) else None


def _rotates_plainly(config: Mapping[str, Any]) -> bool:
    """Whether rotary angles are proportional to the position, with nothing that depends on the text's length."""
    stated = config.get("rope_parameters") or {}
    kinds = [stated, *(value for value in stated.values() if isinstance(value, Mapping))]
    return config.get("rope_scaling") is None and all(kind.get("rope_type", "default") == "default" for kind in kinds)


def network(model: Any) -> Network:
    """Describe a model of one of the `FAMILIES`, in eval mode."""
    return FAMILIES[model.config.model_type].read(model)


def runs_on(family: Family, device: str) -> bool:
    """Whether the unpadded pass of a family supports a device of torch."""
    return family.absolute or not device.startswith("cuda")


def unsupported(what: object, device: str) -> str:
    """The message that what a user named has no unpadded pass."""
    titles = dict.fromkeys(each.title for each in FAMILIES.values() if runs_on(each, device))
    *most, last = titles
    place = " on a GPU" if device.startswith("cuda") else ""
    families = f"{', '.join(most)} or {last}"
    return f"{what} holds no plain {families} encoder, which forward=packed is for{place}; omit that option."


def _affine(module: Any) -> LinearWeights:
    return LinearWeights(module.weight.detach(), None if module.bias is None else module.bias.detach())


def _split(module: Any, count: int) -> list[LinearWeights]:
    """The parts of a fused linear layer."""
    weight, bias = _affine(module)
    biases = [None] * count if bias is None else bias.chunk(count)
    return [LinearWeights(*pair) for pair in zip(weight.chunk(count), biases, strict=True)]


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), None if module.bias is None else module.bias.detach(), float(module.eps))


def _bert(model: Any) -> Network:
    """BERT and, with other position ids, RoBERTa."""
    parts = model.embeddings
    return Network(
        words=parts.word_embeddings,
        layers=[_bert_layer(layer) for layer in model.encoder.layer],
        **_heads(model.config),
        activation="gelu",
        norm=_norm(parts.LayerNorm),
        positions=parts.position_embeddings,
        added=parts.token_type_embeddings.weight[0].detach(),
        padding=None if model.config.model_type == "bert" else int(parts.padding_idx),
    )


def _heads(config: Any) -> dict[str, Any]:
    """Heads, and the usual scale."""
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    return {"heads": heads, "key_heads": key_heads, "size": size, "scale": size**-0.5}


def _bert_layer(layer: Any) -> Layer:
    own, output = layer.attention.self, layer.attention.output
    return Layer(
        queries=_affine(own.query),
        keys=_affine(own.key),
        values=_affine(own.value),
        mixed=_affine(output.dense),
        attended=Norms(after=_norm(output.LayerNorm)),
        widened=_affine(layer.intermediate.dense),
        narrowed=_affine(layer.output.dense),
        fed=Norms(after=_norm(layer.output.LayerNorm)),
    )


def _mpnet(model: Any) -> Network:
    parts = model.embeddings

    def bias(length: int) -> Tensor:
        import torch

        room = torch.empty(1, length, 0, device=parts.word_embeddings.weight.device)
        made: Tensor = model.encoder.compute_position_bias(room).detach()
        return made

    return Network(
        words=parts.word_embeddings,
        layers=[_mpnet_layer(layer) for layer in model.encoder.layer],
        **_heads(model.config),
        activation="gelu",
        norm=_norm(parts.LayerNorm),
        positions=parts.position_embeddings,
        padding=int(parts.padding_idx),
        bias=bias,
    )


def _mpnet_layer(layer: Any) -> Layer:
    own = layer.attention.attn
    return Layer(
        queries=_affine(own.q),
        keys=_affine(own.k),
        values=_affine(own.v),
        mixed=_affine(own.o),
        attended=Norms(after=_norm(layer.attention.LayerNorm)),
        widened=_affine(layer.intermediate.dense),
        narrowed=_affine(layer.output.dense),
        fed=Norms(after=_norm(layer.output.LayerNorm)),
    )


def _distilbert(model: Any) -> Network:
    parts = model.embeddings
    return Network(
        words=parts.word_embeddings,
        layers=[_distilbert_layer(layer) for layer in model.transformer.layer],
        **_heads(model.config),
        activation="gelu",
        norm=_norm(parts.LayerNorm),
        positions=parts.position_embeddings,
    )


def _distilbert_layer(layer: Any) -> Layer:
    own = layer.attention
    return Layer(
        queries=_affine(own.q_lin),
        keys=_affine(own.k_lin),
        values=_affine(own.v_lin),
        mixed=_affine(own.out_lin),
        attended=Norms(after=_norm(layer.sa_layer_norm)),
        widened=_affine(layer.ffn.lin1),
        narrowed=_affine(layer.ffn.lin2),
        fed=Norms(after=_norm(layer.output_layer_norm)),
    )


def _modernbert(model: Any) -> Network:
    parts, config = model.embeddings, model.config
    half = int(config.sliding_window)
    windows = {"full_attention": EVERYTHING, "sliding_attention": Window(half, half)}

    def layer(layer: Any) -> Layer:
        queries, keys, values = _split(layer.attn.Wqkv, 3)
        gate, widened = _split(layer.mlp.Wi, 2)
        before = getattr(layer.attn_norm, "weight", None) is not None  # the first layer has none
        return Layer(
            queries=queries,
            keys=keys,
            values=values,
            mixed=_affine(layer.attn.Wo),
            attended=Norms(before=_norm(layer.attn_norm) if before else None),
            gate=gate,
            widened=widened,
            narrowed=_affine(layer.mlp.Wo),
            fed=Norms(before=_norm(layer.mlp_norm)),
            window=windows[layer.attention_type],
            rotation=layer.attention_type,
        )

    return Network(
        words=parts.tok_embeddings,
        layers=[layer(each) for each in model.layers],
        **_heads(config),
        activation="gelu",
        norm=_norm(parts.norm),
        final=_norm(model.final_norm),
        rotation=_rotation(model),
    )


def _rotation(model: Any) -> Callable[[str, int], Tensor]:
    """Angles of a model whose layers may be of several kinds."""

    def rotation(kind: str, length: int) -> Tensor:
        import torch

        device = model.get_input_embeddings().weight.device
        places = torch.arange(length, device=device)[None]
        cosines, sines = model.rotary_emb(torch.empty(0, device=device), places, *filter(None, [kind]))
        half = cosines.shape[-1] // 2
        return torch.complex(cosines[0, :, :half], sines[0, :, :half])

    return rotation


def _nomic(model: Any) -> Network:
    parts = model.embeddings
    return Network(
        words=parts.word_embeddings,
        layers=[_gated(each, _nomic_norms(each)) for each in model.layers],
        **_heads(model.config),
        activation="silu",
        norm=_norm(parts.LayerNorm),
        added=parts.token_type_embeddings.weight[0].detach(),
        rotation=_rotation(model),
    )


def _nomic_norms(layer: Any) -> tuple[Norms, Norms]:
    return Norms(after=_norm(layer.post_attention_layernorm)), Norms(after=_norm(layer.post_mlp_layernorm))


def _gated(layer: Any, norms: tuple[Norms, Norms], **more: Any) -> Layer:
    """A layer whose parts have the names of Llama's."""
    own, feed = layer.self_attn, layer.mlp
    return Layer(
        queries=_affine(own.q_proj),
        keys=_affine(own.k_proj),
        values=_affine(own.v_proj),
        mixed=_affine(own.o_proj),
        attended=norms[0],
        gate=_affine(feed.gate_proj),
        widened=_affine(feed.up_proj),
        narrowed=_affine(feed.down_proj),
        fed=norms[1],
        **more,
    )


def _qwen3(model: Any) -> Network:
    config = model.config
    causal = bool(getattr(config, "is_causal", True))

    def norm(module: Any) -> Norm:
        return Norm(module.weight.detach(), None, float(module.variance_epsilon), rms=True)

    def layer(layer: Any, kind: str) -> Layer:
        norms = Norms(before=norm(layer.input_layernorm)), Norms(before=norm(layer.post_attention_layernorm))
        own = layer.self_attn
        return _gated(
            layer,
            norms,
            query_norm=norm(own.q_norm),
            key_norm=norm(own.k_norm),
            window=_causal_window(config, kind) if causal else _two_sided_window(config, kind),
        )

    return Network(
        words=model.embed_tokens,
        layers=[layer(*pair) for pair in zip(model.layers, config.layer_types, strict=True)],
        **_heads(config),
        activation="silu",
        final=norm(model.norm),
        rotation=_rotation(model),
    )


def _causal_window(config: Any, kind: str) -> Window:
    return Window(int(config.sliding_window) - 1 if kind == "sliding_attention" else None, 0)


def _two_sided_window(config: Any, kind: str) -> Window:
    """A decoder's layer that a config turns into an encoder's: transformers includes the window's last key then."""
    return Window(*[int(config.sliding_window)] * 2) if kind == "sliding_attention" else EVERYTHING


def _gemma3(model: Any) -> Network:
    config = model.config

    def norm(module: Any) -> Norm:
        return Norm(1.0 + module.weight.detach().float(), None, float(module.eps), rms=True)

    def window(kind: str) -> Window:
        if not config.use_bidirectional_attention:
            return _causal_window(config, kind)
        limit = int(config.sliding_window) - 1 if kind == "sliding_attention" else None
        return Window(limit, limit)

    def layer(layer: Any, kind: str) -> Layer:
        attended = Norms(norm(layer.input_layernorm), norm(layer.post_attention_layernorm))
        fed = Norms(norm(layer.pre_feedforward_layernorm), norm(layer.post_feedforward_layernorm))
        own = layer.self_attn
        return _gated(
            layer,
            (attended, fed),
            query_norm=norm(own.q_norm),
            key_norm=norm(own.k_norm),
            window=window(kind),
            rotation=kind,
        )

    return Network(
        words=model.embed_tokens,
        layers=[layer(*pair) for pair in zip(model.layers, config.layer_types, strict=True)],
        **_heads(config) | {"scale": float(config.query_pre_attn_scalar) ** -0.5},
        activation="gelu_tanh",
        final=norm(model.norm),
        rotation=_rotation(model),
    )


_ENCODER = {"is_decoder": False, "add_cross_attention": False, "chunk_size_feed_forward": 0}
_BERT = {**_ENCODER, "hidden_act": "gelu", "position_embedding_type": "absolute"}
FAMILIES = {
    "bert": Family("BERT", "BertModel", _bert, _BERT, absolute=True),
    "mpnet": Family("MPNet", "MPNetModel", _mpnet, _BERT, absolute=True),
    "roberta": Family("RoBERTa", "RobertaModel", _bert, _BERT, absolute=True),
    "xlm-roberta": Family("XLM-RoBERTa", "XLMRobertaModel", _bert, _BERT, absolute=True),
    "camembert": Family("CamemBERT", "CamembertModel", _bert, _BERT, absolute=True),
    "distilbert": Family(
        "DistilBERT", "DistilBertModel", _distilbert, {**_ENCODER, "activation": "gelu"}, absolute=True
    ),
    "modernbert": Family("ModernBERT", "ModernBertModel", _modernbert, {"hidden_activation": "gelu"}),
    "nomic_bert": Family("NomicBERT", "NomicBertModel", _nomic, {**_ENCODER, "hidden_act": "silu"}),
    "qwen3": Family("Qwen3", "Qwen3Model", _qwen3, {"hidden_act": "silu"}),
    "gemma3_text": Family(
        "Gemma 3",
        "Gemma3TextModel",
        _gemma3,
        {"hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": None, "is_causal": True},
    ),
}
"""model_type of config.json -> the family."""
