"""The result of one model on one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.metrics.depth import DEPTH
from harness.results.schema import Result

MEASURE = "nDCG@10"
"""The measure that a leaderboard shows, averages and orders by."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A stored result; or the mean over several, of the seeds of one experiment."""

    result: Result
    folder: Path | None = None
    """Where it is stored; None for a mean."""
    row: str = ""
    """The label of its model here, if it differs from the stored one."""
    members: tuple[Cell, ...] = ()
    """The cells that it is the mean of."""

    def get(self, *keys: str) -> Any:
        """The value under these nested keys; None if one of them is missing."""
        found: Any = self.result
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def model(self) -> str:
        """Label of the model."""
        return self.row or str(self.result["model"])

    @property
    def dataset(self) -> str:
        """Label of the dataset, with the split and limit that set it apart."""
        return str(self.result["dataset"])

    @property
    def ok(self) -> bool:
        """Whether it was finished; else its ``reason`` says why not."""
        return bool(self.result["status"] == "ok")

    @property
    def partial(self) -> bool:
        """Whether it is over some of the queries only; such a cell is in no average."""
        return bool(self.get("partial"))

    @property
    def unusual(self) -> bool:
        """Whether its test has another setting than the dataset's own; such a cell is in no average either."""
        return bool(self.get("manifest", "dataset", "unusual"))

    @property
    def apart(self) -> bool:
        """Whether it is shown separately from results on whole datasets with their usual setting."""
        return self.partial or self.unusual

    @property
    def searched_otherwise(self) -> bool:
        """Whether it is of an approximate index or of an unusual depth: the model has another cell for its vectors."""
        depth = self.get("manifest", "k")
        return bool(self.get("index")) or (not self.imported and isinstance(depth, int) and depth != DEPTH)

    @property
    def unanswered(self) -> float:
        """Share of the judged queries that the run has no document for."""
        missing, queries = self.get("counts", "missing"), self.get("counts", "queries")
        known = isinstance(missing, int | float) and isinstance(queries, int | float) and queries > 0
        return float(missing / queries) if known else 0.0

    @property
    def in_domain(self) -> bool:
        """Whether the model was trained on the dataset's judgements."""
        return bool(self.get("in_domain"))

    @property
    def imported(self) -> str:
        """Where it was imported from: ``run`` (a TREC run), ``mteb`` (no per-query scores); empty: measured here."""
        return str(self.get("imported") or "")

    @property
    def score(self) -> float | None:
        """Its `MEASURE`, from 0 to 1; None when it failed or did not measure that."""
        return self.get("measures", MEASURE) if self.ok else None


Cells = Mapping[tuple[str, str], Cell]
"""(model, dataset) -> cell."""
