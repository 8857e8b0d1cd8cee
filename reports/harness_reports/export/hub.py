"""Stored results as the hub's evaluation files: ``MODEL/.eval_results/TASK.yaml``, for a model's repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.results.mteb_tasks import tasks
from harness.results.store import slug
from harness.storage.atomic import write_file
from harness_reports.data.leaderboard import MEASURE, Cell
from harness_reports.export.mteb import base, split, task_name


def write_hub(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Writes a file for every model and every dataset that is a benchmark on the hub; returns them."""
    entries: dict[Path, list[str]] = {}
    for cell in cells:
        if on_the_hub(cell):
            path = folder / slug(cell.model) / ".eval_results" / f"{task_name(cell)}.yaml"
            entries.setdefault(path, []).append(_entry(cell))
    for path, found in entries.items():
        text = "".join(found)
        write_file(path, lambda stream, text=text: stream.write(text.encode()))  # type: ignore[misc]
    return list(entries)


def on_the_hub(cell: Cell) -> bool:
    """Whether the hub has a repository that this dataset's results are told of."""
    return base(cell) in tasks() and bool(tasks()[base(cell)].dataset)


def _entry(cell: Cell) -> str:
    """One entry of YAML's list, values as JSON (which YAML holds). MTEB's ids of tasks; nDCG@10 x 100, as it has it.

    Without a revision: nothing shows that the data read was the content of a commit of that repository.
    """
    name = task_name(cell)
    entry: dict[str, Any] = {
        "dataset": {"id": tasks()[base(cell)].dataset, "task_id": f"{name}_default_{split(cell)}"},
        "value": round(100 * cell.get("measures", MEASURE), 5),
    }
    if finished := cell.get("manifest", "run", "finished"):
        entry["date"] = datetime.fromisoformat(finished).date().isoformat()
    entry["notes"] = _notes(cell)
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in entry.items()]
    return "- " + "  ".join(lines)


def _notes(cell: Cell) -> str:
    own = f"{MEASURE} x 100 by retrieval-harness, {cell.model}, key {str(cell.get('manifest', 'key'))[:12]}"
    remarks = [
        f"imported from {'a TREC run' if cell.imported == 'run' else 'results of MTEB'}" if cell.imported else "",
        "trained on this dataset" if cell.in_domain else "",
    ]
    return "; ".join(filter(None, [own, *remarks]))
