"""Training without padding compared with transformers' modules, in float64: states, gradients, dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("transformers", reason="training needs transformers (the train extra)")

import torch
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from harness_training.model.unpadded import use_unpadded_forward

SIZES = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def pair(family: str, seed: int = 0, **settings: Any) -> tuple[Any, Any]:
    """The same encoder twice, float64: stock and unpadded."""
    kind, config = (BertModel, BertConfig) if family == "bert" else (MPNetModel, MPNetConfig)
    made = []
    for unpadded in (False, True):
        torch.manual_seed(seed)
        settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **settings}
        given = config(**SIZES, max_position_embeddings=300, pad_token_id=1, initializer_range=0.3, **settings)
        encoder = kind(given).double().train()
        with torch.no_grad():  # biases and norms are 0 and 1 at the start, which would hide a forgotten one
            for parameter in encoder.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        assert use_unpadded_forward([Holder(encoder)]) if unpadded else True
        made.append(encoder)
    return made[0], made[1]


class Holder:
    def __init__(self, encoder: Any) -> None:
        self.auto_model = encoder


def batch(lengths: list[int], left: bool = False) -> dict[str, torch.Tensor]:
    ids = torch.randint(2, 60, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(len(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if left else mask
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}


def outcome(encoder: Any, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """States where there are tokens, and the gradient of a fixed function of them by every parameter."""
    encoder.zero_grad()
    present = features["attention_mask"].bool()
    states = encoder(**features).last_hidden_state[present]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(7), dtype=states.dtype)
    (states * weights).sum().backward()
    return states.detach(), {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("lengths", [[1], [7, 7, 7], [5, 1, 280, 33, 32, 31, 2, 90], [200, 3]])
def test_states_and_gradients_are_those_of_the_stock_modules(family: str, seed: int, lengths: list[int]) -> None:
    stock, packed = pair(family, seed)
    features = batch(lengths)
    states, gradients = outcome(stock, features)
    ours, found = outcome(packed, features)
    torch.testing.assert_close(ours, states, atol=1e-10, rtol=0)
    # what does not enter (the pooler, token types of the other kind) has no gradient on either side
    assert {name for name, g in found.items() if g.any()} <= gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found.get(name, torch.zeros_like(gradient)), gradient, atol=1e-8, rtol=1e-8)


def test_the_position_bias_learns() -> None:
    stock, packed = pair("mpnet")
    name = "encoder.relative_attention_bias.weight"
    features = batch([150, 140, 20])
    expected, found = outcome(stock, features)[1][name], outcome(packed, features)[1][name]
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_a_padding_token_inside_a_text_keeps_its_place() -> None:
    stock, packed = pair("mpnet")
    features = batch([9, 4])
    features["input_ids"][0, 3] = 1
    torch.testing.assert_close(outcome(packed, features)[0], outcome(stock, features)[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("odd", ["left", "types", "hidden"])
def test_what_is_not_repeated_is_left_to_the_stock_modules(odd: str) -> None:
    stock, packed = pair("bert")
    features = batch([6, 3], left=odd == "left")
    extra: dict[str, Any] = {}
    if odd == "types":
        extra["token_type_ids"] = torch.ones_like(features["input_ids"])
    if odd == "hidden":
        extra["output_hidden_states"] = True
    ours, theirs = packed(**features, **extra), stock(**features, **extra)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, atol=1e-12, rtol=0)
    assert (ours.hidden_states is None) == (odd != "hidden")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("where", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_that_of_the_configuration(family: str, where: str) -> None:
    stock, packed = pair(family, **{where: 0.3})
    features, present = batch([12, 9, 30]), batch([12, 9, 30])["attention_mask"].bool()
    spreads = []
    with torch.no_grad():
        for encoder in (stock, packed):
            torch.manual_seed(0)
            drawn = torch.stack([encoder(**features).last_hidden_state[present] for _ in range(200)])
            spreads.append(float(drawn.var(0).mean()))
        torch.testing.assert_close(
            packed.eval()(**features).last_hidden_state[present],
            stock.eval()(**features).last_hidden_state[present],
            atol=1e-10,
            rtol=0,
        )
    assert spreads[0] > 0.01
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)


def test_saved_weights_and_names_are_the_stock_ones(tmp_path: Path) -> None:
    stock, packed = pair("mpnet")
    packed.save_pretrained(tmp_path)
    again = MPNetModel.from_pretrained(tmp_path)
    assert packed.state_dict().keys() == stock.state_dict().keys()
    assert again.config.architectures == ["MPNetModel"]


def test_other_encoders_are_left_alone() -> None:
    relative = BertModel(BertConfig(**SIZES, hidden_act="relu"))
    assert not use_unpadded_forward([Holder(relative)])
    assert not use_unpadded_forward([Holder(torch.nn.Linear(2, 2))])
    assert not use_unpadded_forward([torch.nn.Linear(2, 2)])
