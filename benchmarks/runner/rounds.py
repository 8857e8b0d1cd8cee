"""Alternating rounds: all competitors are loaded first, then run one at a time, in alternating order."""

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
"""Timeout of an order in seconds."""


@dataclass(slots=True)
class Standing:
    """Measurements of a competitor."""

    name: str
    reason: str = ""
    """Why it dropped out; empty while it takes part."""
    load: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Wall seconds, CPU seconds and peak bytes of every measured round."""
    quality: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None

    def ask(self, **order: Any) -> dict[str, Any] | None:
        """Send an order; returns None and sets ``reason`` where the competitor drops out."""
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
    """Yield the standings after the warm-up and after every round, so that an interrupted run keeps its results.

    The order of competitors is reversed every round, so that drift (temperature, other load) affects all equally. Logs
    and answers are written to ``folder``.
    """
    standings = [Standing(each.name) for each in contest.competitors]
    with ExitStack() as processes:
        for number, (standing, competitor) in enumerate(zip(standings, contest.competitors, strict=True)):
            news(f"{competitor.name}: loading")
            try:
                standing.process = processes.enter_context(Process(competitor, plan, folder / f"{number}.log"))
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
    """Add the quality of the first round's results."""
    answers: dict[str, Answer] = {}
    for number, standing in enumerate(standings):
        path = folder / f"{number}.npz"
        if standing.ask(do="answer", path=str(path)) is not None:
            with np.load(path, allow_pickle=False) as found:
                answers[standing.name] = {name: found[name] for name in found.files}
            path.unlink()
    try:
        quality = contest.quality(answers)
    except Exception:  # keep the measurements when the quality cannot be computed
        news(f"the quality could not be computed:\n{traceback.format_exc()}")
        return
    for standing in standings:
        standing.quality = quality.get(standing.name, {})
