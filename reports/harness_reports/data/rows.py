"""A leaderboard as flat rows, one per cell, for pandas and for JSON: full precision, nothing formatted."""

from __future__ import annotations

import csv
import io
import unicodedata
from typing import Any

from harness.cli.terminal import OBEYED
from harness.results.frame import flat_record
from harness_reports.data.leaderboard import MEASURE, Leaderboard

FORMULA = "=+-@"
"""Characters that begin a formula in a spreadsheet, in any of Unicode's widths."""
IGNORED = ("Cc", "Cf", "Zl", "Zp", "Zs")
"""Categories of characters that may precede it: blanks, control characters, marks such as U+FEFF."""


def rows(board: Leaderboard) -> list[dict[str, Any]]:
    """One row per cell, all with the same columns: names of keys joined by dots, None where a cell lacks one."""
    return flat_record(cell.result | {"model": cell.model} for cell in board.rows())


def csv_text(board: Leaderboard) -> str:
    """The rows as RFC 4180 has it: a header, CRLF, quotes where needed, numbers that read back exactly."""
    table = rows(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in table)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """Text that is safe for spreadsheets and terminals; numbers are unchanged.

    Formulas get an apostrophe in front, and control characters become U+FFFD.
    """
    if not isinstance(value, str):
        return value
    first = next((c for c in value if unicodedata.category(c) not in IGNORED), "")
    formula = unicodedata.normalize("NFKC", first)[:1] in (*FORMULA,) or value[:1] in ("\t", "\r")
    return ("'" if formula else "") + OBEYED.sub("\ufffd", value)


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
    skipped = [{"path": one.place, "reason": one.reason} for one in board.skipped]
    return {
        "rows": rows(board),
        "averages": averages,
        "mixed": sorted(board.mixed),
        "disputed": disputed,
        "seeds": seeds,
        "skipped": skipped,
    }
