"""Alternating rounds: every contestant loaded first, then each in turn, one at a time, in both directions."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner.contest import Answer, Contest, Plan
from benchmarks.runner.driver import Process, Unable

LIMIT = 7200.0
"""Seconds that one order may take."""


@dataclass(slots=True)
class Standing:
    """What is known of a contestant so far."""

    name: str
    reason: str = ""
    """Why it takes no further part; empty while it does."""
    load: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Seconds, processor's seconds and peak bytes of every round that counts."""
    quality: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None

    def ask(self, **order: Any) -> dict[str, Any] | None:
        """The answer to an order; None where the contestant is out, for which ``reason`` then holds the cause."""
        if self.process is None:
            return None
        try:
            return self.process.load(LIMIT) if order["do"] == "load" else self.process.ask(LIMIT, **order)
        except Unable as error:
            self.reason = str(error)
            self.process.__exit__(None, None, None)
            self.process = None
            return None


def compete(
    contest: Contest, plan: Plan, rounds: int, news: Callable[[str], object], folder: Path
) -> Iterator[list[Standing]]:
    """The standings after the warm-up and after every round, so that a run cut short leaves what it has.

    Each round goes through the contestants in the order opposite to the round before: what drifts (heat, neighbours)
    meets all alike. ``folder`` takes logs and answers.
    """
    standings = [Standing(each.name) for each in contest.contestants]
    with ExitStack() as processes:
        for number, (standing, contestant) in enumerate(zip(standings, contest.contestants, strict=True)):
            news(f"{contestant.name}: loading")
            try:
                standing.process = processes.enter_context(Process(contestant, plan, folder / f"{number}.log"))
            except Unable as error:
                standing.reason = str(error)
            standing.load = standing.ask(do="load") or {}
            standing.ask(do="warm")
        yield standings
        for number in range(rounds):
            for standing in standings if number % 2 == 0 else standings[::-1]:
                news(f"{standing.name}: round {number + 1} of {rounds}")
                if figures := standing.ask(do="work"):
                    standing.rounds.append(figures)
            if number == 0:
                _judge(contest, standings, folder, news)
            yield standings


def _judge(contest: Contest, standings: list[Standing], folder: Path, news: Callable[[str], object]) -> None:
    """Fills in the quality of what the first round found."""
    answers: dict[str, Answer] = {}
    for number, standing in enumerate(standings):
        path = folder / f"{number}.npz"
        if standing.ask(do="answer", path=str(path)) is not None:
            with np.load(path, allow_pickle=False) as found:
                answers[standing.name] = {name: found[name] for name in found.files}
            path.unlink()
    try:
        quality = contest.quality(answers)
    except Exception:  # figures already measured must not be lost to a fault in judging them
        news(f"the quality could not be computed:\n{traceback.format_exc()}")
        return
    for standing in standings:
        standing.quality = quality.get(standing.name, {})
