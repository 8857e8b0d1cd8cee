"""Several requests at a time: every text once, what is under way is kept, budgets in halves."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from harness import PluginError
from harness.registry.remote import Arrived
from harness.system.budget import Budget
from harness_plugins.endpoints import parallel

BATCHES = [[0, 1, 2, 3], [4, 5], [6]]


def answered(rows: list[int], stop: threading.Event) -> tuple[Arrived, int]:
    return Arrived(rows, np.zeros((len(rows), 1), np.float32), len(rows)), 2


def run(send: Any = answered, budget: Budget | None = None, workers: int = 2) -> Any:
    spend = budget or Budget()
    return parallel.in_parallel(BATCHES, lambda rows: 10 * len(rows), send, workers, spend, 0.0, "m")


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_text_once(workers: int) -> None:
    budget = Budget()
    assert sorted(row for answer in run(budget=budget, workers=workers) for row in answer.rows) == [*range(7)]
    assert (budget.tokens, budget.requests) == (7, 6)


def test_a_batch_that_is_too_large_for_the_rest_is_sent_in_halves() -> None:
    budget, sent = Budget(max_tokens=25), list[list[int]]()

    def send(rows: list[int], stop: threading.Event) -> tuple[Arrived, int]:
        sent.append(rows)
        return answered(rows, stop)

    arrived = []
    with pytest.raises(PluginError, match="the budget of --max-tokens 9 is used up"):
        arrived.extend(run(send, Budget(max_tokens=9)))
    assert sent == arrived == []
    answers = list(run(send, budget, workers=1))
    assert sorted(row for answer in answers for row in answer.rows) == [*range(7)]
    assert sent[0] == [0, 1]


def test_an_interrupt_keeps_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = parallel.wait, 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(parallel, "wait", interrupted)
    arrived: list[Arrived] = []
    with pytest.raises(KeyboardInterrupt):
        arrived.extend(run())
    assert sorted(answer.rows for answer in arrived) == BATCHES[:2]


def test_closing_it_frees_what_was_reserved() -> None:
    budget = Budget(max_tokens=1000)
    answers = run(budget=budget)
    next(answers)
    answers.close()
    assert budget.reserve(1000 - budget.tokens, 0.0)
