"""The tables of what lies under the scores: geometry of the vectors, and what approximate indexes cost."""

from __future__ import annotations

from collections.abc import Sequence

from harness_reports.data.leaderboard import Cell, Leaderboard
from harness_reports.tables.model import Column, Table
from harness_reports.tables.provenance import sources

Places = Sequence[tuple[str, tuple[str, ...], str]]

GEOMETRY: Places = (
    ("n", ("documents", "n"), "d"),
    ("d", ("documents", "d"), "d"),
    ("isotropy", ("documents", "isotropy"), ".4f"),
    ("its ceiling", ("documents", "isotropy_ceiling"), ".4f"),
    ("debiased", ("documents", "isotropy_debiased"), ".4f"),
    ("participation ratio", ("documents", "participation_ratio"), ".2f"),
    ("IsoScore", ("documents", "isoscore"), ".4f"),
    ("1 - mean cosine", ("documents", "one_minus_mean_cosine"), ".4f"),
    ("uniformity", ("documents", "uniformity"), ".4f"),
    ("effective rank", ("documents", "effective_rank"), ".2f"),
    ("top-1 share", ("documents", "top1_share"), ".4f"),
    ("isotropy of queries", ("queries", "isotropy"), ".4f"),
    ("hubness skewness", ("hubness", "skewness"), ".4f"),
)
"""Column -> where it lies in the result's geometry, and its format."""
INDEX: Places = (
    ("recall@10", ("served", "recall@10"), ".4f"),
    ("nDCG@10 exact", ("exact", "nDCG@10"), ".4f"),
    ("nDCG@10 cost", ("served", "cost", "nDCG@10"), "+.4f"),
    ("queries/s", ("served", "queries_per_second", "approximate"), ".1f"),
    ("exact queries/s", ("served", "queries_per_second", "exact"), ".1f"),
    ("recall@100", ("recall@100",), ".4f"),
    ("recall@1000", ("recall@1000",), ".4f"),
    ("bytes", ("bytes",), ",d"),
    ("vectors' bytes", ("vectors_bytes",), ",d"),
    ("build s", ("build_seconds",), ".2f"),
    ("trained on", ("train_sample",), ",d"),
)
"""Column -> where it lies in the result's index, and its format."""


def geometry(board: Leaderboard) -> list[Table]:
    """Approximate indexes, where there are any, and the geometry of every cell."""
    done = [cell for cell in board.rows() if cell.ok]
    indexed = (
        "Against exact search of the same vectors on the same machine. Recall@10, the cost (exact minus approximate) "
        "and queries per second are of a search for 10 documents, as a server asks; recall@100, recall@1000 and the "
        "scores above are of the run, whose depth lets a graph search more widely. Bytes are the index file's."
    )
    panel = (
        "Of the document vectors, except where a column says queries, and hubness, which is that of the top 10 results."
    )
    tables = [
        _table("indexes", "Approximate indexes", indexed, [c for c in done if isinstance(c.get("index"), dict)], INDEX),
        _table("geometry", "Geometry", panel, done, GEOMETRY),
    ]
    return [table for table in tables if table.rows]


def _table(key: str, title: str, caption: str, cells: Sequence[Cell], places: Places) -> Table:
    section = {"indexes": "index"}.get(key, key)
    names = [Column("model"), Column("dataset")]
    columns = [Column(name, form) for name, _, form in places]
    rows = [
        [
            names[0].figure(cell.model, sources=sources(cell)),
            names[1].figure(cell.dataset),
            *(column.figure(cell.get(section, *keys)) for column, (_, keys, _) in zip(columns, places, strict=True)),
        ]
        for cell in cells
    ]
    return Table(key, title, [caption], [*names, *columns], rows)
