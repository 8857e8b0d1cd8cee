"""Finds the stored results of a checkpoint: those whose model had identical files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.metrics.depth import DEPTH
from harness.results.schema import Result
from harness.results.store import ResultStore, Unreadable

MEASURE = "nDCG@10"
_APART = ("path", "run", "experiment", "device", "dtype")
"""Options that do not affect results or are listed separately."""


class StoredScores(NamedTuple):
    """One dataset's result, as stored."""

    dataset: str
    split: str
    measures: dict[str, float]
    isotropy: float | None
    queries: int
    partial: bool
    in_domain: bool
    dtype: str
    options: dict[str, Any]
    """Options that the user changed, and lossy vector storage."""
    key: str
    """Key of the cell."""
    finished: str

    @property
    def plain(self) -> bool:
        """Whether it covers all queries with default options."""
        return not self.partial and not self.options

    @property
    def score(self) -> float | None:
        """Value of `MEASURE`, if measured."""
        return self.measures.get(MEASURE)


def measured(root: Path, files: Mapping[str, str], trained_on: Iterable[str]) -> list[StoredScores]:
    """Results under ``root`` of the model with these files (name -> SHA-256), sorted by dataset and relevance."""
    saw = set(trained_on)
    stored = (result for result in ResultStore(root).scan() if not isinstance(result, Unreadable))
    found = [_measured(result, saw) for result in stored if _belongs(result, files)]
    found.sort(key=lambda cell: cell.finished, reverse=True)
    found.sort(key=lambda cell: (cell.dataset, not cell.plain, cell.dtype != "float32"))
    return found


def _belongs(result: Result, files: Mapping[str, str]) -> bool:
    model = result["manifest"].get("model") or {}
    return (
        result["status"] == "ok"
        and model.get("kind") == "dense"
        and not model.get("members")
        and "index" not in result["manifest"]  # approximate search also measures the index
        and result["manifest"].get("k", DEPTH) == DEPTH  # the row with the default depth has the same scores
        and (model.get("fingerprint") or {}).get("files") == dict(files)
    )


def _measured(result: Result, saw: set[str]) -> StoredScores:
    manifest, name = result["manifest"], result["manifest"]["dataset"]["name"]
    changed, storage = manifest["model"].get("passed", {}), manifest["model"].get("storage", "float32")
    stored = {} if storage == "float32" else {"storage": storage}
    return StoredScores(
        result["dataset"],
        result["split"],
        result["measures"],
        result["geometry"].get("documents", {}).get("isotropy"),
        int(result["counts"]["queries"]),
        bool(result.get("partial")),
        bool(result.get("in_domain")) or not saw.isdisjoint({name, name.partition("/")[0]}),
        str(manifest["model"]["fingerprint"].get("dtype")),
        {key: value for key, value in changed.items() if key not in _APART} | stored,
        manifest["key"],
        manifest["run"]["finished"],
    )


def standing(cells: Iterable[StoredScores]) -> dict[str, StoredScores]:
    """Dataset -> its representative result, for datasets evaluated on all queries."""
    chosen: dict[str, StoredScores] = {}
    for cell in cells:
        if cell.plain and cell.score is not None:
            chosen.setdefault(cell.dataset, cell)
    return chosen
