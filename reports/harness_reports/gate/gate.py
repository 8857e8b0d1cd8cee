"""Decides whether models are worse than their baseline by more than a margin, beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.datasets.catalog import unknown
from harness.metrics.significance import Interval
from harness.types import UserError
from harness_reports.compare.compare import Comparison, compare
from harness_reports.data.cells import Cell
from harness_reports.data.leaderboard import MEASURE, Leaderboard, leaderboard
from harness_reports.data.per_query import Evidence
from harness_reports.data.stored import StoredCells, read_cells

Verdict = Literal["worse", "no worse", "undecided", "missing", "not comparable"]
FAILING: tuple[Verdict, ...] = ("worse", "missing", "not comparable")


@dataclass(frozen=True, slots=True)
class Check:
    """One model on one dataset, or over all datasets, against its baseline; differences are model minus baseline."""

    model: str
    baseline: str
    dataset: str
    """Empty for the mean over the datasets."""
    verdict: Verdict
    difference: float | None = None
    interval: Interval | None = None

    def content(self) -> dict[str, Any]:
        """All values for JSON."""
        ends = self.interval.ends if self.interval else None
        names = ("model", "baseline", "dataset", "verdict", "difference")
        return {name: getattr(self, name) for name in names} | {"interval": ends}


@dataclass(frozen=True, slots=True)
class Gate:
    """All checks, and what follows from them."""

    checks: Sequence[Check]
    worse_than: float
    """The margin, on the scale of the measure (0.005 for half a point)."""
    measure: str
    undecided: Literal["pass", "fail"]
    warnings: Sequence[str]
    evidence: Evidence

    @property
    def passed(self) -> bool:
        """Whether no check fails."""
        return not any(self.fails(check) for check in self.checks)

    def fails(self, check: Check) -> bool:
        """Whether a check fails, with what ``undecided`` says."""
        return check.verdict in FAILING or (check.verdict == "undecided" and self.undecided == "fail")


def gate(
    results: Path,
    baseline: Path,
    worse_than: float,
    *,
    models: Sequence[str] = (),
    baseline_model: str | None = None,
    datasets: Sequence[str] = (),
    measure: str = MEASURE,
    undecided: Literal["pass", "fail"] = "pass",
) -> Gate:
    """Compares every model with its baseline on every dataset that the baseline has, and over all of them.

    A model is worse on a dataset if the whole interval of the difference is below minus the margin, and the difference
    is significant after the correction for all datasets of the model. It is no worse if the whole interval is above
    minus the margin. Otherwise the queries cannot tell.

    Args:
        results: Folder with the results to check.
        baseline: Folder with the results to compare with; it may be the same.
        worse_than: The loss that is tolerated, on the scale of the measure.
        models: Labels in ``results``; none: every model that has a namesake in ``baseline``, or the only one.
        baseline_model: The label in ``baseline`` that each of them is compared with; None: the same label.
        datasets: Labels; none: all that the baseline has.
        measure: Its name.
        undecided: Whether what the queries cannot tell passes or fails.

    Raises:
        UserError: For unknown names, and where there is nothing to compare.
    """
    new, old = read_cells(results), read_cells(baseline)
    pairs = _pairs(new, old, models, baseline_model, results, baseline)
    evidence = Evidence(_joined(new, old, pairs, results))
    checks, warnings = [], dict[str, None]()
    for model, against in pairs.items():
        known = [dataset for owner, dataset in old.cells if owner == against]
        for dataset in datasets:
            if dataset not in known:
                raise UserError(unknown(f"result of {against} on a dataset", dataset, known, f" in {baseline}"))
        found = compare(evidence, [_row(against), model], datasets, measure=measure, moves=0)
        expected = datasets or [d for d in known if not old.cells[against, d].apart] or found.datasets
        checks += _checks(found, evidence.board, model, against, expected, worse_than)
        warnings |= dict.fromkeys(found.warnings)
    return Gate(checks, worse_than, measure, undecided, [*warnings], evidence)


def _pairs(
    new: StoredCells, old: StoredCells, models: Sequence[str], baseline_model: str | None, results: Path, baseline: Path
) -> dict[str, str]:
    """Model -> its baseline."""
    ours, theirs = ([*dict.fromkeys(model for model, _ in stored.cells)] for stored in (new, old))
    for label, known, place in (*((model, ours, results) for model in models), (baseline_model, theirs, baseline)):
        if label is not None and label not in known:
            raise UserError(unknown("result of a model", label, known, f" in {place}"))
    if models or baseline_model:
        pairs = {model: baseline_model or model for model in models or ours}
    elif len(ours) == len(theirs) == 1:
        pairs = dict(zip(ours, theirs, strict=True))
    else:
        pairs = {model: model for model in theirs if model in ours}
    absent = [against for against in pairs.values() if against not in theirs]
    if absent or not pairs:
        raise UserError(
            f"{baseline} has no result of {', '.join(absent or ours) or 'any model'}; name the model there with "
            f"--baseline-model (it has {', '.join(theirs) or 'none'})."
        )
    return pairs


def _row(baseline: str) -> str:
    return f"{baseline} (baseline)"


def _joined(new: StoredCells, old: StoredCells, pairs: Mapping[str, str], root: Path) -> Leaderboard:
    """Both folders' results of these models as one leaderboard, the baseline's under rows of their own."""
    cells = {key: cell for key, cell in new.cells.items() if key[0] in pairs}
    for (model, dataset), cell in old.cells.items():
        if model in pairs.values():
            row = _row(model)
            cells[row, dataset] = Cell(cell.result, cell.folder, row)
    return leaderboard(StoredCells(cells, [*new.skipped, *old.skipped], {}), root)


def _checks(
    found: Comparison, board: Leaderboard, model: str, against: str, expected: Sequence[str], worse_than: float
) -> list[Check]:
    """The checks on each dataset, and over all if there are several."""
    contrasts = {each.dataset: each for each in found.contrasts}
    checks = []
    for dataset in expected:
        each = contrasts.get(dataset)
        if each is None:
            checks.append(Check(model, against, dataset, "missing"))
        elif dataset in board.mixed:
            checks.append(Check(model, against, dataset, "not comparable", each.difference, each.interval))
        else:
            verdict = _verdict(each.interval, worse_than, significant=each.real)
            checks.append(Check(model, against, dataset, verdict, each.difference, each.interval))
    for whole in found.overall:
        if len(whole.datasets) > 1:
            verdict = _verdict(whole.here, worse_than, significant=True)
            checks.append(Check(model, against, "", verdict, whole.difference, whole.here))
    return checks


def _verdict(interval: Interval, worse_than: float, *, significant: bool) -> Verdict:
    if interval.high < -worse_than and significant:
        return "worse"
    return "no worse" if interval.low > -worse_than else "undecided"
