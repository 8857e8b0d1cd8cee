"""The batch size is measured once, kept, and only for models that offer a choice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.embeddings import batch_size
from harness.embeddings.batch_size import tune
from harness.system.log import NOTE
from harness.system.processor import Watch
from harness.types import Role

COST = {32: 1.0, 64: 0.5, 128: 0.49, 256: 2.0}
"""Seconds per token by size of the batch."""


class Clock:
    """A clock that models move."""

    now = 0.0


class Model:
    """Costs `COST`."""

    dim, token_budgets, token_budget = 2, (32, 64, 128, 256), 32

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        return [[1] * 16 for _ in texts]

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        return self.encode_tokens(self.tokenize(texts, role=role), role=role)

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        size = sum(map(len, tokens))
        self.batches.append(size)
        Clock.now += size * COST[size]
        return np.zeros((len(tokens), self.dim), np.float32)

    def advice(self) -> str:
        return "int8 would be faster"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Returns what the machine says about other processes."""
    watch = Watch()

    @contextmanager
    def watching() -> Iterator[Watch]:
        yield watch

    monkeypatch.setattr(batch_size.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(batch_size, "watching", watching)
    return watch


def tuned(home: Path, texts: int = 5000, model: Model | None = None, key: str = "k") -> tuple[Model, list[str]]:
    told: list[str] = []
    model = model or Model()
    settled = tune(model, "a model", key, home, texts, lambda text, *_: told.append(text))
    assert settled == (bool(told) or len(model.token_budgets) == 1 or model.token_budget != 32)
    return model, told


def test_the_smallest_of_the_fastest_sizes_is_measured_once_and_kept(tmp_path: Path) -> None:
    model, told = tuned(tmp_path)
    assert model.token_budget == 64
    assert {*model.batches} == {*COST}
    assert told == ["choosing the batch size of a model", f"{NOTE}a model: int8 would be faster"]
    (record,) = (tmp_path / "throughput").iterdir()
    assert json.loads(record.read_text())["tokens_per_second"]["64"] == 2.0
    again, told = tuned(tmp_path, texts=1)
    assert (again.token_budget, again.batches, told) == (64, [], [])
    other, _ = tuned(tmp_path, key="of another model")
    assert other.batches


@pytest.mark.parametrize("texts", [1, 5000])
def test_without_a_choice_or_for_few_texts_nothing_is_measured(tmp_path: Path, texts: int) -> None:
    model = Model()
    if texts > 1:
        model.token_budgets = (32,)  # type: ignore[assignment]
    tuned(tmp_path, texts, model)
    assert (model.token_budget, model.batches) == (32, [])


def test_a_measurement_on_a_busy_machine_is_not_used(tmp_path: Path, clock: Watch) -> None:
    clock.busy = True
    model, told = tuned(tmp_path)
    assert model.token_budget == 32
    assert not (tmp_path / "throughput").exists()
    assert len(told) == 1


def test_a_damaged_record_is_measured_again(tmp_path: Path) -> None:
    tuned(tmp_path)
    (record,) = (tmp_path / "throughput").iterdir()
    record.write_text(record.read_text().replace('"tokens": 64', '"tokens": 128'))
    assert tuned(tmp_path)[0].token_budget == 64
