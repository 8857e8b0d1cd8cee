"""What the page embeds: the report's JSON, and eigenvalues, curves and per-query scores in compressed blocks."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics import sparse_geometry
from harness.metrics.geometry import DEFINITIONS
from harness.storage.records import read_record
from harness.types import UserError
from harness_reports.data.leaderboard import MEASURE, Leaderboard
from harness_reports.data.rows import content
from harness_reports.html.model_facts import facts

if TYPE_CHECKING:
    from harness_reports.data.per_query import Evidence

LIMITS = (10_000, 6_000, 4_000, 2_500, 1_500, 800, 300)
"""Queries of a dataset whose scores are embedded: the first of these under which all fit into `SCORE_BYTES`."""
SCORE_BYTES = 7_000_000
TEXTS = 300
"""Queries of a dataset whose texts are embedded: those on which the models differ most."""
TEXT_LENGTH = 200
"""Characters of a query's text."""
EIGENVALUES = 96
"""Eigenvalues of a spectrum that are embedded, at ranks evenly spaced by their logarithm."""
CURVES = 200
"""Points of a training curve, evenly spaced; every measurement on the dev set is among them."""


@dataclass(frozen=True, slots=True)
class QueryTable:
    """Every query of a dataset under every model that has per-query scores of it."""

    dataset: str
    models: list[str]
    ids: list[str]
    values: NDArray[np.float64]
    """[models, queries]; NaN where a model has no score."""
    texts: Mapping[str, str]


def embedded(
    board: Leaderboard, evidence: Evidence | None, told: Mapping[str, Any] | None = None, runs: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The JSON of the page, and the compressed blocks that it numbers under ``blocks``.

    Of ``told``, the report as JSON, only the table of scores and the notes are kept; the rows contain the rest.
    """
    tables = query_tables(board, evidence) if evidence else []
    for limit in LIMITS:
        query_blocks = [_block(_query_content(table, limit)) for table in tables]
        if sum(map(len, query_blocks)) <= SCORE_BYTES:
            break
    named = {f"queries {table.dataset}": block for table, block in zip(tables, query_blocks, strict=True)}
    named |= {"spectra": _block(spectra(board)), "curves": _block(curves(runs) if runs else [])}
    report = content(board)
    cells = board.rows()
    return {
        **report,
        "rows": _split(report["rows"]),
        "scores": _scores(told) if told else None,
        "notes": told["notes"] if told else None,
        "commands": [str(cell.get("command") or "") for cell in cells],
        "measure": MEASURE,
        "models": list(board.models),
        "facts": facts(board),
        "datasets": list(board.datasets),
        "partial_datasets": list(board.partial_datasets),
        "groups": {
            average.name.split(" (")[0]: average.labels
            for average in board.averages
            if average.group and {*average.labels} != {*board.datasets}
        },
        "definitions": {**DEFINITIONS, **sparse_geometry.DEFINITIONS},
        "ties": sorted({str(cell.get("manifest", "ties")) for cell in cells if cell.get("manifest", "ties")}),
        "dataset_notes": {
            cell.dataset: [str(note) for note in cell.get("manifest", "dataset", "notes") or ()] for cell in cells
        },
        "limits": {"queries": limit, "texts": TEXTS, "characters": TEXT_LENGTH, "eigenvalues": EIGENVALUES},
        "query_models": {table.dataset: table.models for table in tables},
        "blocks": list(named),
    }, list(named.values())


def _split(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as column names and values, so that no name is repeated; NaN and infinity become None."""
    names = list(rows[0])
    values = [
        [None if isinstance(v, float) and not isfinite(v) else v for v in (row[name] for name in names)] for row in rows
    ]
    return {"columns": names, "values": values}


def _scores(told: Mapping[str, Any]) -> dict[str, Any] | None:
    for table in told["tables"]:
        if table["table"] == "scores":
            rows = [[{k: v for k, v in figure.items() if k != "sources"} for figure in row] for row in table["rows"]]
            return {"columns": table["columns"], "rows": rows}
    return None


def query_tables(board: Leaderboard, evidence: Evidence) -> list[QueryTable]:
    """Per-query scores by dataset, those of the union of the models' queries."""
    tables = []
    for dataset in (*board.datasets, *board.partial_datasets):
        found = {model: scores for model in board.models if (scores := evidence.scores(model, dataset, MEASURE))}
        place: dict[str, int] = {}
        for scores in found.values():
            for query in scores.ids:
                place.setdefault(query, len(place))
        if not place:
            continue
        values = np.full((len(found), len(place)), np.nan)
        for row, scores in zip(values, found.values(), strict=True):
            row[[place[query] for query in scores.ids]] = scores.values
        tables.append(QueryTable(dataset, list(found), list(place), values, evidence.texts(dataset)))
    return tables


def _query_content(table: QueryTable, limit: int) -> dict[str, Any]:
    """Scores as whole numbers of 1/10,000, what the page shows; texts by the query's place."""
    total = len(table.ids)
    kept = np.unique(np.linspace(0, total - 1, min(total, limit)).round().astype(np.intp))
    values = table.values[:, kept]
    known = np.isfinite(values)
    whole = np.where(known, np.rint(values * 10_000), -1).astype(int)
    spread = np.where(known, values, -1).max(axis=0) - np.where(known, values, 2).min(axis=0)
    ids = [table.ids[place] for place in kept]
    told = np.sort(np.argsort(-spread, kind="stable")[:TEXTS]).tolist()
    return {
        "total": total,
        "ids": ids,
        "scores": dict(zip(table.models, whole.tolist(), strict=True)),
        "texts": {place: _cut(table.texts.get(ids[place], "")) for place in told},
    }


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_LENGTH else line[: TEXT_LENGTH - 1] + "…"


def spectra(board: Leaderboard) -> list[dict[str, Any]]:
    """Eigenvalues of the document vectors' covariance, largest first, thinned; their mean is over all of them."""
    found = []
    for cell in board.rows():
        values = cell.get("geometry", "documents", "eigenvalues") if cell.ok else None
        numbers = [v for v in values if isinstance(v, int | float) and isfinite(v)] if isinstance(values, list) else []
        if values and len(numbers) == len(values):
            last = len(numbers) - 1
            ranks = np.unique(np.geomspace(1, len(numbers), min(len(numbers), EIGENVALUES)).round().astype(int) - 1)
            found.append(
                {
                    "model": cell.model,
                    "dataset": cell.dataset,
                    "d": last + 1,
                    "mean": sum(numbers) / len(numbers),
                    "ranks": (ranks + 1).tolist(),
                    "values": [numbers[rank] for rank in ranks.tolist()],
                }
            )
    return found


def curves(runs: Path) -> list[dict[str, Any]]:
    """Training curves of every run below a folder: RUNS/EXPERIMENT/RUN/run.json. UserError if there is none."""
    found = []
    for file in sorted(runs.glob("*/*/run.json")):
        try:
            record = read_record(file)
            points = [{k: v for k, v in p.items() if _finite(v)} for p in record["curves"] if _finite(p.get("step"))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if points and not file.parent.name.startswith("."):
            found.append({"run": f"{file.parent.parent.name}/{file.parent.name}", "points": _thinned(points)})
    if not found:
        raise UserError(f"There is no run with training curves in {runs}; name the folder that harness train wrote to.")
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = {*np.linspace(0, len(points) - 1, min(len(points), CURVES)).round().astype(int).tolist()}
    return [point for place, point in enumerate(points) if place in kept or MEASURE in point]


def plain_json(value: Any) -> str:
    """JSON that may stand inside a script element: it holds no ``<``, so nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _block(value: Any) -> str:
    """JSON, compressed, in letters."""
    packed = gzip.compress(plain_json(value).encode(), compresslevel=zlib.Z_DEFAULT_COMPRESSION, mtime=0)
    return base64.b64encode(packed).decode()
