"""The columns of a report's tables, in every format; to add one, add a line here.

The tables with one row for each stored result list `Field`s: a column, and how its value is read from a result. The
table of scores has a column for each dataset; the functions at the end make those and the ones beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.planning.devices import devices
from harness.results.overlap import Overlap
from harness_reports.data.cells import Cell
from harness_reports.tables.model import Column


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table with one row for each result."""

    column: Column
    value: Callable[[Cell], object]
    """Reads the value; None where the result has none."""
    caption: str = ""
    """A sentence added to the table's caption when the column is shown."""
    optional: bool = False
    """Whether the column is left out if no result has a value."""
    keys: tuple[str, ...] = ()
    """Where the value is stored in a result, if it is stored as it is."""


def stored(name: str, form: str, *keys: str, scale: float = 1.0, optional: bool = False) -> Field:
    """A column whose value is stored in a result under these keys, one inside the other."""
    return Field(Column(name, form, scale), lambda cell: cell.get(*keys), optional=optional, keys=keys)


GEOMETRY = (
    stored("n", "d", "geometry", "documents", "n"),
    stored("d", "d", "geometry", "documents", "d"),
    stored("isotropy", ".4f", "geometry", "documents", "isotropy"),
    stored("its ceiling", ".4f", "geometry", "documents", "isotropy_ceiling"),
    stored("debiased", ".4f", "geometry", "documents", "isotropy_debiased"),
    stored("participation ratio", ".2f", "geometry", "documents", "participation_ratio"),
    stored("IsoScore", ".4f", "geometry", "documents", "isoscore"),
    stored("1 - mean cosine", ".4f", "geometry", "documents", "one_minus_mean_cosine"),
    stored("uniformity", ".4f", "geometry", "documents", "uniformity"),
    stored("effective rank", ".2f", "geometry", "documents", "effective_rank"),
    stored("top-1 share", ".4f", "geometry", "documents", "top1_share"),
    stored("isotropy of queries", ".4f", "geometry", "queries", "isotropy"),
    stored("hubness skewness", ".4f", "geometry", "hubness", "skewness"),
    stored("active dimensions", ".1f", "geometry", "documents", "active_dimensions", optional=True),
    stored("of queries", ".1f", "geometry", "queries", "active_dimensions", optional=True),
    stored("FLOPS", ".3f", "geometry", "documents", "flops", optional=True),
    stored("posting skewness", ".2f", "geometry", "documents", "posting_skewness", optional=True),
)
JUDGED = "Judged@10"
JUDGEMENTS = (
    stored("judged queries", ",d", "counts", "queries"),
    stored("judgements", ",d", "counts", "judged"),
    stored(JUDGED, ".1%", "measures", JUDGED),
    Field(
        Column("nDCG@10 of judged", ".2f", 100),
        lambda cell: cell.get("measures", "nDCG(judged_only=True)@10"),
        "nDCG@10 of judged: of rankings from which unjudged documents were removed, nDCG(judged_only=True)@10 x 100.",
        optional=True,
    ),
    Field(
        Column("Bpref", ".2f", 100),
        lambda cell: cell.get("measures", "Bpref"),
        "Bpref x 100: how seldom a document judged not relevant is before a relevant one.",
        optional=True,
    ),
)
INDEX = (
    stored("recall@10", ".4f", "index", "served", "recall@10"),
    stored("nDCG@10 exact", ".4f", "index", "exact", "nDCG@10"),
    stored("nDCG@10 cost", "+.4f", "index", "served", "cost", "nDCG@10"),
    stored("queries/s", ".1f", "index", "served", "queries_per_second", "approximate"),
    stored("exact queries/s", ".1f", "index", "served", "queries_per_second", "exact"),
    stored("recall@100", ".4f", "index", "recall@100"),
    stored("recall@1000", ".4f", "index", "recall@1000"),
    stored("bytes", ",d", "index", "bytes"),
    stored("vectors' bytes", ",d", "index", "vectors_bytes"),
    stored("build s", ".2f", "index", "build_seconds"),
    stored("trained on", ",d", "index", "train_sample"),
)


def judgements(overlaps: Sequence[Overlap]) -> tuple[Field, ...]:
    """What is known of a test set's judgements, and how much of it the model's training set has."""

    def share(name: str) -> Callable[[Cell], float | None]:
        return lambda cell: max((getattr(o, name) for o in overlaps if o.concerns(cell.result)), default=None)

    told = "Seen: the share of queries and of relevant documents of which the model's training set has a duplicate."
    return (
        *JUDGEMENTS,
        Field(Column("queries seen", ".2%"), share("query_share"), told, optional=True),
        Field(Column("relevant seen", ".2%"), share("document_share"), optional=True),
    )


PHASES = ("encode_documents", "encode_queries", "index", "search", "measure", "geometry")
"""The order of the columns of seconds; other phases come after these."""
INDEX_BYTES = (
    "Bytes per document: of the stored vectors (sparse ones: 8 for each weight), of a lexical model's index, or of an "
    "approximate index."
)
VECTORS = "Vectors per document: of the tokens that a multi-vector model keeps."
TRUNCATED = "Truncated: the share of documents of which it read the beginning alone."
PEAK_MEMORY = ("manifest", "run", "peak_memory_bytes")


def cost(cells: Iterable[Cell]) -> tuple[Field, ...]:
    """Seconds of every phase of these results, speeds, memory, energy, price and processor."""
    found = {phase for cell in cells for phase in cell.get("seconds") if "/" not in phase}
    phases = [*(phase for phase in PHASES if phase in found), *sorted(found - {*PHASES})]
    usd = (
        "USD: the seconds at the price of an hour of the machine's GPUs, as harness plan has it; encoding is counted "
        "as if it had run there."
    )
    return (
        *(stored(f"{phase.replace('_', ' ')} s", ".2f", "seconds", phase) for phase in phases),
        Field(Column("documents/s", ".1f"), lambda cell: _speed(cell, "documents")),
        Field(Column("tokens/s", ".1f"), lambda cell: _speed(cell, "document_tokens")),
        Field(Column("bytes/document", ",.0f"), _size, INDEX_BYTES, optional=True),
        Field(Column("vectors/document", ".1f"), _share("document_vectors"), VECTORS, optional=True),
        Field(Column("truncated", ".1%"), _share("truncated_documents"), TRUNCATED, optional=True),
        Field(Column("peak GiB", ".2f", 1 / 2**30), lambda cell: cell.get(*PEAK_MEMORY) or None),
        Field(Column("kWh", ".4f"), _energy, "kWh: as the run recorded it.", optional=True),
        Field(Column("USD", ".4f"), _price, usd, optional=True),
        Field(Column("processor"), _processor),
        stored("dtype", "", "manifest", "model", "fingerprint", "dtype"),
    )


PROVENANCE = (
    Column("command", long=True),
    Column("results", "d"),
    Column("measured"),
    Column("version"),
    Column("commit"),
)
INTERVAL = "95% interval"
RANK = Column("rank", "d")
DIFFERENCE_INTERVAL = Column("its 95% interval", "+.2f", 100)
DESIGN_EFFECT = Column("design effect", ".2f")
DIFFERENCE_EFFECT = Column("its design effect", ".2f")


def score(name: str) -> Column:
    """The scores on a dataset, or an average over datasets, x 100."""
    return Column(name, ".2f", 100)


def interval(average: str = "") -> Column:
    """The confidence interval of an average; the first average of a table needs no name."""
    return score(f"{INTERVAL} of {average}" if average else INTERVAL)


def difference(baseline: str) -> Column:
    """The difference of an average from the baseline's."""
    return Column(f"minus {baseline}", "+.2f", 100)


def isotropy(datasets: int) -> Column:
    """The mean isotropy over so many datasets."""
    return Column("isotropy" if datasets == 1 else f"isotropy (mean of {datasets})", ".4f")


def _speed(cell: Cell, count: str) -> float | None:
    """Documents or tokens per second of encoding (lexical models: of indexing); None if not known."""
    seconds = cell.get("seconds", "encode_documents") or cell.get("seconds", "index")
    number = cell.get("counts", count)
    return number / seconds if number and seconds else None


def _share(count: str) -> Callable[[Cell], float | None]:
    """A count per document; None for results without it."""

    def share(cell: Cell) -> float | None:
        number, documents = cell.get("counts", count), cell.get("counts", "documents")
        return number / documents if number is not None and documents else None

    return share


def _size(cell: Cell) -> float | None:
    """Bytes of the index per document; None for results of versions that did not record them."""
    size, documents = cell.get("counts", "index_bytes"), cell.get("counts", "documents")
    return size / documents if size and documents else None


def _energy(cell: Cell) -> float | None:
    """kWh, if the run recorded it."""
    found = cell.get("manifest", "run", "energy_kwh")
    return float(found) if isinstance(found, int | float) else None


def _price(cell: Cell) -> float | None:
    """USD of all phases on the machine's GPUs; None if the price of one is not known."""
    gpus: Sequence[object] = cell.get("manifest", "run", "machine", "gpus") or ()
    hourly = [
        next((d.price for d in devices().values() if re.search(rf"\b{d.name}\b", str(gpu), re.IGNORECASE)), None)
        for gpu in gpus
    ]
    known = [price for price in hourly if price is not None]
    seconds = sum(spent for phase, spent in cell.get("seconds").items() if "/" not in phase)
    return seconds / 3600 * sum(known) if known and len(known) == len(hourly) else None


def _processor(cell: Cell) -> str:
    """The processor and GPUs of the run; empty if not recorded."""
    machine = ("manifest", "run", "machine")
    return ", ".join(map(str, filter(None, [cell.get(*machine, "processor"), *(cell.get(*machine, "gpus") or ())])))
