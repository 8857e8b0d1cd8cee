"""A leaderboard as a report: its tables, and the notes that say what they are."""

from __future__ import annotations

from collections.abc import Iterable

from harness.geometry import DEFINITIONS
from reports.cost import cost
from reports.geometry import geometry
from reports.leaderboard import Leaderboard
from reports.scores import scores
from reports.table import Report


def report(board: Leaderboard) -> Report:
    """Scores, indexes, geometry and cost, with notes."""
    return Report([*scores(board), *geometry(board), *cost(board)], list(dict.fromkeys(_notes(board))))


def _notes(board: Leaderboard) -> Iterable[str]:
    cells = board.rows()
    if any(cell.in_domain and cell.score is not None for cell in cells):
        yield "* in-domain: the model was trained on judgements of that dataset (of an average: of one in it)."
    if any(cell.get("geometry", "documents") for cell in cells):
        yield f"Isotropy: {DEFINITIONS['isotropy']}; l are the eigenvalues of the vectors' covariance."
        yield f"Its ceiling: {DEFINITIONS['isotropy_ceiling']}."
    for ties in {cell.get("manifest", "ties"): None for cell in cells if cell.get("manifest", "ties")}:
        yield f"Order of documents: {ties}."
    for dataset in (*board.datasets, *board.partial_datasets):
        own = [cell for cell in cells if cell.dataset == dataset]
        if dataset in board.mixed:
            yield f"{dataset}: the models saw different versions of it, so its column compares nothing."
        if any(cell.get("manifest", "dataset", "exclude_self") for cell in own):
            yield f"{dataset}: a query's own document is left out of its ranking."
        for note in (note for cell in own for note in cell.get("manifest", "dataset", "notes") or ()):
            yield f"{dataset}: {str(note).rstrip('.')}."
    for cell in cells:
        if not cell.ok:
            yield f"failed: {cell.model} on {cell.dataset}: {cell.get('reason') or 'no reason was recorded'}"
    for skipped in board.skipped:
        yield f"skipped: {skipped.path}: {skipped.reason}"
