"""A leaderboard as flat rows, one per cell, for pandas and for JSON: full precision, nothing formatted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from reports.leaderboard import MEASURE, Cell, Leaderboard

IDENTITY = ("model", "dataset", "split", "status", "partial", "in_domain", "reason", "command")
SECTIONS = ("measures", "index", "geometry", "seconds", "counts")
MANIFEST = (
    ("k",),
    ("key",),
    ("model", "kind"),
    ("model", "similarity"),
    ("model", "fingerprint", "dtype"),
    ("dataset", "name"),
    ("dataset", "limit"),
    ("dataset", "exclude_self"),
    ("run", "started"),
    ("run", "finished"),
    ("run", "peak_memory_bytes"),
    ("run", "machine", "processor"),
)
"""What of the manifest becomes a column, as in ``manifest.model.fingerprint.dtype``."""


def rows(board: Leaderboard) -> list[dict[str, Any]]:
    """One row per cell, all with the same columns: names of keys joined by dots, None where a cell lacks one."""
    cells = board.rows()
    columns: dict[str, None] = dict.fromkeys(IDENTITY)
    for section in SECTIONS:
        columns |= {name: None for cell in cells for name, _ in _scalars(section, cell.get(section) or {})}
    return [columns | _row(cell) for cell in cells]


def csv_text(board: Leaderboard) -> str:
    """The rows as RFC 4180 has it: a header, CRLF, quotes where needed, numbers that read back exactly."""
    table = rows(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def content(board: Leaderboard) -> dict[str, Any]:
    """The rows, the averages of every model (None unless every dataset is there), and what was skipped."""
    averages = [
        {
            "model": model,
            "average": average.name,
            "measure": MEASURE,
            "value": average.means[model].value,
            "measured": average.means[model].measured,
            "in_domain": average.means[model].in_domain,
            "datasets": list(average.datasets),
        }
        for average in board.averages
        for model in board.models
    ]
    disputed = [
        {"model": model, "dataset": dataset, "disagreement": told} for (model, dataset), told in board.disputed.items()
    ]
    seeds = {row: list(models) for row, models in board.seeds.items()}
    skipped = [{"path": str(one.path), "reason": one.reason} for one in board.skipped]
    return {
        "rows": rows(board),
        "averages": averages,
        "mixed": sorted(board.mixed),
        "disputed": disputed,
        "seeds": seeds,
        "skipped": skipped,
    }


def _row(cell: Cell) -> dict[str, Any]:
    row = {name: cell.get(name) for name in IDENTITY} | {"model": cell.model}
    for section in SECTIONS:
        row |= dict(_scalars(section, cell.get(section) or {}))
    return row | {".".join(("manifest", *keys)): cell.get("manifest", *keys) for keys in MANIFEST}


def _scalars(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of every number; lists (eigenvalues) and words about how a figure was taken are left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "definitions":
                yield from _scalars(f"{name}.{key}", inner)
    elif not isinstance(value, list):
        yield name, value
