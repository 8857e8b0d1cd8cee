"""A leaderboard as a report: its tables, and the notes that explain them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.metrics.geometry import DEFINITIONS
from harness.results.frame import unanswered
from harness.results.overlap import read_overlaps
from harness_reports.analysis.isotropy_vs_ndcg import associations, sentence
from harness_reports.data.leaderboard import Cell, Leaderboard, some
from harness_reports.data.per_query import Evidence
from harness_reports.data.uncertainty import ALPHA, Uncertainty
from harness_reports.tables.columns import DESIGN_EFFECT, DIFFERENCE_INTERVAL, INTERVAL, RANK
from harness_reports.tables.measurements import measurements
from harness_reports.tables.model import Report, Table
from harness_reports.tables.provenance import provenance
from harness_reports.tables.scores import UNANSWERED, scores


def report(
    board: Leaderboard, evidence: Evidence | None = None, baseline: str | None = None, *, brief: bool = False
) -> Report:
    """Scores, indexes, geometry, cost and provenance, with notes; if ``brief``, the scores and what explains them.

    With a ``baseline`` (a model of the board) differences from it are marked; UserError if there is no such model.
    """
    evidence = evidence or Evidence(board)
    uncertainty = Uncertainty(board, evidence, baseline)
    tables = scores(board, uncertainty)
    if not brief:
        tables += [*measurements(board), provenance(board)]
    rest = _failures(board) if brief else _notes(board, evidence)
    told = [*_marks(board, tables, uncertainty), *rest, *_faults(board, evidence)]
    if brief:
        told.append("Geometry, cost, provenance and all notes: harness report --full.")
    return Report(tables, list(dict.fromkeys(told)))


def _marks(board: Leaderboard, tables: Sequence[Table], uncertainty: Uncertainty) -> Iterable[str]:
    """Explains the signs and the columns of uncertainty that occur."""
    marks = {mark for table in tables for row in table.rows for cell in row for mark in cell.marks}
    columns = {column.name for table in tables for column in table.columns}
    if "in-domain" in marks:
        yield "* in-domain: the model was trained on judgements of that dataset (of an average: of one in it)."
    if "imported" in marks:
        yield "° imported: measured elsewhere, by other code."
    if "disputed" in marks:
        yield "§ disputed: two results of this cell disagree; both are shown, and neither is averaged with the other's."
    if "unanswered" in marks:
        yield f"‖ the run has no document for more than {UNANSWERED:.0%} of the judged queries, which count as 0."
    if "versions" in marks:
        yield "¶ the models saw different versions of the dataset (of an average: of one in it)."
    if uncertainty.baseline and uncertainty.tests:
        how = (
            f"{uncertainty.baseline} beyond chance: paired randomisation tests over queries{_and_runs(board)}, Holm's "
            f"correction for all {uncertainty.tests} comparisons with it in the table, at {ALPHA:.0%}"
        )
        none = "" if marks & {"better", "worse"} else " (there is none)"
        yield f"† better, ‡ worse than {how}{none}."
    if INTERVAL in columns:
        runs = "; of rows over seeds with the spread of their runs" if board.seeds else ""
        yield (
            "95% interval: where the mean would lie on datasets like these, by Student's t over the datasets (by "
            f"bootstrap over queries where there is one dataset){runs}."
        )
    if DIFFERENCE_INTERVAL.name in columns and len(board.datasets) > 1:
        yield f"Intervals of differences over several datasets hold simultaneously for all models, at {1 - ALPHA:.0%}."
    if DESIGN_EFFECT.name in columns:
        yield (
            "Design effect: how many times the noise of the queries is that of as many independent queries; queries "
            "that share relevant documents are drawn and tested together, as clusters."
        )
    if RANK.name in columns:
        none = "" if uncertainty.separated else " Here nothing can be told apart."
        yield (
            "Rank: the places that a model may have, after the models that are significantly better and before those "
            f"significantly worse; all ranks hold simultaneously at 95%.{none}"
        )
    for row, models in board.seeds.items():
        few = "; two runs say little about how much runs differ, so its intervals are wide" if len(models) == 2 else ""
        yield f"{row}: the mean of {', '.join(models)}{few}."


def _and_runs(board: Leaderboard) -> str:
    return " (with rows over seeds t-tests over queries and runs)" if board.seeds else ""


def _notes(board: Leaderboard, evidence: Evidence) -> Iterable[str]:
    cells = board.rows()
    yield from _seen(board, cells)
    if any("isotropy" in (cell.get("geometry", "documents") or ()) for cell in cells):
        yield f"Isotropy: {DEFINITIONS['isotropy']}; l are the eigenvalues of the vectors' covariance."
        yield f"Its ceiling: {DEFINITIONS['isotropy_ceiling']}."
        found = associations(board, ["isotropy"], each_dataset=False)  # all that the sentence is about
        if any(one.units > 1 for one in found):
            yield sentence(found)
    yield from (f"{warning}." for warning in board.warnings())
    for ties in {cell.get("manifest", "ties"): None for cell in cells if cell.get("manifest", "ties")}:
        yield f"Order of documents: {ties}."
    for dataset in (*board.datasets, *board.partial_datasets):
        own = [cell for cell in cells if cell.dataset == dataset]
        yield from _own_documents(dataset, own)
        yield from _unanswered(dataset, own)
        yield from _overlay(dataset, own)
        if dataset in board.datasets and (told := evidence.clusters.sentence(dataset)):
            yield f"{told}."
        for note in (note for cell in own for note in cell.get("manifest", "dataset", "notes") or ()):
            yield f"{dataset}: {str(note).rstrip('.')}."
    yield from _failures(board)


def _failures(board: Leaderboard) -> Iterable[str]:
    for cell in board.rows():
        if not cell.ok:
            yield f"failed: {cell.model} on {cell.dataset}: {cell.get('reason') or 'no reason was recorded'}"


def _own_documents(dataset: str, cells: Sequence[Cell]) -> Iterable[str]:
    """The models for which a query's own document is left out of its ranking."""
    left_out = {cell.model: bool(cell.get("manifest", "dataset", "exclude_self")) for cell in cells if cell.ok}
    models = [model for model, out in left_out.items() if out]
    if models:
        of = "" if len(models) == len(left_out) else f", in the results of {some(models)} alone"
        yield f"{dataset}: a query's own document is left out of its ranking{of}."


def _seen(board: Leaderboard, cells: Sequence[Cell]) -> Iterable[str]:
    """How much of a test set is in the training set of models."""
    for overlap in read_overlaps(board.root)[0]:
        models = list(dict.fromkeys(cell.model for cell in cells if cell.ok and overlap.concerns(cell.result)))
        if models:
            counts = [
                f"{side['exact']:,} exact and {side['near']:,} near duplicates of {side['total']:,} {what}"
                for side, what in ((overlap.queries, "queries"), (overlap.documents, "relevant documents"))
            ]
            trained = f"{overlap.training}, with which {some(models)} was trained"
            yield f"{overlap.dataset}: {trained}, has {' and '.join(counts)}."


def _overlay(dataset: str, cells: Sequence[Cell]) -> Iterable[str]:
    """The judgements that were added to the dataset's own."""
    for overlay in (cell.get("manifest", "dataset", "overlay") for cell in cells):
        if isinstance(overlay, dict) and isinstance(judged := overlay.get("judgements"), dict):
            count = sum(len(documents) for documents in judged.values())
            yield f"{dataset}: {count:,} judgements named {overlay.get('name')} were added to the dataset's own."


def _unanswered(dataset: str, cells: Sequence[Cell]) -> Iterable[str]:
    """The runs without results for some of the judged queries."""
    by_sentence: dict[str, list[str]] = {}
    for cell in cells:
        if sentence := unanswered(cell.result):
            by_sentence.setdefault(sentence, []).append(cell.model)
    for sentence, models in by_sentence.items():
        yield f"{dataset}: {sentence} ({some(models)})."


def _faults(board: Leaderboard, evidence: Evidence) -> Iterable[str]:
    for told in board.disputed.values():
        yield f"disagree: {told}"
    for skipped in (*board.skipped, *evidence.skipped.values()):
        yield f"skipped: {skipped.place}: {skipped.reason}"
    for told in filter(None, (evidence.lacking, evidence.unclustered)):
        yield f"{told}."
