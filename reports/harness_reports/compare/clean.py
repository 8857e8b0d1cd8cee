"""A comparison on the queries alone that no model's training set has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.results.overlap import read_overlaps, seen
from harness_reports.compare.compare import Comparison, compare
from harness_reports.data.leaderboard import MEASURE, Leaderboard
from harness_reports.data.paired import Contrast
from harness_reports.data.per_query import Evidence, QueryScores


class CleanEvidence(Evidence):
    """Evidence without some queries of each dataset."""

    def __init__(self, board: Leaderboard, left_out: Mapping[str, Collection[str]]) -> None:
        super().__init__(board)
        self._left_out = left_out

    def scores(self, model: str, dataset: str, measure: str = MEASURE) -> QueryScores | None:
        """As `Evidence.scores`, without these queries."""
        found = super().scores(model, dataset, measure)
        if found is None or dataset not in self._left_out:
            return found
        rows = [row for row, query in enumerate(found.ids) if query not in self._left_out[dataset]]
        return QueryScores([found.ids[row] for row in rows], found.values[rows])


def clean(comparison: Comparison, evidence: Evidence) -> Sequence[Contrast]:
    """The differences on clean queries, of datasets for which `harness overlap` found some that are not.

    A query is clean if neither it nor a relevant document of it is in the training set of one of the models.
    """
    overlaps, _ = read_overlaps(evidence.board.root)
    left_out = {}
    for dataset in comparison.datasets if overlaps else ():
        cells = [cell for model in comparison.models if (cell := evidence.cell(model, dataset))]
        found = seen(overlaps, [cell.result for cell in cells])
        ids, values = evidence.paired(comparison.models, dataset, comparison.measure)
        if len(values) > 1 and not {*ids}.isdisjoint(found) and not {*ids} <= found.keys():
            left_out[dataset] = found.keys()
    if not left_out:
        return ()
    without = CleanEvidence(evidence.board, left_out)
    return compare(without, comparison.models, [*left_out], measure=comparison.measure, moves=0).contrasts
