"""The tables with one row for each finished result: indexes, judgements, geometry of the vectors, and cost."""

from __future__ import annotations

from collections.abc import Sequence

from harness.results.overlap import read_overlaps
from harness_reports.data.leaderboard import Cell, Leaderboard
from harness_reports.tables import columns
from harness_reports.tables.columns import Field
from harness_reports.tables.model import Column, Table
from harness_reports.tables.provenance import sources

INDEX = (
    "Against exact search of the same vectors on the same machine. Recall@10, the cost (exact minus approximate) "
    "and queries per second are of a search for 10 documents, as a server asks; recall@100, recall@1000 and the "
    "scores above are of the run, whose depth lets a graph search more widely. Bytes are the index file's."
)
JUDGEMENTS = (
    "Judged@10: the share of the first ten documents that has a judgement; the others count as not relevant. Where it "
    "is low or differs between models, harness compare shows what they could change, and harness pool which of them to "
    "judge. Results without it get it from their stored run when harness benchmark is run again."
)
GEOMETRY = (
    "Of the document vectors, except where a column says queries, and hubness, which is that of the top 10 results. "
    "Sparse vectors have no eigenvalues here: there are as many dimensions as terms."
)
COST = (
    "Seconds of wall time; those of encoding and indexing are what the stored vectors or index once took, maybe in "
    "an earlier run. Documents and document tokens per second of encoding (lexical models: of indexing). Peak "
    "memory is that of the whole process up to the cell's end. A model made of others has their sums; each one's "
    "share is in its result.json."
)
ENERGY = ("kWh", "USD")
UNKNOWN = "Energy and price are not in the table: no run recorded its energy or ran on a device whose price is known."


def measurements(board: Leaderboard) -> list[Table]:
    """Indexes, judgements, geometry and cost, as far as there are results with any."""
    done = [cell for cell in board.rows() if cell.ok]
    overlaps, _ = read_overlaps(board.root)
    known = (
        cell.get("measures", columns.JUDGED) is not None or any(o.concerns(cell.result) for o in overlaps)
        for cell in done
    )
    judged = done if any(known) else []
    indexed = [cell for cell in done if isinstance(cell.get("index"), dict)]
    tables = [
        _table("indexes", "Approximate indexes", INDEX, indexed, columns.INDEX),
        _table("judgements", "Judgements", JUDGEMENTS, judged, columns.judgements(overlaps)),
        _table("geometry", "Geometry", GEOMETRY, done, columns.GEOMETRY),
        _table("cost", "Cost", COST, done, columns.cost(done), UNKNOWN),
    ]
    return [table for table in tables if table.rows]


def _table(
    key: str, title: str, caption: str, cells: Sequence[Cell], fields: Sequence[Field], without_optional: str = ""
) -> Table:
    """Model, dataset and the fields of every cell; ``without_optional`` is said if none of `ENERGY` is shown."""
    shown = [f for f in fields if not f.optional or any(f.value(cell) is not None for cell in cells)]
    captions = [caption, *(field.caption for field in shown if field.caption)]
    if without_optional and not any(field.optional and field.column.name in ENERGY for field in shown):
        captions.append(without_optional)
    names = [Column("model"), Column("dataset")]
    rows = [
        [
            names[0].cell(cell.model, sources=sources(cell)),
            names[1].cell(cell.dataset),
            *(field.column.cell(field.value(cell)) for field in shown),
        ]
        for cell in cells
    ]
    return Table(key, title, captions, [*names, *(field.column for field in shown)], rows)
