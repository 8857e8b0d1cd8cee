"""The results of an evaluation: as a DataFrame, a leaderboard, a plot, a report, and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.reports import MEASURE, Comparison, reporting
from harness.evaluation.cells import Cell
from harness.registry.model_ref import missing_extra
from harness.results.store import ResultStore, read_columns
from harness.types import UserError

if TYPE_CHECKING:
    import pandas


DETAILS = ("documents", "queries", "seconds", "partial", "in_domain", "reason")
"""Columns of a frame that the text form leaves out."""


@dataclass(frozen=True, slots=True)
class Results:
    """What `harness.evaluate` returns. The results are stored in `folder`, where the commands find them, too."""

    folder: Path
    """The folder of results."""
    cells: tuple[Cell, ...]
    """One for each model and dataset, in the order of the evaluation."""

    def frame(self) -> pandas.DataFrame:
        """One row per model and dataset, tidy: status, every metric, isotropy, seconds, and the reason of a failure.

        `harness.load_results` has all that is stored.
        """
        import pandas

        return pandas.DataFrame([_row(cell) for cell in self.cells])

    def leaderboard(self) -> pandas.DataFrame:
        """nDCG@10 x 100 of every model and dataset, best model first, with intervals and ranks."""
        return reporting().leaderboard(self.folder, self._only)

    def per_query(self) -> pandas.DataFrame:
        """One row per model, dataset and judged query: its text, number of relevant documents, and every metric."""
        import pandas

        return pandas.concat([*self._per_query()], ignore_index=True) if self._finished else pandas.DataFrame()

    def report(self, form: str = "markdown", *, baseline: str | None = None) -> str:
        """What ``harness report --format FORM`` prints: ``markdown``, ``latex``, ``html``, ``json`` or ``csv``.

        Args:
            form: The format.
            baseline: Mark statistically significant differences from this model.

        Raises:
            UserError: There is no such format or model, or no result.
        """
        return reporting().report(self.folder, form, self._only, baseline)

    def compare(self, *models: str, metric: str = MEASURE, queries: int = 3) -> Comparison:
        """Compares models of this evaluation query by query, as `harness.compare`; the first is the baseline."""
        datasets = list(dict.fromkeys(cell.dataset for cell in self._finished))
        return reporting().compare(self.folder, models, datasets, metric, queries)

    def plot(self, metric: str = MEASURE, ax: Any = None) -> Any:
        """Bars of a metric: one group per dataset, one bar per model.

        Args:
            metric: One that was measured.
            ax: The axes of matplotlib to draw on; default: new ones.

        Returns:
            The axes.

        Raises:
            UserError: matplotlib is not installed, or the metric was not measured.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise UserError(missing_extra("Results.plot()", ["matplotlib"], "plot")) from None
        frame = self.frame()
        if metric not in frame:
            known = ", ".join(name for name in map(str, frame) if "@" in name)
            raise UserError(f"The metric {metric!r} was not measured; it was {known or 'none'}.")
        table = frame.pivot(index="dataset", columns="model", values=metric)
        table = table.loc[frame["dataset"].unique(), frame["model"].unique()]
        ax = ax if ax is not None else pyplot.subplots(figsize=(2 + 1.2 * table.size**0.5, 3.5))[1]
        table.plot.bar(ax=ax, rot=0, ylabel=metric, xlabel="", width=0.8)
        ax.legend(title="", loc="lower right")
        return ax

    @property
    def _finished(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.status != "failed"]

    @property
    def _only(self) -> set[tuple[str, str]]:
        return {(cell.model, cell.dataset) for cell in self.cells}

    def _per_query(self) -> Iterator[pandas.DataFrame]:
        import pandas

        for cell in self._finished:
            file = ResultStore(self.folder).folder(cell.model, cell.dataset) / "per_query.parquet"
            names = ["query_id", "query", "relevant", *(cell.result or {"measures": {}})["measures"]]
            table = pandas.DataFrame(read_columns(file, names).to_pydict())
            table.insert(0, "model", cell.model)
            table.insert(1, "dataset", cell.dataset)
            yield table

    def _repr_html_(self) -> str:
        failed = [cell for cell in self.cells if cell.status == "failed"]
        if failed or not self.cells:
            return str(self.frame().to_html(index=False))
        return reporting().html(self.folder, self._only)

    def __repr__(self) -> str:
        from tabulate import tabulate

        rows = [{key: value for key, value in _row(cell).items() if key not in DETAILS} for cell in self.cells]
        return tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4f", missingval="-")


def _row(cell: Cell) -> dict[str, Any]:
    result: Any = cell.result or {}
    documents = result.get("geometry", {}).get("documents") or {}
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "status": cell.status,
        **result.get("measures", {}),
        "isotropy": documents.get("isotropy"),
        "documents": result.get("counts", {}).get("documents"),
        "queries": result.get("counts", {}).get("queries"),
        "seconds": sum(result["seconds"].values()) if "seconds" in result else None,
        "partial": result.get("partial"),
        "in_domain": result.get("in_domain"),
        "reason": cell.reason,
    }
