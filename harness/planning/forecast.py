"""Forecast of a benchmark, cell by cell: documents, tokens, bytes, memory, hours and cost. Arithmetic only.

Seconds are tokens / throughput for encoding; for exact search of dense vectors 2 x documents x queries x dim operations
over the operations a second of the device that searches, and for the geometry 4 x documents x dim^2 (its products are
float64, which takes twice as long) over those of the processor; for lexical models bytes / throughput; for the search
of other models queries x (a + b x documents). A transform adds to its member's costs one pass over the documents'
vectors (4 x documents x dim^2 operations, as for the geometry) and the map of all vectors (4 x texts x dim x new dim);
a pooling adds a measured time per document. A fusion takes what its members take, a reranker what its first stage takes
and queries x depth x tokens of a pair / throughput. Not included are fusing, the eigenvalues of a covariance (below 1 s
for 768 dimensions), computing metrics and writing runs (about 2 ms per query), and downloads (unknown speed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.planning.cost_model import CostModel
from harness.planning.workload import Workload
from harness.search.exact import MEMORY, most_memory
from harness.system.budget import MILLION

STORAGE = {"float32": 4, "float16": 2}
"""Bytes per stored number."""
PROCESS, WEIGHTS = 1.0e9, 4
"""Memory of a dense model: libraries and one shard of vectors and texts, plus this many times its weights (file, loaded
copy, one batch). Measured peaks are 1.1 to 1.4 GB for MiniLM and 2.4 to 3.4 GB for MPNet."""
LEXICAL, LEXICAL_DOCUMENT = 0.4e9, 24
"""Memory of a lexical model, and per document while a query is scored."""
SCAN_DOCUMENT = 24
"""Memory per document (offset and id) while a corpus is first read."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A cell, or the total of several. None means unknown; ``note`` says why."""

    model: str
    dataset: str
    status: str = "planned"
    """``planned``, ``finished`` (the prediction is shown with the measured seconds) or ``total``."""
    documents: int | None = None
    tokens: int | None = None
    download_bytes: int | None = None
    text_bytes: int | None = None
    """Disk space of the dataset."""
    stored_bytes: int | None = None
    """Disk space of the vectors or the index."""
    memory_bytes: int | None = None
    seconds: Mapping[str, float] | None = None
    """Phase -> seconds: encode, transform, geometry and search, or index and search; and rerank."""
    cost: float | None = None
    """USD: hours of a machine, and tokens of an endpoint."""
    sent_tokens: int | None = None
    """Tokens that are sent to an endpoint; None for a model of this machine."""
    measured: Mapping[str, float] | None = None
    """Measured seconds of a finished cell, by the same phases."""
    ratio: float | None = None
    """Measured / predicted; None if it was measured on another machine than the one planned for."""
    note: str = ""
    cells: int = 1
    known: int = 0
    """For a total: number of cells, and of those with known seconds."""

    @property
    def total_seconds(self) -> float | None:
        """Seconds of all phases."""
        return None if self.seconds is None else sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Conditions:
    """Settings that all cells of a plan share."""

    price: float | None = None
    """USD per hour."""
    number_bytes: int = 4
    """Bytes per number of stored document vectors; 4 for queries."""
    search_bytes: int = MEMORY
    """Memory limit of exact search."""
    depth: int = 1000
    """Depth of the runs."""
    stored: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """(model, dataset) -> what is stored already: vectors ("document", "query") or "index"."""
    in_full: bool = False
    """Whether a member counts what an earlier one stores, too, as results do."""

    def of_member(self, member: CostModel, dataset: str, depth: int) -> Conditions:
        """Those of a member searched to a depth, after the members before it; its machine's time is not priced."""
        stored = dict(self.stored)
        for model, part in () if self.in_full else member.repeated:
            stored[model, dataset] = stored.get((model, dataset), frozenset()) | {part}
        return replace(self, price=None, depth=depth, stored=stored)


def forecast(model: CostModel, work: Workload, conditions: Conditions) -> Forecast:
    """Forecast one cell, as far as model and dataset are known."""
    if model.kind in ("fusion", "reranker"):
        return _with_members(model, work, conditions)
    work = work.uncut(model.endpoint.max_chars) if model.endpoint else work.held_to(model.longest)
    sized = _sized(model, work, (work.note, model.note))
    if work.documents is None:
        return sized
    found = _predictions()[model.kind](model, work, conditions)
    planned = replace(sized, **found, cost=_machine_cost(found.get("seconds"), conditions))
    return _with_endpoint(planned, model.base or model, work, conditions) if model.endpoint else planned


def _sized(model: CostModel, work: Workload, notes: Iterable[str]) -> Forecast:
    """A cell as far as the dataset alone says, with every note once."""
    return Forecast(
        model.label,
        work.label,
        documents=work.documents,
        tokens=None if work.document_tokens is None else work.document_tokens + (work.query_tokens or 0),
        download_bytes=work.download_bytes,
        text_bytes=0 if work.dataset is not None else work.text_bytes or None,
        note="; ".join(dict.fromkeys(filter(None, notes))),
    )


def _predictions() -> dict[str, Callable[[CostModel, Workload, Conditions], dict[str, Any]]]:
    """Kind of model -> bytes and seconds of a cell."""
    rows = dict.fromkeys(("sparse", "multivector"), _rows)
    return {"dense": _dense, "lexical": _lexical, "transform": _transformed, "pooling": _pooled, **rows}


def _machine_cost(seconds: Mapping[str, float] | None, conditions: Conditions) -> float | None:
    if seconds is None or conditions.price is None:
        return None
    return sum(seconds.values()) / 3600 * conditions.price


def _with_endpoint(cell: Forecast, model: CostModel, work: Workload, conditions: Conditions) -> Forecast:
    """Adds the tokens that are sent to an endpoint, and what they cost."""
    assert model.endpoint is not None
    if work.document_tokens is None or work.query_tokens is None or not work.documents:
        return cell
    if model.kind == "reranker":  # a request repeats its query for every document
        pairs = min(model.depth, work.documents)
        each = work.document_tokens / work.documents
        sent = round(pairs * ((work.queries or 0) * each + work.query_tokens))
    else:
        stored = conditions.stored.get((model.label, work.label), frozenset())
        sent = work.document_tokens * ("document" not in stored) + work.query_tokens * ("query" not in stored)
    cell = replace(cell, sent_tokens=(cell.sent_tokens or 0) + sent)
    if model.endpoint.price is None:
        return cell
    return replace(cell, cost=(cell.cost or 0.0) + sent * model.endpoint.price / MILLION)


def _with_members(model: CostModel, work: Workload, conditions: Conditions) -> Forecast:
    """The members' costs, each searched as deep as their hits are read, and a reranker's own."""
    depth = max(conditions.depth, model.depth) if model.kind == "reranker" else model.depth or conditions.depth
    cells = [forecast(one, work, conditions.of_member(one, work.label, depth)) for one in model.members]
    notes = (part for note in (*(cell.note for cell in cells), model.note) for part in note.split("; "))
    sent, costs, stored = ([getattr(cell, name) for cell in cells] for name in ("sent_tokens", "cost", "stored_bytes"))
    whole = replace(
        _sized(model, work, notes),
        stored_bytes=None if None in stored else sum(stored),
        memory_bytes=_memory_together(model, [cell.memory_bytes for cell in cells]),
        seconds=_together([cell.seconds for cell in cells]),
        sent_tokens=None if sent.count(None) == len(sent) else sum(each or 0 for each in sent),
    )
    if model.kind == "reranker":
        whole = _reranked(whole, model, work)
    machine = _machine_cost(whole.seconds, conditions)
    known = [cost for cost in (machine, *costs) if cost is not None]
    whole = replace(whole, cost=sum(known) if known else None)
    return _with_endpoint(whole, model, work.uncut(model.endpoint.max_chars), conditions) if model.endpoint else whole


def _reranked(cell: Forecast, model: CostModel, work: Workload) -> Forecast:
    """Adds the reranker to its first stage."""
    work = work.uncut(model.endpoint.max_chars) if model.endpoint else work
    each = work.pair_tokens(model.longest)
    if each is None or not model.depth:
        return replace(cell, seconds=None)
    pairs = (work.queries or 0) * min(model.depth, work.documents or 0)
    stored = None if cell.stored_bytes is None else cell.stored_bytes + 4 * pairs
    if cell.seconds is None or model.scoring is None:
        return replace(cell, stored_bytes=stored, seconds=None)
    spent = pairs * each / model.scoring.tokens_per_second
    return replace(cell, stored_bytes=stored, seconds={**cell.seconds, "rerank": spent})


def _together(each: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """The sum of the seconds, phase by phase; None if one of them is unknown."""
    seconds: dict[str, float] = {}
    for one in each:
        if one is None:
            return None
        for phase, spent in one.items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return seconds


def _memory_together(model: CostModel, each: Sequence[int | None]) -> int | None:
    """Members stay loaded and are searched query by query together: a sum, with the libraries counted once."""
    known = [one for one in each if one is not None]
    own = 0 if model.kind == "fusion" or model.endpoint else WEIGHTS * model.weights_bytes
    if len(known) < len(each) or (model.kind == "reranker" and not model.endpoint and not own):
        return None
    return round(sum(known) - sum(map(_libraries, model.members)) + own + _libraries(model))


def _libraries(model: CostModel) -> float:
    """Memory of the libraries that a model needs."""
    if model.kind == "fusion" or model.endpoint:
        return max(map(_libraries, model.members), default=PROCESS)
    return LEXICAL if model.kind == "lexical" else PROCESS


def _dense(model: CostModel, work: Workload, conditions: Conditions) -> dict[str, Any]:
    stored = conditions.stored.get((model.label, work.label), frozenset())
    documents, queries = work.documents or 0, work.queries or 0
    memory = PROCESS + WEIGHTS * model.weights_bytes
    found: dict[str, Any] = {}
    if model.dim:
        per_dim = 0 if "document" in stored else documents * conditions.number_bytes
        per_dim += 0 if "query" in stored else queries * 4
        found["stored_bytes"] = per_dim * (model.stored_dim or model.dim)
        search = min(conditions.search_bytes, most_memory(documents, queries, model.dim, conditions.depth))
        peak = max(memory + search, SCAN_DOCUMENT * documents)
        found["memory_bytes"] = round(peak) if model.weights_bytes else None
    if model.encoding is None or model.scanning is None or work.document_tokens is None or work.query_tokens is None:
        return found
    tokens = work.document_tokens * ("document" not in stored) + work.query_tokens * ("query" not in stored)
    dim, flops = model.dim, model.scanning.flops
    found["seconds"] = {
        "encode": tokens / model.encoding.tokens_per_second,
        "geometry": 4 * documents * dim**2 / (model.scanning.processor_flops or flops),
        "search": 2 * documents * queries * dim / flops + queries * model.scanning.query_seconds,
    }
    return found


def _rows(model: CostModel, work: Workload, conditions: Conditions) -> dict[str, Any]:
    stored = conditions.stored.get((model.label, work.label), frozenset())
    documents, queries, encoding = work.documents or 0, work.queries or 0, model.encoding
    found: dict[str, Any] = {}
    if model.weights_bytes:
        peak = PROCESS + WEIGHTS * model.weights_bytes + conditions.search_bytes
        found["memory_bytes"] = round(max(peak, SCAN_DOCUMENT * documents))
    if encoding is None:
        return found
    if encoding.text_bytes:
        narrow = conditions.number_bytes / 4 if model.kind == "multivector" else 1
        texts = documents * narrow * ("document" not in stored) + queries * ("query" not in stored)
        found["stored_bytes"] = round(texts * encoding.text_bytes)
    if model.search_speed is None or work.document_tokens is None or work.query_tokens is None:
        return found
    tokens = work.document_tokens * ("document" not in stored) + work.query_tokens * ("query" not in stored)
    each = model.search_speed.query_seconds + model.search_speed.query_document_seconds * documents
    found["seconds"] = {"encode": tokens / encoding.tokens_per_second, "search": queries * each}
    return found


def _transformed(model: CostModel, work: Workload, conditions: Conditions) -> dict[str, Any]:
    base = model.base
    if base is None or not model.dim:
        return {}
    stored = conditions.stored.get((model.label, work.label), frozenset())
    documents, queries = work.documents or 0, work.queries or 0
    found = _dense(replace(base, dim=model.dim, stored_dim=base.stored_dim or base.dim), work, conditions)
    rows = documents * ("document" not in stored) + queries * ("query" not in stored)
    found["stored_bytes"] += rows * model.dim * 4
    if base.scanning is not None and (seconds := found.get("seconds")):
        operations = 4 * base.dim * (documents * base.dim * (rows > 0) + rows * model.dim)
        found["seconds"] = _with_transform(seconds, operations / (base.scanning.processor_flops or base.scanning.flops))
    return found


def _pooled(model: CostModel, work: Workload, conditions: Conditions) -> dict[str, Any]:
    base, speed = model.base, model.pooling
    if base is None:
        return {}
    stored = conditions.stored.get((model.label, work.label), frozenset())
    found = _predictions()[base.kind](replace(base, search_speed=model.search_speed), work, conditions)
    if speed is None:
        return {name: value for name, value in found.items() if name == "memory_bytes"}
    pooled = (work.documents or 0) * ("document" not in stored)
    if "stored_bytes" in found:
        found["stored_bytes"] += round(pooled * speed.text_bytes * conditions.number_bytes / 4)
    if seconds := found.get("seconds"):
        found["seconds"] = _with_transform(seconds, pooled * speed.text_seconds)
    return found


def _with_transform(seconds: Mapping[str, float], added: float) -> dict[str, float]:
    """The phases of the member, with the time of a transform or a pooling between encoding and the rest."""
    first = {"encode": seconds["encode"], "transform": seconds.get("transform", 0.0) + added}
    return {**first, **{name: spent for name, spent in seconds.items() if name not in first}}


def _lexical(model: CostModel, work: Workload, conditions: Conditions) -> dict[str, Any]:
    built = "index" in conditions.stored.get((model.label, work.label), frozenset())
    documents = work.documents or 0
    found: dict[str, Any] = {
        "memory_bytes": round(max(LEXICAL + LEXICAL_DOCUMENT * documents, SCAN_DOCUMENT * documents))
    }
    speed = model.indexing
    if speed is None or not work.text_bytes:
        return found
    found["stored_bytes"] = 0 if built else round(work.text_bytes * speed.index_share)
    if work.queries is not None:
        each = speed.query_seconds + speed.query_document_seconds * documents
        index = 0.0 if built else work.text_bytes / speed.bytes_per_second
        found["seconds"] = {"index": index, "search": work.queries * each}
    return found


def compared(cell: Forecast, seconds: Mapping[str, float], *, comparable: bool) -> Forecast:
    """Add the measured seconds of a finished cell (from its result) to its forecast; nothing is left to be done."""
    phases = {"encode_documents": "encode", "encode_queries": "encode"}
    measured: dict[str, float] = {}
    for phase, spent in seconds.items():
        name = phases.get(phase, phase)
        if name in ("encode", "geometry", "index", "search", "rerank"):
            measured[name] = measured.get(name, 0.0) + spent
    planned = cell.total_seconds
    ratio = sum(measured.values()) / planned if planned and comparable else None
    left = {"download_bytes": 0, "text_bytes": 0, "stored_bytes": 0, "cost": None, "sent_tokens": None}
    return replace(cell, status="finished", measured=measured, ratio=ratio, **left)  # type: ignore[arg-type]


def total(model: str, cells: Sequence[Forecast], weights: Iterable[CostModel] = ()) -> Forecast:
    """Sum the work that is left in these cells: finished cells are excluded, each dataset is counted once."""
    left = [cell for cell in cells if cell.status != "finished"]
    each = {cell.dataset: cell for cell in reversed(left)}
    known = [cell for cell in left if cell.seconds is not None]
    costs = [cell.cost for cell in left if cell.cost is not None]
    every = [part for one in weights for part in one.parts]
    files = {part.files or (part.base or part).label: part.download_bytes for part in every}
    return Forecast(
        model,
        "total",
        "total",
        documents=sum(cell.documents or 0 for cell in left),
        tokens=sum(cell.tokens or 0 for cell in left),
        download_bytes=sum(c.download_bytes or 0 for c in each.values()) + sum(files.values()),
        text_bytes=sum(cell.text_bytes or 0 for cell in each.values()),
        stored_bytes=sum(cell.stored_bytes or 0 for cell in left),
        memory_bytes=max((cell.memory_bytes for cell in left if cell.memory_bytes), default=None),
        seconds=_together([cell.seconds for cell in known]) if known or not left else None,
        cost=sum(costs) if costs else None,
        note=f"{len(cells) - len(left)} finished, apart" if len(left) < len(cells) else "",
        cells=len(left),
        known=len(known),
    )
