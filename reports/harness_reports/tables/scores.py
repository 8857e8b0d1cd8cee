"""The tables of scores: models by datasets, with averages, confidence intervals, ranks and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.datasets import catalog
from harness_reports.data.averages import Average, Mean
from harness_reports.data.leaderboard import MEASURE, Cells, Leaderboard
from harness_reports.data.uncertainty import Entry, Uncertainty
from harness_reports.tables import columns
from harness_reports.tables.model import NONE, Column, Mark, Table, TableCell, with_best
from harness_reports.tables.provenance import sources

UNANSWERED = 0.1
"""Share of the judged queries that a run may have no document for; a larger one is marked."""
ISOTROPY = ("geometry", "documents", "isotropy")
Filled = tuple[Column, list[TableCell]]


def scores(board: Leaderboard, uncertainty: Uncertainty) -> list[Table]:
    """A table of complete datasets with their averages, and one of partial and unusual results."""
    caption = [f"{MEASURE} x 100, the mean over the judged queries of a dataset; in bold the best of a column."]
    averaged = [f"{average.name}: the unweighted mean of {', '.join(average.datasets)}." for average in board.averages]
    title, apart = _apart(board)
    whole, some = _Scores(board, uncertainty), _Scores(board, None)
    tables = [
        whole.build("scores", MEASURE, [*caption, *averaged]),
        some.build("partial", title, [*caption, *apart]),
    ]
    return [table for table in tables if table.rows]


def _apart(board: Leaderboard) -> tuple[str, list[str]]:
    """The title of the second table, and the sentences of its caption that say why these results are separate."""
    cells = board.partial_cells.values()
    title, told = f"{MEASURE} on some queries only", list[str]()
    if any(cell.partial for cell in cells):
        told.append("These are runs with --limit: comparable with no other run, and in no average.")
    unusual = {name for cell in cells if cell.unusual for name in cell.get("manifest", "dataset", "unusual")}
    if unusual - {"overlay"}:
        title += ", or with another setting than the dataset's"
        told.append("exclude_self=... is not what the dataset itself says: such a result is in no average.")
    if "overlay" in unusual:
        title += ", or with further judgements"
        told.append("overlay=...: with judgements added to the dataset's own; such a result is in no average.")
    return title, told


class _Scores:
    """Builds one table; without ``uncertainty`` that of the partial cells."""

    def __init__(self, board: Leaderboard, uncertainty: Uncertainty | None) -> None:
        self.board, self.uncertainty = board, uncertainty
        self.cells: Cells = board.cells if uncertainty else board.partial_cells
        datasets = board.datasets if uncertainty else board.partial_datasets
        self.models = [model for model in board.models if any((model, dataset) in self.cells for dataset in datasets)]
        averages = board.averages if uncertainty else ()
        self.measured = _folded(datasets, averages)
        self.averages = [average for average in averages if average not in self.measured]

    def build(self, key: str, title: str, caption: list[str]) -> Table:
        filled: list[Filled] = [(Column("model"), [TableCell(model, model) for model in self.models])]
        if self.uncertainty and self.models:
            marks = self.uncertainty.marks(self.measured)
            filled += [self._column(entry, marks) for entry in self.measured]
            for average in self.averages or self._alone():
                filled += [self._column(average, {})] if average in self.averages else []
                filled += self._uncertainty_columns(self.uncertainty, average)
            isotropy = self._isotropy()
            if _known(isotropy):
                filled.append(isotropy)
                told = "Isotropy is that of the document vectors; it depends on their number and dimension, see below."
                caption = [*caption, told]
        else:
            filled += [self._column(entry, {}) for entry in self.measured]
        rows = list(zip(*(shown for _, shown in filled), strict=True))
        return Table(key, title, caption, [column for column, _ in filled], rows)

    def _alone(self) -> list[Average]:
        """The only dataset as an average, if the leaderboard has just one."""
        if len(self.board.datasets) != 1:
            return []
        [dataset] = self.board.datasets
        cells = {model: self.cells[model, dataset] for model in self.models if (model, dataset) in self.cells}
        means = {m: Mean(cells[m].score if m in cells else None, 1, False) for m in self.board.models}
        return [Average(dataset, (dataset,), means)]

    def _column(self, entry: Entry, marks: Mapping[tuple[str, str], Mark]) -> Filled:
        """The column of a dataset or an average; none is the best if the models saw different versions of a dataset."""
        name, labels = (entry, (entry,)) if isinstance(entry, str) else (entry.name, entry.labels)
        column = columns.score(name)
        shown = [
            self._score(column, model, entry) if isinstance(entry, str) else self._mean(column, entry, model)
            for model in self.models
        ]
        marked = [
            replace(one, marks=(*one.marks, marks[model, name])) if (model, name) in marks else one
            for model, one in zip(self.models, shown, strict=True)
        ]
        return column, marked if self.board.mixed & {*labels} else with_best(marked)

    def _score(self, column: Column, model: str, dataset: str) -> TableCell:
        cell = self.cells.get((model, dataset))
        if cell is None:
            return self._absent(model, dataset)
        origin = sources(cell)
        if not cell.ok:
            status = str(cell.get("status"))
            return TableCell(
                status, absence="incomplete" if cell.members or model in self.board.seeds else "failed", sources=origin
            )
        marks: list[Mark] = ["in-domain"] if cell.in_domain else []
        marks += ["imported"] if cell.imported else []
        marks += ["disputed"] if (model, dataset) in self.board.disputed else []
        marks += ["unanswered"] if cell.unanswered > UNANSWERED else []
        marks += ["versions"] if dataset in self.board.mixed and cell.imported != "mteb" else []
        if cell.score is None:
            return TableCell("not measured", absence="missing", sources=origin)
        return column.cell(cell.score, marks, origin)

    def _mean(self, column: Column, average: Average, model: str) -> TableCell:
        mean = average.means[model]
        if mean.value is None:
            return TableCell(f"{mean.measured} of {len(average.datasets)}", absence="incomplete")
        marks: list[Mark] = ["in-domain"] if mean.in_domain else []
        own = [self.cells[model, label] for label in average.labels if (model, label) in self.cells]
        marks += ["unanswered"] if any(cell.unanswered > UNANSWERED for cell in own) else []
        marks += ["versions"] if self.board.mixed & {*average.labels} else []
        return column.cell(mean.value, marks)

    def _absent(self, model: str, dataset: str) -> TableCell:
        for (owner, label), cell in self.board.partial_cells.items():
            names = (label, cell.get("manifest", "dataset", "name"))
            if cell.partial and owner == model and dataset in names and self.uncertainty:
                return TableCell("partial", absence="partial", sources=sources(cell))
        spec = catalog.catalogue().datasets.get(dataset)
        if spec and not spec.sources and not spec.build:
            return TableCell("needs licence", absence="needs licence")
        return TableCell("missing", absence="missing")

    def _uncertainty_columns(self, uncertainty: Uncertainty, average: Average) -> list[Filled]:
        """The columns with interval, ranks and difference from the baseline, if any value of them is known."""
        first = average is (self.averages or [average])[0]
        spans = [uncertainty.interval(model, average) for model in self.models]
        interval = columns.interval("" if first else average.name)
        filled = [(interval, [interval.cell(span.ends if span else None) for span in spans])]
        effects = [uncertainty.design_effect(model, average) for model in self.models]
        filled.append((columns.DESIGN_EFFECT, [columns.DESIGN_EFFECT.cell(effect) for effect in effects]))
        if first and _known(filled[0]):
            rank, ranks = columns.RANK, uncertainty.ranks(average)
            filled.append((rank, [rank.cell(ranks.get(model)) for model in self.models]))
        if uncertainty.baseline and first:
            gaps = [uncertainty.difference(model, average) for model in self.models]
            minus, around = columns.difference(uncertainty.baseline), columns.DIFFERENCE_INTERVAL
            own = [
                TableCell("baseline", absence="none")
                if model == uncertainty.baseline
                else minus.cell(gap.value if gap else None)
                for model, gap in zip(self.models, gaps, strict=True)
            ]
            filled += [(minus, own), (around, [around.cell(gap.interval.ends if gap else None) for gap in gaps])]
            beside = columns.DIFFERENCE_EFFECT
            filled.append((beside, [beside.cell(gap.design_effect if gap else None) for gap in gaps]))
        return [each for each in filled if _known(each)]

    def _isotropy(self) -> Filled:
        column = columns.isotropy(len(self.measured))
        return column, [self._mean_isotropy(column, model) for model in self.models]

    def _mean_isotropy(self, column: Column, model: str) -> TableCell:
        """The mean over the entries, of which a group's is the mean over its members."""
        means = []
        for labels in ([entry] if isinstance(entry, str) else entry.labels for entry in self.measured):
            found = [self.cells[model, d].get(*ISOTROPY) if (model, d) in self.cells else None for d in labels]
            known = [value for value in found if isinstance(value, int | float)]
            if len(known) < len(found):
                return NONE
            means.append(sum(known) / len(known))
        return column.cell(sum(means) / len(means)) if means else NONE


def _known(filled: Filled) -> bool:
    return any(not one.absence for one in filled[1])


def _folded(datasets: Sequence[str], averages: Sequence[Average]) -> list[Entry]:
    """The datasets; a group's mean replaces its members if there are other datasets too."""
    means = {label: each for each in averages if each.group and {*each.labels} != {*datasets} for label in each.labels}
    entries: list[Entry] = []
    for entry in (means.get(dataset, dataset) for dataset in datasets):
        if entry not in entries:
            entries.append(entry)
    return entries
