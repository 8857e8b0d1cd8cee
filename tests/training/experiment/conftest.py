"""One world of a tiny model for every module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.models import write_base, write_pairs

if TYPE_CHECKING:
    from tests.training.experiment.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    for name in ("torch", "accelerate", "datasets"):
        pytest.importorskip(name, reason=f"training needs {name} (the train extra)")
    from tests.training.experiment.world import World

    folder = tmp_path_factory.mktemp("world")
    write_base(folder, calm=0.1)
    write_pairs(folder / "pairs.jsonl")
    return World(folder)
