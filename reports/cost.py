"""The table of what every cell took."""

from __future__ import annotations

from reports.leaderboard import Cell, Leaderboard
from reports.table import Column, Figure, Table

PHASES = ("encode_documents", "encode_queries", "index", "search", "measure", "geometry")
"""Order of the columns; phases not named here come after."""
CAPTION = (
    "Seconds of wall time; those of encoding and indexing are what the stored vectors or index once took, maybe in "
    "an earlier run. Documents and document tokens per second of encoding (lexical models: of indexing). Peak "
    "memory is that of the whole process up to the cell's end. A model made of others has their sums; each one's "
    "share is in its result.json."
)


def cost(board: Leaderboard) -> list[Table]:
    """Seconds per phase, speeds, memory and processor of every cell that was finished."""
    cells = [cell for cell in board.rows() if cell.ok]
    found = {phase for cell in cells for phase in cell.get("seconds") if "/" not in phase}
    phases = [*(p for p in PHASES if p in found), *sorted(found - {*PHASES})]
    columns = [
        Column("model"),
        Column("dataset"),
        *(Column(f"{phase.replace('_', ' ')} s", ".2f") for phase in phases),
        Column("documents/s", ".1f"),
        Column("tokens/s", ".1f"),
        Column("peak GiB", ".2f", 1 / 2**30),
        Column("processor"),
        Column("dtype"),
    ]
    rows = [_row(cell, columns, phases) for cell in cells]
    return [Table("cost", "Cost", [CAPTION], columns, rows)] if rows else []


def _row(cell: Cell, columns: list[Column], phases: list[str]) -> list[Figure]:
    values = [
        cell.model,
        cell.dataset,
        *(cell.get("seconds", phase) for phase in phases),
        *_speeds(cell),
        cell.get("manifest", "run", "peak_memory_bytes") or None,
        processor(cell),
        cell.get("manifest", "model", "fingerprint", "dtype"),
    ]
    return [column.figure(value) for column, value in zip(columns, values, strict=True)]


def _speeds(cell: Cell) -> tuple[float | None, float | None]:
    """Documents and tokens per second; None where not known."""
    spent = cell.get("seconds", "encode_documents") or cell.get("seconds", "index")
    documents, tokens = (cell.get("counts", what) for what in ("documents", "document_tokens"))
    return documents / spent if documents and spent else None, tokens / spent if tokens and spent else None


def processor(cell: Cell) -> str:
    """What the cell was measured on; empty where that is not recorded."""
    machine = ("manifest", "run", "machine")
    return ", ".join(map(str, filter(None, [cell.get(*machine, "processor"), *(cell.get(*machine, "gpus") or ())])))
