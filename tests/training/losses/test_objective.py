"""The objective: its terms, and cached gradients compared with plain ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers (the train extra)")

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from harness.types import UserError
from harness_training.losses.objective import Objective
from harness_training.losses.retrieval import InfoNCE
from harness_training.losses.sigreg import SIGReg, exact_sigreg
from tests.training.models import build_model, columns_of, texts, write_base

ROWS = slice(0, 11)
EXACT: dict[str, Any] = {"regulariser": "sigreg-exact", "isotropy_weight": 0.7}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return build_model(write_base(tmp_path_factory.mktemp("models")), texts(300), dim=16).double()


def gradients(objective: Objective, factor: float = 1.0) -> tuple[float, dict[str, Tensor]]:
    """Loss and every gradient of one training step."""
    objective.zero_grad()
    torch.manual_seed(5)
    loss = torch.stack(list(objective(columns_of(objective.model, ROWS)).values())).sum()
    (factor * loss).backward()
    found = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return loss.item(), found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float = 1e-8) -> None:
    assert one.keys() == other.keys()
    largest = max(gradient.abs().max() for gradient in one.values())
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=rtol, atol=rtol * float(largest), msg=name)


@pytest.mark.parametrize("size", [1, 4, 11, 50])
@pytest.mark.parametrize(
    "options",
    [
        {"isotropy_weight": 0.5},
        {"isotropy_weight": 0.0, "loss_options": {"learn_scale": True}},
        {"isotropy_weight": 2.0, "loss": "triplet", "regulariser": "vicreg"},
    ],
    ids=["sigreg", "scale", "triplet"],
)
def test_cached_gradients_equal_plain_ones(model: SentenceTransformer, options: dict[str, Any], size: int) -> None:
    model.eval()
    loss, plain = gradients(Objective(model, **options))
    cached_loss, cached = gradients(Objective(model, mini_batch_size=size, **options))
    assert cached_loss == pytest.approx(loss, rel=1e-9)
    assert_same(plain, cached)
    assert any("embeddings" in name for name in plain)


def test_with_dropout_the_second_pass_repeats_the_first(model: SentenceTransformer) -> None:
    """The plain step here embeds the same mini-batches in the same order, so it draws the same masks."""
    model.train()
    _, plain = gradients(Objective(model, **EXACT))
    _, whole = gradients(Objective(model, mini_batch_size=ROWS.stop, **EXACT))
    assert_same(plain, whole)

    objective = Objective(model, mini_batch_size=4, **EXACT)
    loss, cached = gradients(objective)
    objective.zero_grad()
    torch.manual_seed(5)
    columns = [
        torch.cat([model(part)["sentence_embedding"] for part in parts(features, 4)])
        for features in columns_of(model, ROWS)
    ]
    by_hand = objective.on_embeddings(columns)
    by_hand.backward()
    assert loss == pytest.approx(by_hand.item(), rel=1e-9)
    assert_same({name: p.grad for name, p in objective.named_parameters() if p.grad is not None}, cached)
    model.eval()
    assert gradients(objective)[0] != pytest.approx(loss, rel=1e-3)  # there was dropout


def test_under_autocast_both_passes_have_its_precision(tmp_path: Path) -> None:
    """The backward pass, in which the texts are embedded again, is outside autocast, as PyTorch advises."""
    model, seen = build_model(write_base(tmp_path), texts(300), dim=16).train(), []
    model[0].register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    found = []
    for size in (None, ROWS.stop):
        objective = Objective(model, mini_batch_size=size, **EXACT)
        objective.zero_grad()
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack(list(objective(columns_of(model, ROWS)).values())).sum()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert seen == [True] * (4 + 8)
    assert (found[1] - found[0]).norm() < 0.02 * found[
        0
    ].norm()  # gradients of columns are added in bfloat16 or float32


def parts(features: dict[str, Tensor], size: int) -> list[dict[str, Any]]:
    """Mini-batches without the padding that none of their rows needs."""
    made = []
    for start in range(0, ROWS.stop, size):
        rows = {key: value[start : start + size] for key, value in features.items() if isinstance(value, Tensor)}
        width = int(rows["attention_mask"].sum(1).max())
        other = {key: value for key, value in features.items() if not isinstance(value, Tensor)}
        made.append(other | {key: value[:, :width] for key, value in rows.items()})
    return made


@pytest.mark.parametrize("size", [None, 4])
def test_gradients_scale_with_the_loss(model: SentenceTransformer, size: int | None) -> None:
    """As accumulation and half-precision training need, the learnt scale's included."""
    model.eval()
    options: dict[str, Any] = {"mini_batch_size": size, "loss_options": {"learn_scale": True}, **EXACT}
    _, whole = gradients(Objective(model, **options))
    _, quarter = gradients(Objective(model, **options), factor=0.25)
    assert "task.log_scale" in whole
    assert_same({name: gradient / 4 for name, gradient in whole.items()}, quarter)


@pytest.mark.parametrize("size", [None, 4])
def test_loss_is_the_task_and_the_weighted_mean_over_views(model: SentenceTransformer, size: int | None) -> None:
    model.eval()
    objective = Objective(model, mini_batch_size=size, **EXACT)
    loss = objective(columns_of(model, ROWS))
    with torch.no_grad():
        q, p, n1, n2 = (model(features)["sentence_embedding"] for features in columns_of(model, ROWS))
        task = InfoNCE()(q, p, torch.stack([n1, n2], dim=1)).item()
        passages = sum(exact_sigreg(column).item() for column in (p, n1, n2)) / 3
        isotropy = (exact_sigreg(q).item() + passages) / 2
    assert {name: value.item() for name, value in loss.items()} == pytest.approx(
        {"task_loss": task, "isotropy_loss": 0.7 * isotropy}
    )
    assert {name: value.item() for name, value in objective.parts.items()} == pytest.approx(
        {"task": task, "isotropy": isotropy, "isotropy_query": exact_sigreg(q).item(), "isotropy_passage": passages}
    )
    assert not any(value.requires_grad for value in objective.parts.values())


def test_at_weight_zero_isotropy_is_measured_on_demand_and_changes_nothing(model: SentenceTransformer) -> None:
    model.eval()
    objective = Objective(model)
    _, plain = gradients(objective)
    assert list(objective(columns_of(model, ROWS))) == ["task_loss"]
    assert list(objective.parts) == ["task"]  # not measured: no step pays for it
    objective.measures_gradients = True
    assert list(objective(columns_of(model, ROWS))) == ["task_loss"]
    assert objective.parts["isotropy"].item() > 0
    _, other = gradients(Objective(model, regulariser="uniformity"))
    assert_same(plain, other, rtol=1e-12)


@pytest.mark.parametrize("size", [None, 4])
def test_every_training_pass_has_new_slices_and_evaluation_has_none(
    model: SentenceTransformer, size: int | None
) -> None:
    model.eval()
    objective = Objective(model, isotropy_weight=1.0, mini_batch_size=size, regulariser_options={"slices": 8})
    values = []
    for _ in range(2):
        objective(columns_of(model, ROWS))
        values.append(objective.parts["isotropy"].item())
    assert values[0] != values[1]
    assert objective.step == 2
    with torch.no_grad():
        loss = objective(columns_of(model, ROWS))
    assert objective.step == 2
    assert not any(value.requires_grad for value in loss.values())
    objective.step = 0
    objective(columns_of(model, ROWS))
    assert objective.parts["isotropy"].item() == values[0]
    assert isinstance(objective.regulariser, SIGReg)


def test_a_single_row_is_no_error(model: SentenceTransformer) -> None:
    for regulariser in ("sigreg", "uniformity", "vicreg"):
        objective = Objective(model, regulariser=regulariser, isotropy_weight=1.0)
        loss = sum(objective(columns_of(model, slice(0, 1))).values())
        loss.backward()
        assert torch.isfinite(loss)
        assert objective.parts["isotropy"] == 0


def test_what_makes_it_is_on_record(model: SentenceTransformer) -> None:
    objective = Objective(model, loss="triplet", loss_options={"margin": 3.0}, mini_batch_size=8, **EXACT)
    record = objective.get_config_dict()
    assert json.loads(json.dumps(record)) == {
        "loss": "triplet",
        "loss_options": {"margin": 3.0},
        "regulariser": "sigreg-exact",
        "regulariser_options": {},
        "isotropy_weight": 0.7,
        "mini_batch_size": 8,
    }


def test_mistakes_are_the_users(model: SentenceTransformer, tmp_path: Path) -> None:
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="isotropy weight"):
            Objective(model, isotropy_weight=weight)
    with pytest.raises(UserError, match="at least 1 text"):
        Objective(model, mini_batch_size=0)
    with pytest.raises(UserError, match="regulariser"):
        Objective(model, regulariser="nothing")
    with pytest.raises(UserError, match="positive"):
        Objective(model)(columns_of(model, ROWS, count=1))
