"""Runs and judgements that do not belong together: found before the run is read whole, and why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.metrics.ranking import COLUMNS
from harness.storage.columns import numbered_lines
from harness.types import Qrels, UserError


def unjudged(run_path: Path, qrels: Qrels) -> list[str]:
    """The run's queries if none of them is judged; empty if one is, or if `read_run` will reject the file."""
    met: dict[str, None] = {}
    with suppress(UserError):
        for _, line in numbered_lines(run_path):
            columns = line.split(None, COLUMNS)
            query = columns[0].decode(errors="replace")
            if query in qrels or (not met and len(columns) < COLUMNS):
                return []
            if not query.startswith("#"):
                met[query] = None
        return list(met)
    return []


def mismatch(run: object, met: Sequence[str], named: str, qrels: Qrels) -> str:
    """The error message for a run in which no query (``met``) is judged."""
    judged = list(qrels)
    if {text.strip().lstrip("0").lower() for text in met} & {text.strip().lstrip("0").lower() for text in judged}:
        cause = "the ids differ in leading zeros or upper case only"
    elif set(met) & {doc_id for judgements in qrels.values() for doc_id in judgements}:
        cause = "the run's queries are documents in the qrels: its columns may be swapped"
    else:
        cause = "they are probably of different datasets or splits"
    return (
        f"{run} (queries {', '.join(met[:5])}{' ...' if len(met) > 5 else ''}) and {named} "
        f"(queries {', '.join(judged[:5])}{' ...' if len(judged) > 5 else ''}) share no query id: {cause}; "
        f"name the qrels that belong to this run."
    )
