"""What `harness.evaluate` and `harness.compare` show of stored results; see `harness.api.reports`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.catalog import unknown
from harness.system.paths import home_folder
from harness.types import UserError
from harness_reports.cli.report import FORMS, render
from harness_reports.compare import compare as comparing
from harness_reports.compare.render import content
from harness_reports.compare.render import markdown as compared
from harness_reports.data.leaderboard import Leaderboard, read_leaderboard
from harness_reports.data.per_query import Evidence
from harness_reports.html.page import page
from harness_reports.html.tables import html_tables
from harness_reports.tables.model import Report, TableCell
from harness_reports.tables.sections import report as sections

if TYPE_CHECKING:
    import pandas

Only = Collection[tuple[str, str]] | None


@dataclass(frozen=True, slots=True, repr=False)
class Compared:
    """A comparison, for a program and for a notebook."""

    found: comparing.Comparison

    def frame(self) -> pandas.DataFrame:
        """One row per model, baseline and dataset."""
        import pandas

        return pandas.DataFrame(content(self.found)["contrasts"])

    def markdown(self) -> str:
        """What ``harness compare`` prints."""
        return compared(self.found)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return self.markdown()


def leaderboard(root: Path, only: Only) -> pandas.DataFrame:
    """The tables of scores, those of some queries only below; values as shown, intervals as pairs."""
    import pandas

    parts = []
    for table in _scores(root, only).tables:
        rows = [
            {c.name: _value(c.scale, cell) for c, cell in zip(table.columns, row, strict=True)} for row in table.rows
        ]
        parts.append(pandas.DataFrame(rows).set_index("model"))
    return pandas.concat(parts, axis=1) if parts else pandas.DataFrame()


def html(root: Path, only: Only) -> str:
    """The tables of scores as HTML."""
    return html_tables(_scores(root, only))


def report(root: Path, form: str, only: Only, baseline: str | None) -> str:
    """A report in one of the formats; UserError if there is no such format."""
    if form not in FORMS:
        raise UserError(unknown("format of reports", form, FORMS))
    board, evidence = _board(root, only)
    if form == "html":
        return page(board, evidence, report=sections(board, evidence, baseline))
    return render(board, form, evidence, baseline)


def compare(root: Path, models: Sequence[str], datasets: Sequence[str], measure: str, queries: int) -> Compared:
    """Compares models query by query."""
    evidence = Evidence(read_leaderboard(root))
    found = comparing.compare(evidence, models, datasets, measure=measure, moves=queries)
    return Compared(comparing.with_documents(found, evidence, home_folder() / "corpora"))


def _board(root: Path, only: Only) -> tuple[Leaderboard, Evidence]:
    board = read_leaderboard(root, only=only)
    return board, Evidence(board)


def _scores(root: Path, only: Only) -> Report:
    """The tables of scores alone, without notes."""
    board, evidence = _board(root, only)
    return Report(sections(board, evidence, brief=True).tables, [])


def _value(scale: float, cell: TableCell) -> object:
    value = cell.value
    if isinstance(value, tuple):
        return tuple(scale * each for each in value)
    return scale * value if isinstance(value, int | float) and scale != 1 else value
