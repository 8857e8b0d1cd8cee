"""Leaderboards, comparisons and reports, which another distribution makes: it comes in through an entry point."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.types import UserError

if TYPE_CHECKING:
    import pandas

GROUP = "harness.reports"
"""Group of the entry point of a module with the functions of `Reporting`."""
MEASURE = "nDCG@10"


class Comparison(Protocol):
    """Models compared query by query."""

    def frame(self) -> pandas.DataFrame:
        """One row per model and dataset: means, difference, its interval, wins, ties, losses and p-values."""
        ...

    def markdown(self) -> str:
        """What ``harness compare`` prints."""
        ...


class Reporting(Protocol):
    """What is made of a folder of results; ``only`` restricts it to these (model, dataset) labels."""

    def leaderboard(self, root: Path, only: Collection[tuple[str, str]] | None) -> pandas.DataFrame:
        """The scores, best model first."""
        ...

    def html(self, root: Path, only: Collection[tuple[str, str]] | None) -> str:
        """The scores as a table for a notebook."""
        ...

    def report(self, root: Path, form: str, only: Collection[tuple[str, str]] | None, baseline: str | None) -> str:
        """What ``harness report`` prints."""
        ...

    def compare(
        self, root: Path, models: Sequence[str], datasets: Sequence[str], measure: str, queries: int
    ) -> Comparison:
        """What ``harness compare`` finds."""
        ...


@cache
def reporting() -> Reporting:
    """The installed implementation. UserError if none is installed."""
    found = [*entry_points(group=GROUP)]
    if not found:
        raise UserError(
            "No package that makes reports is installed; type: pip install --force-reinstall retrieval-harness"
        )
    made: Any = found[0].load()
    return made  # type: ignore[no-any-return]


def compare(
    results: str | os.PathLike[str],
    *models: str,
    datasets: Sequence[str] = (),
    metric: str = MEASURE,
    queries: int = 3,
) -> Comparison:
    """Compares stored results of models query by query, as ``harness compare`` does; the first is the baseline.

    Args:
        results: The folder of results.
        models: Two or more models, as reports call them.
        datasets: Only these datasets.
        metric: One that the results hold.
        queries: How many of the queries that moved most are shown for each dataset.

    Returns:
        The comparison: ``frame()``, ``markdown()``; in a notebook it is shown as tables.

    Raises:
        UserError: A model, dataset or metric has no result.

    Example:
        >>> import harness
        >>> documents = {"d1": "Bread is baked from flour.", "d2": "The moon circles the earth."}
        >>> data = (documents, {"q1": "moon and earth"}, {"q1": {"d2": 1}})
        >>> _ = harness.evaluate(["bm25", "bm25:k1=2"], {"tiny": data}, progress=False)
        >>> found = harness.compare("results", "bm25", "bm25:k1=2").frame()
        >>> found[["model", "against", "difference", "ties"]].to_dict("records")
        [{'model': 'bm25:k1=2.0', 'against': 'bm25', 'difference': 0.0, 'ties': 1}]
    """
    return reporting().compare(Path(results).expanduser(), models, datasets, metric, queries)
