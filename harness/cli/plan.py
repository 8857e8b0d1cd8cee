"""``harness plan``: what a benchmark will take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.benchmark import chosen_measures
from harness.cli.benchmark import command as benchmark
from harness.cli.endpoint_options import EndpointOptions
from harness.cli.options import examples
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, pass_session, search_limits
from harness.types import Storage

if TYPE_CHECKING:
    from harness.models.runner import Prepared
    from harness.planning.cost_model import CostModel
    from harness.planning.devices import Device
    from harness.planning.forecast import Conditions, Forecast
    from harness.planning.reranking import Scoring
    from harness.planning.speed import Encoding, Indexing, PoolingSpeed, Scanning
    from harness.planning.workload import Workload
    from harness.registry.model_ref import ModelRef
    from harness.system.budget import Budget

CHOICE = ("split", "exclude_self", "limit")
"""Options that choose a part of a dataset."""
MAKING = ("encode", "transform", "index")
"""Phases of the column "encode or index"."""
FINDING = ("geometry", "search", "rerank")
"""Phases of the column "search"."""
UNUSED = (
    *("search_device", "indexes", "searches", "executor", "address", "workers", "cpus_per_task", "gpus_per_task"),
    *("store", "log", "offline"),
)
"""Options of a benchmark that change nothing in a plan: accepted, so that the same arguments fit both; not shown."""


def _unused(option: click.Parameter) -> click.Parameter:
    hidden = copy(option)
    setattr(hidden, "hidden", True)  # noqa: B010 (click.Parameter does not declare it)
    return hidden


@click.command(
    "plan",
    params=[_unused(each) if each.name in UNUSED else each for each in benchmark.params],
    **examples("harness plan -m bm25 --suite beir18", "harness plan -m mpnet -d fiqa --device t4 --price 0.4"),
)
@click.option("--device", help="Plan for t4, a100 or h100 instead of this machine.")
@click.option("--price", type=click.FloatRange(min=0), help="USD an hour (default: the device's, approximate).")
@pass_session
def command(
    session: Session,
    /,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    suites: tuple[str, ...],
    dtype: str | None,
    device: str | None,
    price: float | None,
    storage: Storage,
    memory: int,
    search_device: str,
    measures: str | None,
    depth: int,
    results: Path,
    force: bool,
    **others: Any,
) -> None:
    """Say what a benchmark with the same arguments will take, before any of it is done.

    Documents, tokens, bytes, peak memory, hours and cost of every model on every dataset. Nothing is fetched; a model
    is loaded only where its speed is neither on record nor known. Finished cells show what they really took. Arguments
    that change nothing here (--executor, --store, --index ...) are accepted. `harness study plan FILE` plans training.
    """
    from harness.planning import devices as known
    from harness.planning.forecast import STORAGE, Conditions

    target = known.device(device) if device else None
    searcher = "cpu" if target else search_limits(memory, search_device).device
    price = target.price if target and price is None else price
    endpoint = EndpointOptions(others["base_url"], others["max_tokens"], others["max_cost"])
    refs = endpoint.passed_to(session.models(models, dtype, storage, planned=True))
    budget = endpoint.budget(refs)
    names = chosen_measures(measures, depth)
    conditions = Conditions(price, STORAGE[storage], memory, depth, {})
    with session.progress_bar() as progress:
        work = _workloads(session, datasets, suites, names, depth, {key: others[key] for key in CHOICE})
        forecasts = _forecasts(session, refs, work, conditions, target, searcher, None if force else results)
        progress("", 0, 0)
    notes = _notes(target, price, forecasts.paces, work, forecasts.cells, searcher)
    if forecasts.shares_parts:
        notes.append("vectors and indexes that several rows need are counted in the first of these rows")
    notes += _endpoint_notes(forecasts, budget)
    _print(forecasts, notes, session.as_json)


@dataclass
class _Forecasts:
    """What every model takes on every dataset, and in total; and the speeds that this was computed from."""

    cells: list[Forecast] = field(default_factory=list)
    totals: list[Forecast] = field(default_factory=list)
    paces: list[CostModel] = field(default_factory=list)
    shares_parts: bool = False
    """Whether a row needs vectors or an index that an earlier one makes."""


def _workloads(
    session: Session,
    datasets: Sequence[str],
    suites: Sequence[str],
    measures: tuple[str, ...],
    depth: int,
    choice: dict[str, Any],
) -> Sequence[Workload]:
    """The sizes of the datasets; UserError where a measure is deeper than the runs will be."""
    from harness.metrics.depth import check_depth
    from harness.planning.workload import workloads

    work = workloads(datasets, suites, session.registry, session.home, progress=session.progress, **choice)
    for opened in (each.dataset for each in work if each.dataset):
        check_depth(measures, depth, len(opened.corpus) - opened.exclude_self, opened.label)
    return work


def _forecasts(
    session: Session,
    refs: Sequence[ModelRef],
    work: Sequence[Workload],
    conditions: Conditions,
    target: Device | None,
    searcher: str,
    results: Path | None,
) -> _Forecasts:
    from harness.planning.cost_model import cost_model, in_place_of, loadable
    from harness.planning.forecast import total
    from harness.planning.stored import SharedParts, stored_parts

    home, found, shared = session.state.home, _Forecasts(), SharedParts()
    for ref in refs:
        ready: Prepared | str
        if ref.missing_folder:
            like = session.registry.model(ref.spec.facts.like).stored(ref.storage)
            ready = loadable(like, home, session.progress, tries=target is None)
            speed = in_place_of(ref, cost_model(like, ready, home, target, session.progress, searcher))
            ready = speed.note
        else:
            ready = loadable(ref, home, session.progress, tries=target is None)
            speed = cost_model(ref, ready, home, target, session.progress, searcher)
        here = stored_parts(ready, work, home) if target is None else {}
        named = ref if isinstance(ready, str) else ready.ref
        before = shared.of(named, work)
        stored = {key: here.get(key, frozenset()) | before.get(key, frozenset()) for key in {*here, *before}}
        found.shares_parts |= any(before[key] - here.get(key, frozenset()) for key in before)
        under = replace(conditions, stored=stored)
        own = [_cell(speed, ready, each, under, target, home, results) for each in work]
        for cell in own:
            if cell.status == "planned":
                shared.add(named, cell.dataset)
        found.cells += own
        found.paces.append(speed)
        found.totals.append(total(speed.label, own, [speed]))
    if len(refs) > 1:
        found.totals.append(total("all", found.cells, found.paces))
    return found


def _print(forecasts: _Forecasts, notes: list[str], as_json: bool) -> None:
    if as_json:
        listed = {"cells": forecasts.cells, "totals": forecasts.totals}
        rows = {name: [asdict(r) | {"total_seconds": r.total_seconds} for r in of] for name, of in listed.items()}
        print_json({**rows, "paces": [asdict(each) for each in forecasts.paces], "notes": notes})
        return
    table = [_row(row) for row in (*forecasts.cells, *forecasts.totals)]
    shown = [name for name in table[0] if any(row[name] for row in table)]
    print_table([{name: row[name] for name in shown} for row in table], disable_numparse=True)
    click.echo("\n" + "\n".join(f"- {note}" for note in notes))


def _cell(
    pace: CostModel,
    model: Prepared | str,
    work: Workload,
    conditions: Conditions,
    target: Device | None,
    home: Path,
    results: Path | None,
) -> Forecast:
    """The forecast, with what it really took if the cell is finished in the folder ``results``."""
    from harness.evaluation.pipeline import Settings, finished
    from harness.planning.forecast import compared, forecast
    from harness.results.store import ResultStore
    from harness.system.environment import machine

    if not isinstance(model, str) and work.dataset is not None and results is not None:
        settings = Settings(home, ResultStore(results), k=conditions.depth)
        if result := finished(model, work.dataset, settings):
            there = result["manifest"].get("run", {}).get("machine", {})
            same = any(target.name.upper() in gpu for gpu in there.get("gpus", ())) if target else there == machine()
            whole = replace(conditions, stored={}, in_full=True)
            return compared(forecast(pace, work, whole), result["seconds"], comparable=same)
    return forecast(pace, work, conditions)


def _notes(
    target: Device | None,
    price: float | None,
    paces: Sequence[CostModel],
    work: Sequence[Workload],
    cells: Sequence[Forecast],
    searcher: str,
) -> list[str]:
    """Where the numbers come from and what they leave out, a sentence each."""
    notes = ["tokens are the catalogue's, off by a quarter at most; estimated from the texts where a dataset is here"]
    singles = {part.label: part for pace in paces for part in pace.parts}.values()
    for single in singles:
        notes += _speed_notes(single)
    if exact := next((single.scanning for single in singles if single.scanning), None):
        where = f"on {searcher}" if exact.origin == "measured" else f"of {target.name if target else searcher}"
        notes.append(f"exact search: {exact.flops / 1e9:,.0f} GFLOP/s {where}, {_origin(exact)}")
    if target:
        notes.append(
            f"{target.name} ({target.summary}): {target.flops / 1e12:,.0f} TFLOP/s {target.dtype} at an assumed "
            f"utilisation of {target.utilisation:.2f}; exact search at the same share of its "
            f"{target.float32 / 1e12:,.1f} TFLOP/s float32; lexical models and geometry as on this machine's "
            f"processor; what is stored here is not counted as there"
        )
    if price is not None:
        default = target is not None and price == target.price
        notes.append(f"{price:.2f} USD an hour" + (", approximate: set yours with --price" if default else ""))
    for name in {each.corpus for each in work if each.corpus}:
        twins = [each for each in work if each.corpus == name]
        if len(twins) > 1:
            notes.append(
                f"{' and '.join(each.label for each in twins)} have nearly the same documents, yet each is counted in "
                f"full: stored vectors serve both only where whole shards are equal"
            )
    if any(cell.ratio for cell in cells):
        notes.append("ratio: what a finished cell took / what is predicted for it")
    return notes


def _speed_notes(pace: CostModel) -> Iterator[str]:
    """The speeds that a model's rows are computed from, and where they come from."""
    if pace.encoding:
        speed = f"{pace.encoding.tokens_per_second:,.0f} tokens a second"
        yield f"{pace.label}: {speed}, {_origin(pace.encoding)}, {pace.dim} dimensions"
    elif pace.indexing:
        speed = f"{pace.indexing.bytes_per_second / 1e6:,.1f} MB of text a second"
        yield f"{pace.label}: {speed}, {_origin(pace.indexing)}"
    elif pace.scoring:
        speed = f"{pace.scoring.tokens_per_second:,.0f} tokens of pairs a second"
        yield f"{pace.label}: {speed}, {_origin(pace.scoring)}, {pace.depth} documents a query at most"
    if pace.kind == "transform":
        yield f"{pace.label}: the fit on the documents and the map of all vectors at this processor's speed"
    elif pace.pooling:
        each = f"{pace.pooling.text_seconds * 1000:,.2g} ms a document for pooling"
        yield f"{pace.label}: {each}, {_origin(pace.pooling)}"


def _endpoint_notes(forecasts: _Forecasts, budget: Budget) -> list[str]:
    """What is sent to endpoints, and whether the budget is enough for it."""
    from harness.system.budget import MILLION

    notes = []
    for pace in forecasts.paces:
        if endpoints := {part.label: part.endpoint for part in pace.parts if part.endpoint}:
            sent = sum(cell.sent_tokens or 0 for cell in forecasts.cells if cell.model == pace.label)
            places = " and ".join(dict.fromkeys(each.address for each in endpoints.values()))
            prices = (
                "price unknown: add price=N" if each.price is None else f"{each.price:g}" for each in endpoints.values()
            )
            listed = " and ".join(dict.fromkeys(prices))
            notes.append(f"{pace.label}: about {sent:,} tokens are sent to {places}; USD per million: {listed}")
    sent = sum(cell.sent_tokens or 0 for cell in forecasts.cells)
    cost = sum((cell.cost or 0.0) for cell in forecasts.cells if cell.sent_tokens)
    if not budget.reserve(sent, MILLION * cost / sent if sent else 0.0):
        notes.append("the budget of --max-tokens or --max-cost is less: the benchmark would stop before its end")
    return notes


def _origin(speed: Encoding | Indexing | Scanning | PoolingSpeed | Scoring) -> str:
    """Where a speed is from, and whether to believe it."""
    if speed.reliable:
        return speed.origin
    return f"{speed.origin} (unreliable: other work took the processor; measured again next time)"


def _row(row: Forecast) -> dict[str, str]:
    from harness.cli.quantity import amount, duration, size

    seconds = row.seconds or {}
    disk = (
        None if row.text_bytes is None and row.stored_bytes is None else (row.text_bytes or 0) + (row.stored_bytes or 0)
    )
    making = sum(seconds.get(phase, 0.0) for phase in MAKING) if row.seconds is not None else None
    finding = sum(seconds.get(phase, 0.0) for phase in FINDING) if row.seconds is not None else None
    dataset = f"total, {row.known} of {row.cells} known" if row.status == "total" else row.dataset
    return {
        "model": row.model,
        "dataset": dataset,
        "documents": amount(row.documents),
        "tokens": amount(row.tokens),
        "download": size(row.download_bytes),
        "disk": size(disk),
        "memory": size(row.memory_bytes),
        "encode or index": duration(making),
        "search": duration(finding),
        "USD": "" if row.cost is None else f"{row.cost:.2f}" if row.cost >= 0.1 or not row.cost else f"{row.cost:.2g}",
        "took": duration(None if row.measured is None else sum(row.measured.values())),
        "ratio": "" if row.ratio is None else f"{row.ratio:.2f}",
        "note": row.note,
    }
