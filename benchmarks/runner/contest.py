"""What a contest is: one work, the contestants that do it, and how good what they found is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
Size = Literal["small", "usual", "whole"]
Answer = Mapping[str, NDArray[Any]]
"""What a contestant found, by name."""
Quality = Mapping[str, Mapping[str, str]]
"""Contestant -> column -> figure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where things are, and how much is to be measured."""

    work: Path
    """Made-up data, exported models and answers; the made-up data go when the run ends."""
    size: Size = "usual"
    data: Path = ROOT.parent / "shared" / "data"
    """Folders in BEIR format, by name."""
    peers: Path = ROOT / ".venv-peers"
    """The peers' environments, by name."""
    threads: int = 1
    sample: int | None = None
    """Documents of SciFact to encode, where not the size decides."""

    def pick(self, small: int, usual: int, whole: int) -> int:
        """The one that the size asks for."""
        return {"small": small, "usual": usual, "whole": whole}[self.size]

    def folder(self, dataset: str) -> Path | None:
        """A dataset's folder; None where it is not on this machine."""
        folder = self.data / dataset
        return folder if (folder / "corpus.jsonl").exists() else None


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program that does the work, in a process of its own."""

    name: str
    target: str
    """``module:Class`` of a `benchmarks.runner.worker.Task`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the class is made with; JSON-able."""
    environment: str = ""
    """Which of the peers' environments it runs in; the empty name is the harness's own."""
    packages: tuple[str, ...] = ()
    """Whose versions stand below the table."""


def no_quality(answers: Mapping[str, Answer]) -> Quality:
    """For work whose result is beyond doubt."""
    return {}


@dataclass(frozen=True, slots=True)
class Contest:
    """The first contestant is ours, the one that the others' seconds are divided by."""

    title: str
    contestants: Sequence[Contestant]
    quality: Callable[[Mapping[str, Answer]], Quality] = no_quality
    rate: tuple[str, int] | None = None
    """What is counted per second, and how many of it a round holds."""
    notes: Sequence[str] = ()
    """Sentences below the table."""

    def among(self, names: Sequence[str]) -> Contest:
        """The same with ours, and of the others those that have one of these in their names; with all if none."""
        chosen = [each for each in self.contestants[1:] if not names or any(name in each.name for name in names)]
        return replace(self, contestants=[self.contestants[0], *chosen])


def figure(value: float, digits: int = 4) -> str:
    """A difference or a share, as the tables show it."""
    return "0" if value == 0 else f"{value:.{digits}f}" if abs(value) >= 10**-digits else f"{value:.1e}"


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Rows [n, d] scaled to length 1, in float64."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, np.finfo(np.float64).tiny)
