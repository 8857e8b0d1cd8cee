"""The step that is measured for a plan of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("datasets", reason="training needs datasets (the train extra)")

from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness_training.experiment import trainer_args
from harness_training.experiment.settings import Settings
from harness_training.study.training_speed import NAMES, training_speed
from tests.training.models import write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return Prepared(load_registry().model(str(folder / "base")), folder / "home", offline=True)


@pytest.mark.parametrize("piece", [0, 4])
def test_the_measured_step_has_no_second_forward_pass(
    piece: int, base: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`training_cost` counts that of cached gradients."""
    made = trainer_args.make_objective
    cached: list[bool] = []

    def watched(settings: Settings, *given: Any) -> Any:
        objective = made(settings, *given)
        cached.append(objective.uses_gradient_cache)
        return objective

    monkeypatch.setattr(trainer_args, "make_objective", watched)
    settings = Settings(base="base", batch_size=8, mini_batch_size=piece, dim=16, slices=64)
    found, _ = training_speed(base, settings, tmp_path, lambda *_: None)
    assert cached == [False, False]
    assert {*found} == {*NAMES}
    assert all(value > 0 for value in found.values())
