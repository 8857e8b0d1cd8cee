"""A leaderboard as Markdown: scores, geometry, cost, and notes on what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.geometry import DEFINITIONS
from reports.leaderboard import MEASURE, Average, Cell, Cells, Leaderboard

GEOMETRY = (
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
ISOTROPY = ("geometry", "documents", "isotropy")
INDEX = (
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
PHASES = ("encode_documents", "encode_queries", "index", "search", "measure", "geometry")
"""Order of the cost columns; phases not named here come after."""


def markdown(board: Leaderboard) -> str:
    """The whole report, in GitHub's Markdown."""
    sections = [
        *_scores(board, board.datasets, board.cells, board.averages),
        *_scores(board, board.partial_datasets, board.partial_cells, (), title=" on some queries only"),
        *_approximate([cell for cell in board.rows() if cell.ok and isinstance(cell.get("index"), dict)]),
        *_geometry([cell for cell in board.rows() if cell.ok]),
        *_cost([cell for cell in board.rows() if cell.ok]),
        "## Notes",
        "\n".join(f"- {note}" for note in dict.fromkeys(_notes(board))),
    ]
    return "\n\n".join(sections) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line; underscores inside a word mean nothing and stay bare."""
    return re.sub(r"([\\`*<>|\[\]~&$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def _table(headers: Sequence[str], rows: list[list[str]], left: Sequence[str] = ("model", "dataset")) -> str:
    from tabulate import tabulate

    sides = ["left" if header in left else "right" for header in headers]
    return tabulate(rows, list(headers), tablefmt="pipe", colalign=sides, disable_numparse=True)


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"


def _scores(
    board: Leaderboard, datasets: Sequence[str], cells: Cells, averages: Sequence[Average], *, title: str = ""
) -> list[str]:
    models = [model for model in board.models if any((model, dataset) in cells for dataset in datasets)]
    if not models:
        return []
    caption = [f"{MEASURE} x 100, the mean over the judged queries of a dataset; in bold the best of a column."]
    if title:
        caption.append("These are runs with `--limit`: comparable with no other run, and in no average.")
    for average in averages:
        listed = ", ".join(map(escape, average.datasets))
        caption.append(f"{escape(average.name)}: the unweighted mean of {listed}.")
    measured = _folded(datasets, averages)
    shown = [*measured, *(average for average in averages if average not in measured)]
    headers = ["model", *(escape(entry if isinstance(entry, str) else entry.name) for entry in shown)]
    columns = [_column(board, entry, models, cells) for entry in shown]
    isotropy = [_isotropy(model, measured, cells) for model in models]
    if not title and any(value != "-" for value in isotropy):
        columns.append(isotropy)
        headers.append("isotropy" if len(measured) == 1 else f"isotropy (mean of {len(measured)})")
        caption.append("Isotropy is that of the document vectors; it depends on their number and dimension, see below.")
    rows = [list(row) for row in zip(map(escape, models), *columns, strict=True)]
    return [f"## {MEASURE}{title}", " ".join(caption), _table(headers, rows)]


def _folded(datasets: Sequence[str], averages: Sequence[Average]) -> list[str | Average]:
    """The datasets, a group's mean in place of its members where there is anything beside them."""
    means = {label: each for each in averages if each.group and {*each.labels} != {*datasets} for label in each.labels}
    entries: list[str | Average] = []
    for entry in (means.get(dataset, dataset) for dataset in datasets):
        if entry not in entries:
            entries.append(entry)
    return entries


def _isotropy(model: str, entries: Sequence[str | Average], cells: Cells) -> str:
    """The mean over the entries, of which a group's is the mean over its members."""
    means = []
    for labels in ([entry] if isinstance(entry, str) else entry.labels for entry in entries):
        found = [cells[model, label].get(*ISOTROPY) if (model, label) in cells else None for label in labels]
        known = [value for value in found if isinstance(value, int | float)]
        if len(known) < len(found):
            return "-"
        means.append(sum(known) / len(known))
    return f"{sum(means) / len(means):.4f}" if means else "-"


def _column(board: Leaderboard, entry: str | Average, models: Sequence[str], cells: Cells) -> list[str]:
    """A dataset's scores, or an average's; nothing is best where the models saw different versions of a dataset."""
    if not isinstance(entry, str):
        means, bold = [entry.means[model] for model in models], not board.mixed & {*entry.labels}
        instead = [f"{mean.measured} of {len(entry.datasets)}" for mean in means]
        return _emphasise([mean.value for mean in means], [mean.in_domain for mean in means], instead, bold)
    own = [cells.get((model, entry)) for model in models]
    scores, marked = [cell.score if cell else None for cell in own], [bool(cell and cell.in_domain) for cell in own]
    return _emphasise(scores, marked, ["-" if c is None or c.ok else "failed" for c in own], entry not in board.mixed)


def _emphasise(values: Sequence[float | None], marked: Sequence[bool], instead: Sequence[str], bold: bool) -> list[str]:
    """Values x 100, the best of several in bold (all that print alike), an asterisk after those marked."""
    numbers = [None if value is None else f"{100 * value:.2f}" for value in values]
    known = [number for number in numbers if number is not None]
    best = max(known, key=float) if bold and len(known) > 1 else None
    shown = [
        other if number is None else f"**{number}**" if number == best else number
        for number, other in zip(numbers, instead, strict=True)
    ]
    return [
        text + (r"\*" if number and mark else "") for text, number, mark in zip(shown, numbers, marked, strict=True)
    ]


def _approximate(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return []
    rows = [
        [escape(c.model), escape(c.dataset), *(_number(c.get("index", *keys), form) for _, keys, form in INDEX)]
        for c in cells
    ]
    caption = (
        "Against exact search of the same vectors on the same machine. Recall@10, the cost (exact minus approximate) "
        "and queries per second are of a search for 10 documents, as a server asks; recall@100, recall@1000 and the "
        "scores above are of the run, whose depth lets a graph search more widely. Bytes are the index file's."
    )
    return ["## Approximate indexes", caption, _table(["model", "dataset", *(name for name, _, _ in INDEX)], rows)]


def _geometry(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return []
    rows = [
        [escape(c.model), escape(c.dataset), *(_number(c.get("geometry", *keys), form) for _, keys, form in GEOMETRY)]
        for c in cells
    ]
    caption = (
        "Of the document vectors, except where a column says queries, and hubness, which is that of the top 10 results."
    )
    return ["## Geometry", caption, _table(["model", "dataset", *(name for name, _, _ in GEOMETRY)], rows)]


def _cost(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return []
    found = {phase for cell in cells for phase in cell.get("seconds") if "/" not in phase}
    phases = [*(p for p in PHASES if p in found), *sorted(found - {*PHASES})]
    words = ("processor", "dtype")
    headers = ["model", "dataset", *(f"{p.replace('_', ' ')} s" for p in phases), "documents/s", "tokens/s", "peak GiB"]
    rows = [
        [
            escape(cell.model),
            escape(cell.dataset),
            *(_number(cell.get("seconds", phase), ".2f") for phase in phases),
            *(_number(figure, ".1f") for figure in _speeds(cell)),
            _number((cell.get("manifest", "run", "peak_memory_bytes") or 0) / 2**30 or None, ".2f"),
            escape(_processor(cell)),
            escape(str(cell.get("manifest", "model", "fingerprint", "dtype") or "-")),
        ]
        for cell in cells
    ]
    caption = (
        "Seconds of wall time; those of encoding and indexing are what the stored vectors or index once took, maybe in "
        "an earlier run. Documents and document tokens per second of encoding (lexical models: of indexing). Peak "
        "memory is that of the whole process up to the cell's end. A model made of others has their sums; each one's "
        "share is in its result.json."
    )
    return ["## Cost", caption, _table([*headers, *words], rows, ("model", "dataset", *words))]


def _speeds(cell: Cell) -> tuple[float | None, float | None]:
    """Documents and tokens per second; None where not known."""
    spent = cell.get("seconds", "encode_documents") or cell.get("seconds", "index")
    documents, tokens = (cell.get("counts", what) for what in ("documents", "document_tokens"))
    return documents / spent if documents and spent else None, tokens / spent if tokens and spent else None


def _processor(cell: Cell) -> str:
    machine = ("manifest", "run", "machine")
    return (
        ", ".join(map(str, filter(None, [cell.get(*machine, "processor"), *(cell.get(*machine, "gpus") or ())]))) or "-"
    )


def _notes(board: Leaderboard) -> Iterable[str]:
    cells = board.rows()
    if any(cell.in_domain and cell.score is not None for cell in cells):
        yield r"\* in-domain: the model was trained on judgements of that dataset (of an average: of one in it)."
    if any(cell.get("geometry", "documents") for cell in cells):
        yield f"Isotropy: {escape(DEFINITIONS['isotropy'])}; l are the eigenvalues of the vectors' covariance."
        yield f"Its ceiling: {escape(DEFINITIONS['isotropy_ceiling'])}."
    for ties in {cell.get("manifest", "ties"): None for cell in cells if cell.get("manifest", "ties")}:
        yield f"Order of documents: {escape(str(ties))}."
    for dataset in (*board.datasets, *board.partial_datasets):
        own = [cell for cell in cells if cell.dataset == dataset]
        if dataset in board.mixed:
            yield f"{escape(dataset)}: the models saw different versions of it, so its column compares nothing."
        if any(cell.get("manifest", "dataset", "exclude_self") for cell in own):
            yield f"{escape(dataset)}: a query's own document is left out of its ranking."
        for note in (note for cell in own for note in cell.get("manifest", "dataset", "notes") or ()):
            yield f"{escape(dataset)}: {escape(str(note).rstrip('.'))}."
    for cell in cells:
        if not cell.ok:
            reason = escape(str(cell.get("reason") or "no reason was recorded"))
            yield f"failed: {escape(cell.model)} on {escape(cell.dataset)}: {reason}"
    for skipped in board.skipped:
        yield f"skipped: {escape(str(skipped.path))}: {escape(skipped.reason)}"
