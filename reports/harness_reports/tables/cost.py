"""The table of what every cell took."""

from __future__ import annotations

import re

from harness.planning.devices import devices
from harness_reports.data.leaderboard import Cell, Leaderboard
from harness_reports.tables.model import Column, Figure, Table
from harness_reports.tables.provenance import sources

PHASES = ("encode_documents", "encode_queries", "index", "search", "measure", "geometry")
"""Order of the columns; phases not named here come after."""
CAPTION = (
    "Seconds of wall time; those of encoding and indexing are what the stored vectors or index once took, maybe in "
    "an earlier run. Documents and document tokens per second of encoding (lexical models: of indexing). Peak "
    "memory is that of the whole process up to the cell's end. A model made of others has their sums; each one's "
    "share is in its result.json."
)
KWH = "kWh: as the run recorded it."
USD = (
    "USD: the seconds at the price of an hour of the machine's GPUs, as harness plan has it; encoding is counted as if "
    "it had run there."
)
UNKNOWN = "Energy and price are not in the table: no run recorded its energy or ran on a device whose price is known."


def cost(board: Leaderboard) -> list[Table]:
    """Seconds per phase, speeds, memory and processor of every cell that was finished."""
    cells = [cell for cell in board.rows() if cell.ok]
    found = {phase for cell in cells for phase in cell.get("seconds") if "/" not in phase}
    phases = [*(p for p in PHASES if p in found), *sorted(found - {*PHASES})]
    energy, price = [_energy(cell) for cell in cells], [_price(cell) for cell in cells]
    money = [(Column("kWh", ".4f"), energy), (Column("USD", ".4f"), price)]
    known = [(column, values) for column, values in money if any(value is not None for value in values)]
    columns = [
        Column("model"),
        Column("dataset"),
        *(Column(f"{phase.replace('_', ' ')} s", ".2f") for phase in phases),
        Column("documents/s", ".1f"),
        Column("tokens/s", ".1f"),
        Column("peak GiB", ".2f", 1 / 2**30),
        *(column for column, _ in known),
        Column("processor"),
        Column("dtype"),
    ]
    rows = [_row(cell, columns, phases, [values[n] for _, values in known]) for n, cell in enumerate(cells)]
    names = {column.name for column, _ in known}
    told = [
        CAPTION,
        *([KWH] if "kWh" in names else []),
        *([USD] if "USD" in names else []),
        *([] if names else [UNKNOWN]),
    ]
    return [Table("cost", "Cost", told, columns, rows)] if rows else []


def _row(cell: Cell, columns: list[Column], phases: list[str], money: list[float | None]) -> list[Figure]:
    values = [
        cell.model,
        cell.dataset,
        *(cell.get("seconds", phase) for phase in phases),
        *_speeds(cell),
        cell.get("manifest", "run", "peak_memory_bytes") or None,
        *money,
        processor(cell),
        cell.get("manifest", "model", "fingerprint", "dtype"),
    ]
    origin = sources(cell)
    return [
        column.figure(value, sources=origin if not place else ())
        for place, (column, value) in enumerate(zip(columns, values, strict=True))
    ]


def _energy(cell: Cell) -> float | None:
    """kWh, where the run recorded it."""
    found = cell.get("manifest", "run", "energy_kwh")
    return float(found) if isinstance(found, int | float) else None


def _price(cell: Cell) -> float | None:
    """USD of all phases on the machine's GPUs; None where the price of one is not known."""
    gpus = cell.get("manifest", "run", "machine", "gpus") or ()
    hourly = [
        next((d.price for d in devices().values() if re.search(rf"\b{d.name}\b", str(gpu), re.IGNORECASE)), None)
        for gpu in gpus
    ]
    known = [price for price in hourly if price is not None]
    seconds = sum(spent for phase, spent in cell.get("seconds").items() if "/" not in phase)
    return seconds / 3600 * sum(known) if known and len(known) == len(hourly) else None


def _speeds(cell: Cell) -> tuple[float | None, float | None]:
    """Documents and tokens per second; None where not known."""
    spent = cell.get("seconds", "encode_documents") or cell.get("seconds", "index")
    documents, tokens = (cell.get("counts", what) for what in ("documents", "document_tokens"))
    return documents / spent if documents and spent else None, tokens / spent if tokens and spent else None


def processor(cell: Cell) -> str:
    """What the cell was measured on; empty where that is not recorded."""
    machine = ("manifest", "run", "machine")
    return ", ".join(map(str, filter(None, [cell.get(*machine, "processor"), *(cell.get(*machine, "gpus") or ())])))
