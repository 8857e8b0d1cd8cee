"""A comparison: a task, its competitors and the quality of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
"""Root of the repository."""
Size = Literal["small", "usual", "whole"]
Answer = Mapping[str, NDArray[Any]]
"""A competitor's results, by name."""
Quality = Mapping[str, Mapping[str, str]]
"""Competitor -> column -> figure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Paths and sizes of a run."""

    work: Path
    """Synthetic data, exported models and answers; synthetic data are removed at the end."""
    size: Size = "usual"
    data: Path = ROOT.parent / "shared" / "data"
    """Folders in BEIR format, by name."""
    peers: Path = ROOT / ".venv-peers"
    """The peers' environments, by name."""
    threads: int = 1
    sample: int | None = None
    """Documents of SciFact to encode; None to use the size."""

    def pick(self, small: int, usual: int, whole: int) -> int:
        """Select a value by size."""
        return {"small": small, "usual": usual, "whole": whole}[self.size]

    def folder(self, dataset: str) -> Path | None:
        """A dataset's folder; None where it does not exist."""
        folder = self.data / dataset
        return folder if (folder / "corpus.jsonl").exists() else None


@dataclass(frozen=True, slots=True)
class Competitor:
    """One program, in a process of its own."""

    name: str
    target: str
    """``module:Class`` of a `benchmarks.runner.worker.Task`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, JSON-serialisable."""
    environment: str = ""
    """Name of its environment; empty for the harness's own."""
    packages: tuple[str, ...] = ()
    """Packages whose versions are listed below the table."""


def no_quality(answers: Mapping[str, Answer]) -> Quality:
    """For tasks without a quality measure."""
    return {}


@dataclass(frozen=True, slots=True)
class Contest:
    """A comparison; the first competitor is the harness, which the others' times are divided by."""

    title: str
    competitors: Sequence[Competitor]
    quality: Callable[[Mapping[str, Answer]], Quality] = no_quality
    rate: tuple[str, int] | None = None
    """Unit of the throughput and its count per round."""
    notes: Sequence[str] = ()
    """Sentences below the table."""

    def among(self, names: Sequence[str]) -> Contest:
        """Restrict the peers to names that contain one of these; no restriction if empty."""
        chosen = [each for each in self.competitors[1:] if not names or any(name in each.name for name in names)]
        return replace(self, competitors=[self.competitors[0], *chosen])

    def noting(self, note: str) -> Contest:
        """The same with a further note."""
        return replace(self, notes=[*self.notes, note])


def figure(value: float, digits: int = 4) -> str:
    """Format a difference or share for the tables."""
    return "0" if value == 0 else f"{value:.{digits}f}" if abs(value) >= 10**-digits else f"{value:.1e}"


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Rows [n, d] scaled to length 1, in float64."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, np.finfo(np.float64).tiny)
