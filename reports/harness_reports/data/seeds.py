"""Training runs that differ in their seed alone, as one row: the mean over them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, cast

from harness.metrics.depth import DEPTH
from harness.results.schema import Result
from harness.storage.atomic import content_key
from harness_reports.data.cells import Cell, Cells

APART = ("path", "run", "experiment", "device")
"""Options that say which run it is, or do not change what was measured."""


@dataclass(slots=True)
class _Family:
    """Runs of one experiment under the same settings."""

    name: str
    seeds: dict[int, str] = field(default_factory=dict)
    """Seed -> model."""

    @property
    def models(self) -> tuple[str, ...]:
        """By seed."""
        return tuple(self.seeds[seed] for seed in sorted(self.seeds))


def fold(cells: Cells) -> tuple[dict[tuple[str, str], Cell], dict[str, tuple[str, ...]]]:
    """The cells with one more for every experiment of several seeds and every dataset; and row -> its models.

    A model belongs to an experiment when each of its cells was made by one run. Of two results with the same seed the
    first by name stands for it. A dataset that lacks a seed has no mean, and its cell says how many there are.
    """
    families: dict[str, _Family] = {}
    for model in sorted({model for model, _ in cells}):
        runs = {_run(cell) for (owner, _), cell in cells.items() if owner == model}
        if len(runs) == 1 and (run := runs.pop()):
            key, name, seed = run
            families.setdefault(key, _Family(name)).seeds.setdefault(seed, model)
    several = [family for family in families.values() if len(family.seeds) > 1]
    rows: dict[str, tuple[str, ...]] = {}
    for family in several:
        alike = sum(other.name == family.name for other in several)
        apart = f", {'+'.join(map(str, sorted(family.seeds)))}" if alike > 1 else ""
        row = f"{family.name} (mean of {len(family.seeds)} seeds{apart})"
        while row in rows:
            row += "'"
        rows[row] = family.models
    means = {}
    for row, models in rows.items():
        for dataset in sorted({dataset for model, dataset in cells if model in models}):
            means[row, dataset] = _mean(row, dataset, [cells.get((model, dataset)) for model in models])
    return {**cells, **means}, rows


def _run(cell: Cell) -> tuple[str, str, int] | None:
    """Key of the experiment and its settings, its name, and the seed; None if it is not a trained run."""
    model = cell.get("manifest", "model") or {}
    training = model.get("training") or {}
    experiment, seed = training.get("experiment"), training.get("seed")
    if not experiment or not isinstance(seed, int) or model.get("members") or cell.row:
        return None
    settings = {key: value for key, value in (training.get("settings") or {}).items() if key != "seed"}
    passed = {key: value for key, value in (model.get("passed") or {}).items() if key not in APART}
    index = cell.get("manifest", "index") or {}
    way = [str(index[part]) for part in ("factory", "search") if index.get(part)]
    depth = cell.get("manifest", "k")
    way += [f"depth={depth}"] if cell.searched_otherwise and depth != DEPTH else []
    data = cell.get("manifest", "model", "training", "training_set", "key")
    base = (training.get("identity") or {}).get("base") or training.get("base")
    identity = [experiment, settings, data, base, passed, model.get("storage"), way, training.get("step")]
    rest = re.sub(r",?seed-?\d+$", "", str(training.get("run") or ""))
    options = ",".join([*filter(None, [rest]), *(f"{key}={value}" for key, value in sorted(passed.items()))])
    return content_key(identity), "|".join([str(experiment), *way]) + (f":{options}" if options else ""), seed


def _mean(row: str, dataset: str, found: Sequence[Cell | None]) -> Cell:
    """One dataset's mean over the seeds."""
    there = [cell for cell in found if cell is not None]
    done = [cell for cell in there if cell.ok]
    whole = len(done) == len(found)
    first = there[0]
    isotropy = [cell.get("geometry", "documents", "isotropy") for cell in done]
    result: dict[str, Any] = {
        "model": row,
        "dataset": dataset,
        "split": first.get("split"),
        "status": "ok" if whole else f"{len(done)} of {len(found)} seeds",
        "reason": None if whole else "not every seed was measured",
        "partial": first.partial,
        "in_domain": any(cell.in_domain for cell in there),
        "command": "",
        "measures": {},
        "geometry": {},
        "seconds": {},
        "counts": first.get("counts"),
        "manifest": {"dataset": first.get("manifest", "dataset"), "seeds": [cell.model for cell in done]},
    }
    if whole:
        names = [name for name in first.get("measures") if all(name in cell.get("measures") for cell in done)]
        result["measures"] = {name: fsum(cell.get("measures", name) for cell in done) / len(done) for name in names}
        if all(isinstance(value, int | float) for value in isotropy):
            result["geometry"] = {"documents": {"isotropy": fsum(isotropy) / len(isotropy)}}
    return Cell(cast(Result, result), members=tuple(done))
