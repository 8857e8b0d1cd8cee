"""Does the geometry of vectors predict what they lose by compression? Rank correlations over stored ladders.

A ladder is what `harness compress` stores beside a result. The loss of a setting is the share of nDCG@10 that it costs
against the full vectors. Correlations are those of `isotropy_vs_ndcg`: across models, and across the transforms of a
model, ranks taken within a dataset, intervals and tests counting models or kinds of transform. One question is asked in
many forms here, so the p values are corrected together (Holm), over both scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.evaluation.compression import LadderRow, Setting, read_rows
from harness.metrics.significance import holm
from harness_reports.analysis.isotropy_vs_ndcg import Association, Point, association, numbers, points
from harness_reports.data.leaderboard import Cell, Leaderboard
from harness_reports.render.markdown import escape

FIGURES: Mapping[str, str] = {
    "isotropy": "isotropy",
    "isoscore": "IsoScore",
    "effective_rank_share": "effective rank / dimensions",
    "one_minus_mean_cosine": "1 - mean cosine",
}
"""Measure of the documents' geometry -> its name in a table."""
LOSSES: Mapping[str, Callable[[int], Setting]] = {
    "half of the dimensions": lambda dim: Setting(dim // 2, "float32", ""),
    "a quarter of the dimensions": lambda dim: Setting(dim // 4, "float32", ""),
    "int8": lambda dim: Setting(dim, "int8", ""),
    "binary": lambda dim: Setting(dim, "binary", ""),
    "binary, rescored": lambda dim: Setting(dim, "binary", "full"),
}
"""What is lost by -> the row of a ladder for vectors of that many dimensions."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Rank correlation of one measure of geometry with the loss by one kind of compression."""

    by: str
    """A key of `LOSSES`."""
    found: Association
    """Its ``p`` is not corrected."""
    holm: float | None = None
    """Its p, corrected for all that are shown."""


def losses(board: Leaderboard) -> list[Loss]:
    """The correlations by scope and kind of compression, over all datasets; only those with any ladder."""
    made = [
        Loss(by, association(own, scope, figure, None))
        for scope in ("models", "transforms")
        for by, setting in LOSSES.items()
        if (own := [point for point in _points(board, setting) if point.scope == scope])
        for figure in FIGURES
    ]
    tested = [loss.found.p for loss in made if loss.found.p is not None]
    adjusted = iter(holm(tested))
    return [Loss(loss.by, loss.found, None if loss.found.p is None else next(adjusted)) for loss in made]


def _points(board: Leaderboard, setting: Callable[[int], Setting]) -> Iterator[Point]:
    """The cells that have the row, each with its loss in place of the score."""
    for point in points(board):
        cell = board.cells[point.model, point.dataset]
        loss = _loss(cell, setting)
        if loss is not None:
            yield point._replace(score=loss, geometry=_geometry(cell))


def _loss(cell: Cell, setting: Callable[[int], Setting]) -> float | None:
    dim = cell.get("geometry", "documents", "d")
    return loss_in(read_rows(cell.folder), dim, setting) if cell.folder and isinstance(dim, int) else None


def loss_in(rows: Mapping[Setting, LadderRow], dim: int, setting: Callable[[int], Setting]) -> float | None:
    """The share of the score of full vectors [dim] that the row of a setting lost; None without the row."""
    row = rows.get(setting(dim))
    full = row.score - row.difference if row else 0.0
    return -row.difference / full if row and 0 < full <= 1 else None


def _geometry(cell: Cell) -> dict[str, float]:
    panel = cell.get("geometry", "documents") or {}
    found = {name: float(panel[name]) for name in FIGURES if isinstance(panel.get(name), int | float)}
    if isinstance(rank := panel.get("effective_rank"), int | float) and panel.get("d"):
        found["effective_rank_share"] = rank / panel["d"]
    return found


def sentence(found: Sequence[Loss]) -> str:
    """The answer to the question, scope by scope."""
    return " ".join(_answer(scope, [one for one in found if one.found.scope == scope]) for scope in _scopes(found))


def _scopes(found: Sequence[Loss]) -> list[str]:
    return list(dict.fromkeys(one.found.scope for one in found))


def _answer(scope: str, found: Sequence[Loss]) -> str:
    units = max(one.found.units for one in found)
    more = "s" * (units != 1)
    what = f"{units} model{more}" if scope == "models" else f"{units} kind{more} of transform"
    tested = [one for one in found if one.holm is not None]
    if not tested:
        return f"Across {what}, nothing can be said: it takes five before even a perfect order is more than chance."
    told = [one for one in tested if (one.holm or 0) < 0.05]
    if not told:
        return f"Across {what}, none of {len(tested)} correlations with the loss can be told from chance."
    best = max(told, key=lambda one: abs(one.found.rho or 0))
    direction = "the less" if (best.found.rho or 0) < 0 else "the more"
    return (
        f"Across {what}, {len(told)} of {len(tested)} correlations with the loss can be told from chance; the "
        f"strongest: the higher {FIGURES[best.found.figure]}, {direction} is lost by {best.by} "
        f"(rank correlation {best.found.rho or 0:+.2f})."
    )


def content(found: Sequence[Loss]) -> dict[str, Any]:
    """For JSON; empty without ladders."""
    listed = [
        {"loss_by": one.by, **asdict(one.found), "interval": one.found.interval.ends, "p_holm": one.holm}
        for one in found
    ]
    return {"compression": {"losses": listed, "sentence": sentence(found)}} if found else {}


COLUMNS = ("across", "lost by", "figure", "n", "cells", "rank correlation", "95% interval", "p", "p (Holm)")


def section(found: Sequence[Loss]) -> str:
    """Title, sentence, table and how to read it, in GitHub's Markdown."""
    from tabulate import tabulate

    shown = [
        [
            *(escape(text) for text in (one.found.scope, one.by, FIGURES[one.found.figure])),
            *(str(one.found.units), str(one.found.cells), *numbers(one.found)),
            "-" if one.holm is None else f"{one.holm:.3g}",
        ]
        for one in found
        if one.found.rho is not None
    ]
    sides = ["left"] * 3 + ["right"] * 6
    table = tabulate(shown, list(COLUMNS), tablefmt="pipe", colalign=sides, disable_numparse=True)
    note = (
        "The loss is the share of nDCG@10 that the compressed vectors cost (`harness compress`); a negative "
        "correlation says that vectors with a higher figure lose less. Ranks are taken within a dataset; intervals and "
        "tests count models or kinds of transform, not cells."
    )
    parts = ["## Geometry and loss by compression", escape(sentence(found)), *([table, note] if shown else [])]
    return "\n\n".join(parts) + "\n"
