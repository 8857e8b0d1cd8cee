"""Losses and gradients of two processes on halves of a batch compared with one process."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers (the train extra)")

import torch

from harness_training.losses.collectives import gather_rows, rank, row_counts, sum_over_ranks, world_size
from harness_training.model.head import save_model
from tests.forked import fork
from tests.training.losses import ranks
from tests.training.models import build_model, texts, write_base


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """Results of one process and of two."""
    folder = tmp_path_factory.mktemp("ranks")
    save_model(build_model(write_base(folder), texts(300), dim=16), folder / "model")
    processes = [fork(ranks.process, number, 2, folder) for number in range(2)]
    ranks.main(0, 1, folder)
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    return [dict(np.load(folder / f"{count}.npz")) for count in (1, 2)]


def test_two_processes_equal_one(results: list[dict[str, np.ndarray]]) -> None:
    one, two = results
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-6, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", ["objective None loss", "objective 4 loss", "infonce loss", "exact (5, 12) loss"])
def test_there_was_something_to_compare(results: list[dict[str, np.ndarray]], name: str) -> None:
    assert results[0][name] > 0.01
    kind = name.removesuffix("loss")
    assert np.abs(results[1][f"{kind}gradient 0"]).max() > 1e-6


def test_one_process_alone_needs_no_group() -> None:
    rows = torch.ones(3, 2)
    assert (world_size(), rank(), row_counts(rows)) == (1, 0, [3])
    assert gather_rows(rows) is rows
    assert sum_over_ranks(rows) is rows
