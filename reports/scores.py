"""The tables of scores: models by datasets, with their averages."""

from __future__ import annotations

from collections.abc import Sequence

from reports.leaderboard import MEASURE, Average, Cells, Leaderboard
from reports.table import NONE, Column, Figure, Table, with_best

ISOTROPY = ("geometry", "documents", "isotropy")


def scores(board: Leaderboard) -> list[Table]:
    """Whole datasets with their averages, and apart from them what was run on some queries only."""
    table = _Scores(board, board.datasets, board.cells, board.averages)
    caption = [f"{MEASURE} x 100, the mean over the judged queries of a dataset; in bold the best of a column."]
    for average in board.averages:
        caption.append(f"{average.name}: the unweighted mean of {', '.join(average.datasets)}.")
    whole = table.build("scores", MEASURE, caption, isotropy=True)
    apart = _Scores(board, board.partial_datasets, board.partial_cells, ()).build(
        "partial",
        f"{MEASURE} on some queries only",
        [caption[0], "These are runs with --limit: comparable with no other run, and in no average."],
    )
    return [table for table in (whole, apart) if table.rows]


class _Scores:
    def __init__(self, board: Leaderboard, datasets: Sequence[str], cells: Cells, averages: Sequence[Average]) -> None:
        self.board, self.cells = board, cells
        self.models = [model for model in board.models if any((model, dataset) in cells for dataset in datasets)]
        self.measured = _folded(datasets, averages)
        self.averages = [average for average in averages if average not in self.measured]

    def build(self, key: str, title: str, caption: list[str], *, isotropy: bool = False) -> Table:
        columns = [(Column("model"), [Figure(model, model) for model in self.models])]
        columns += [self._column(entry) for entry in [*self.measured, *self.averages]]
        column, figures = self._isotropy()
        if isotropy and any(not figure.absence for figure in figures):
            columns.append((column, figures))
            told = "Isotropy is that of the document vectors; it depends on their number and dimension, see below."
            caption = [*caption, told]
        rows = list(zip(*(figures for _, figures in columns), strict=True))
        return Table(key, title, caption, [column for column, _ in columns], rows)

    def _column(self, entry: str | Average) -> tuple[Column, list[Figure]]:
        """A dataset's or an average's; nothing is best where the models saw different versions of a dataset."""
        if isinstance(entry, str):
            column, mixed = Column(entry, ".2f", 100), entry in self.board.mixed
            figures = [self._score(column, model, entry) for model in self.models]
        else:
            column, mixed = Column(entry.name, ".2f", 100), bool(self.board.mixed & {*entry.labels})
            figures = [_mean(column, entry, model) for model in self.models]
        return column, figures if mixed else with_best(figures)

    def _score(self, column: Column, model: str, dataset: str) -> Figure:
        cell = self.cells.get((model, dataset))
        if cell is None:
            return Figure("-", absence="missing")
        if not cell.ok:
            return Figure("failed", absence="failed")
        return column.figure(cell.score, ("in-domain",) if cell.in_domain else ())

    def _isotropy(self) -> tuple[Column, list[Figure]]:
        n = len(self.measured)
        column = Column("isotropy" if n == 1 else f"isotropy (mean of {n})", ".4f")
        return column, [self._mean_isotropy(column, model) for model in self.models]

    def _mean_isotropy(self, column: Column, model: str) -> Figure:
        """The mean over the entries, of which a group's is the mean over its members."""
        means = []
        for labels in ([entry] if isinstance(entry, str) else entry.labels for entry in self.measured):
            found = [self.cells[model, d].get(*ISOTROPY) if (model, d) in self.cells else None for d in labels]
            known = [value for value in found if isinstance(value, int | float)]
            if len(known) < len(found):
                return NONE
            means.append(sum(known) / len(known))
        return column.figure(sum(means) / len(means)) if means else NONE


def _folded(datasets: Sequence[str], averages: Sequence[Average]) -> list[str | Average]:
    """The datasets, a group's mean in place of its members where there is anything beside them."""
    means = {label: each for each in averages if each.group and {*each.labels} != {*datasets} for label in each.labels}
    entries: list[str | Average] = []
    for entry in (means.get(dataset, dataset) for dataset in datasets):
        if entry not in entries:
            entries.append(entry)
    return entries


def _mean(column: Column, average: Average, model: str) -> Figure:
    mean = average.means[model]
    if mean.value is None:
        return Figure(f"{mean.measured} of {len(average.datasets)}", absence="incomplete")
    return column.figure(mean.value, ("in-domain",) if mean.in_domain else ())
