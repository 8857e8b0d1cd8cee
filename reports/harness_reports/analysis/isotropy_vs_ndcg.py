"""Rank correlations of isotropy with nDCG@10 over stored cells, with intervals and tests.

Two questions, never mixed: across models (what a leaderboard shows, where models differ in much else), and across the
post-hoc transforms of one model (where nothing but the vectors' shape differs). Ranks are taken within a dataset (of
transforms: within a dataset and model), so that neither hard datasets nor good models can cause an association. The
same models appear in every dataset: many datasets are no more models, so intervals and tests count models (or kinds of
transform), which is careful where datasets disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from harness.metrics.correlation import FEWEST, profile_test, spearman_interval, stratified
from harness.metrics.significance import Interval
from harness_reports.data.leaderboard import MEASURE, Cell, Leaderboard
from harness_reports.render.markdown import escape

FIGURES: Mapping[str, str] = {
    "isotropy": "isotropy",
    "isotropy_debiased": "isotropy, debiased",
    "isoscore": "IsoScore",
    "one_minus_mean_cosine": "1 - mean cosine",
}
"""Measure of the documents' geometry -> its name in a table."""
Scope = Literal["models", "transforms"]


@dataclass(frozen=True, slots=True)
class Association:
    """Rank correlation of one measure of geometry with nDCG@10."""

    scope: Scope
    """Across models, or across the transforms of a model (itself among them)."""
    figure: str
    """A key of `FIGURES`."""
    dataset: str | None
    """None: over all datasets, ranks taken within each."""
    units: int
    """Models, or kinds of transform, that the largest dataset holds: the sample size of intervals and tests."""
    cells: int
    rho: float | None
    """From -1 to 1; None with fewer than three units, or if either side does not vary."""
    interval: Interval
    """From -inf to inf with fewer than five units, which allow no interval."""
    p: float | None
    """Two-sided, of no association; None with fewer than five units."""


class Point(NamedTuple):
    """One cell: nDCG@10 (or what else is ranked) and the geometry of its vectors."""

    scope: Scope
    dataset: str
    base: str
    """Of a transform, the model transformed; empty across models."""
    unit: str
    score: float
    geometry: Mapping[str, float]
    model: str
    """Label of the cell's model."""


def associations(
    board: Leaderboard, figures: Sequence[str] = tuple(FIGURES), *, each_dataset: bool = True
) -> list[Association]:
    """The associations by scope: over all datasets first, then dataset by dataset; only those with any cells.

    Cells count that are whole, finished and have the geometry of their documents: no approximate indexes and no unusual
    depths (whose vectors are those of the usual cell), no fusions, and no dataset of which the models saw different
    contents.
    """
    found = list(points(board))
    made: list[Association] = []
    for scope in ("models", "transforms"):
        own = [point for point in found if point.scope == scope]
        datasets = list(dict.fromkeys(point.dataset for point in own))
        for figure in figures if own else ():
            made.append(association(own, scope, figure, None))
            for dataset in datasets if each_dataset and len(datasets) > 1 else ():
                made.append(association([p for p in own if p.dataset == dataset], scope, figure, dataset))
    return made


def points(board: Leaderboard) -> Iterator[Point]:
    """The cells that count, each model that was transformed once in either scope; of folded seeds their mean alone."""
    shown = {*board.models}
    cells = [c for c in board.cells.values() if _counts(c) and c.dataset not in board.mixed and c.model in shown]
    origins = {(_origin(cell), cell.dataset) for cell in cells if _transform(cell)}
    for cell in sorted(cells, key=lambda cell: (board.datasets.index(cell.dataset), board.models.index(cell.model))):
        panel = cell.get("geometry", "documents")
        geometry = {name: float(panel[name]) for name in FIGURES if isinstance(panel.get(name), int | float)}
        origin, score = _origin(cell), float(cell.score or 0)
        if not _transform(cell):
            yield Point("models", cell.dataset, "", cell.model, score, geometry, cell.model)
        if (origin, cell.dataset) in origins:
            unit = cell.model.replace(f"({origin})", "(model)") if _transform(cell) else "model"
            yield Point("transforms", cell.dataset, origin, unit, score, geometry, cell.model)


def _counts(cell: Cell) -> bool:
    held = isinstance(cell.get("geometry", "documents"), dict)
    return cell.score is not None and held and not cell.searched_otherwise


def _transform(cell: Cell) -> bool:
    return bool(cell.get("manifest", "model", "kind") == "transform")


def _origin(cell: Cell) -> str:
    """Label of the model at the start of a chain of transforms."""
    label, model = cell.model, cell.get("manifest", "model") or {}
    while model.get("kind") == "transform" and model.get("members"):
        model = model["members"][0]
        label = str(model.get("label"))
    return label


def association(own: Sequence[Point], scope: Scope, figure: str, dataset: str | None) -> Association:
    """The rank correlation of one measure of geometry with the points' scores, ranks taken within each stratum."""
    there = [point for point in own if figure in point.geometry]
    strata = list(dict.fromkeys((point.dataset, point.base) for point in there))
    units = list(dict.fromkeys(point.unit for point in there))
    x, y = np.full((2, len(units), len(strata)), np.nan)
    for point in there:
        place = units.index(point.unit), strata.index((point.dataset, point.base))
        x[place], y[place] = point.geometry[figure], point.score
    columns = [np.isfinite(x[:, stratum]) for stratum in range(len(strata))]
    count = max((int(held.sum()) for held in columns), default=0)
    pairs = [(x[held, stratum], y[held, stratum]) for stratum, held in enumerate(columns)]
    rho = stratified(pairs) if count > 2 else None
    p = profile_test(x, y) if rho is not None and count >= FEWEST else None
    said = spearman_interval(rho or 0.0, 0 if rho is None else count)
    return Association(scope, figure, dataset, count, len(there), rho, said, p)


def sentence(found: Sequence[Association]) -> str:
    """The interpretation of the associations of `isotropy` over all datasets."""
    overall = {one.scope: one for one in found if one.dataset is None and one.figure == "isotropy"}
    said = [_across_models(overall["models"])] if "models" in overall else []
    if "transforms" in overall:
        said.append(_across_transforms(overall["transforms"]))
    return " ".join(said) or f"No finished cell has both {MEASURE} and the geometry of its documents."


def _across_models(one: Association) -> str:
    if one.p is None or one.rho is None:
        return (
            f"With {_count(one.units, 'model')} at most on one dataset, nothing can be said about whether isotropy "
            f"goes with {MEASURE} across models: it takes {FEWEST} before even a perfect order is more than chance, "
            f"however many datasets there are."
        )
    return (
        f"Across {_count(one.units, 'model')}, isotropy and {MEASURE} {_verdict(one)}; models differ in much besides "
        f"isotropy, so this is no effect of it."
    )


def _across_transforms(one: Association) -> str:
    if one.p is None or one.rho is None:
        return f"Across {one.units} transforms of a model nothing can be said yet; it takes {FEWEST}."
    return (
        f"Across {one.units} post-hoc transforms of a model's own vectors, isotropy and {MEASURE} {_verdict(one)}; "
        f"a trained encoder can do what a transform cannot, so this bounds nothing."
    )


def _verdict(one: Association) -> str:
    numbers = f"(rank correlation {one.rho:+.2f}, 95% interval {_ends(one.interval)}, p = {one.p:.2g})"
    if (one.p or 0) >= 0.05:
        return f"show no association that could be told from chance {numbers}"
    return f"{'rise together' if (one.rho or 0) > 0 else 'go against each other'} {numbers}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _ends(found: Interval) -> str:
    return "-" if found.ends is None else f"{found.low:+.2f} to {found.high:+.2f}"


COLUMNS = ("across", "figure", "dataset", "n", "cells", "rank correlation", "95% interval", "p")


def rows(found: Sequence[Association]) -> list[list[str]]:
    """The table's cells as shown, in the order of `COLUMNS`."""
    return [
        [
            one.scope,
            FIGURES[one.figure],
            one.dataset or "all",
            str(one.units),
            str(one.cells),
            *numbers(one),
        ]
        for one in found
    ]


def numbers(one: Association) -> list[str]:
    """Correlation, interval and p as shown."""
    rho = "-" if one.rho is None else f"{one.rho:+.3f}"
    return [rho, _ends(one.interval), "too few" if one.p is None else f"{one.p:.3g}"]


def section(found: Sequence[Association]) -> str:
    """Title, sentence, table and how to read it, in GitHub's Markdown."""
    from tabulate import tabulate

    sides = ["left"] * 3 + ["right"] * 5
    shown = [[escape(text) for text in row] for row in rows(found)]
    table = tabulate(shown, list(COLUMNS), tablefmt="pipe", colalign=sides, disable_numparse=True)
    note = (
        "n counts the models, or kinds of transform, of the dataset that has most; intervals and tests count these, "
        "not cells, because the same models meet in every dataset. Ranks are taken within a dataset. Among models of "
        "one dimension on one corpus, isotropy, its debiased value and IsoScore rank alike; across dimensions compare "
        "the last two."
    )
    parts = [f"## Isotropy and {escape(MEASURE)}", escape(sentence(found)), *([table, note] if found else [])]
    return "\n\n".join(parts) + "\n"
