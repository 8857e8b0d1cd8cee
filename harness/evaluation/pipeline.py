"""The one story, and the only place that orders its steps:
dataset -> model -> vectors -> index -> run -> measures -> results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.beir import Dataset
from harness.errors import described, trace, writable
from harness.evaluation.encode_rate import rates
from harness.metrics.depth import DEPTH, check_depth, depth_label, fits
from harness.metrics.geometry import Hubness
from harness.metrics.measures import MEASURES, measure
from harness.metrics.ranking import Ranking, rank, read_run, run_writer
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.results.dataset_identity import refuse_another
from harness.results.store import PER_QUERY, RUN, SCHEMA, Result, ResultStore, extend_per_query, write_per_query
from harness.search.ann_eval import IndexEvaluation, index_costs
from harness.search.exact import Limits
from harness.search.index_config import IndexConfig
from harness.search.retrieve import Retrieval, retrieve
from harness.storage.atomic import alone, content_key
from harness.storage.remote import Shared
from harness.storage.temporary_files import sweep
from harness.system.environment import environment, peak_memory
from harness.system.log import note
from harness.system.timer import Clock
from harness.types import ModelError, PluginError, Progress, UserError

ZERO_VECTORS = "cosine 0 with everything"
REVISION = 2
"""Part of every cell's key: raised when a change to the harness itself can change a number."""


@dataclass(slots=True)
class Settings:
    """What a benchmark needs to know besides models and datasets."""

    home: Path
    results: ResultStore
    measures: tuple[str, ...] = MEASURES
    k: int = DEPTH
    """Depth of the runs."""
    limits: Limits = Limits()  # noqa: RUF009 (immutable)
    indexes: tuple[IndexConfig, ...] = ()
    """Each one a further row for every dense model, held against its exact one."""
    force: bool = False
    offline: bool = False
    shared: Shared | None = None
    """The store behind the one at home; None for none."""
    command: str = ""
    progress: Progress = lambda *_: None
    sole: bool = False
    """Whether there is one model alone, so that nothing is left to do where it cannot be loaded."""


@dataclass(slots=True)
class Cell:
    """One model on one dataset: how it ended."""

    model: str
    dataset: str
    status: str
    """``ok``; ``cached``: nothing was left to do; ``measured``: metrics were added from the stored run; ``failed``."""
    result: Result | None = None
    reason: str = ""
    trace: str = ""
    """The traceback of one that failed."""
    replaced: str = ""
    """What has changed since the result was made that this one replaces; empty: none was replaced."""


@dataclass(frozen=True, slots=True)
class Unready:
    """A model that cannot be used, found before anything was computed: each of its cells fails."""

    ref: ModelRef
    label: str
    error: ModelError | PluginError

    def cells(self, datasets: Sequence[Dataset]) -> Iterator[Cell]:
        """Its failed cells. They are not recorded: nothing tells which model it would have been."""
        for dataset in datasets:
            note("failed", model=self.label, dataset=dataset.label, reason=str(self.error), traceback=trace(self.error))
            yield Cell(self.label, dataset.label, "failed", None, str(self.error), trace(self.error))


def benchmark(models: Sequence[ModelRef], datasets: Sequence[Dataset], settings: Settings) -> Iterator[Cell]:
    """Evaluates every model on every dataset, yielding each cell as it ends.

    A user's mistake (UserError) ends it before any work starts where it can be known then; a model that cannot be
    loaded and a fault in a plug-in fail their cells and the others go on. A single model that cannot be loaded ends it
    (ModelError). Finished cells whose keys match are reused unless ``force``.
    """
    sweep(settings.home / "locks")
    settings = replace(settings, sole=len(models) == 1)
    for model in prepare(models, datasets, settings):
        if isinstance(model, Unready):
            yield from model.cells(datasets)
            continue
        for dataset in datasets:
            yield from cells(model, dataset, settings)
        model.unload()  # a suite of many models holds one at a time


def prepare(models: Sequence[ModelRef], datasets: Sequence[Dataset], settings: Settings) -> list[Prepared | Unready]:
    """The models made ready, and checked with what else is asked for; UserError where that cannot work, and where a
    result of another dataset would be replaced.

    Models that cannot be used are `Unready`; where there is no other, the first one's error is raised.
    """
    for dataset in datasets:
        check_depth(settings.measures, settings.k, len(dataset.corpus) - dataset.exclude_self, dataset.label)
        for ref in models:
            with suppress(ModelError, PluginError):  # it becomes `Unready` below
                for recipe in _recipes(ref, settings):
                    refuse_another(settings.results, _label(ref, recipe, settings), dataset)
    ready: list[Prepared | Unready] = []
    for ref in models:
        model = _prepared(ref, settings)
        if isinstance(model, Prepared) and any(isinstance(each, Prepared) for each in ready):
            model.unload()  # whatever was loaded to know how it can be had is loaded again in its turn
        ready.append(model)
    faults = [model.error for model in ready if isinstance(model, Unready)]
    if faults and len(faults) == len(ready):
        raise faults[0]
    if any(model.ref.has_vectors for model in ready):
        for recipe in settings.indexes:
            for dataset in datasets:
                recipe.check(len(dataset.corpus), dataset.label)
    return ready


def _prepared(ref: ModelRef, settings: Settings) -> Prepared | Unready:
    try:
        model = Prepared(
            ref, settings.home, offline=settings.offline, progress=settings.progress, shared=settings.shared
        )
        _ = model.ref.key
        return model
    except (ModelError, PluginError) as error:
        return Unready(ref, ref.label, error)


def cells(model: Prepared, dataset: Dataset, settings: Settings, fault: str = "", trace: str = "") -> Iterator[Cell]:
    """One model on one dataset: the exact cell, then one for each index.

    ``fault`` and ``trace``: why the exact one has failed, and the traceback.
    """
    error = PluginError(fault) if fault else None
    if error:
        error.trace = trace
    exact = _cell(model, dataset, settings, fault=error)
    yield exact
    if model.ref.has_vectors:
        indexed = IndexEvaluation(model, dataset, settings.k, settings.limits)
        for recipe in settings.indexes:
            yield _cell(model, dataset, settings, _Way(recipe, indexed, exact.result))


def stored(model: Prepared, dataset: Dataset, settings: Settings) -> list[Cell] | None:
    """What `cells` would give, where all of it is finished."""
    found = [_work(model, dataset, settings, recipe).finished() for recipe in _recipes(model.ref, settings)]
    whole = [cell for cell in found if cell]
    return whole if len(whole) == len(found) else None


def searched(model: Prepared, dataset: Dataset, settings: Settings) -> bool:
    """Whether `cells` has nothing to encode and to search: all that may be missing are metrics of stored runs."""
    return all(_work(model, dataset, settings, recipe).stored() for recipe in _recipes(model.ref, settings))


def finished(model: Prepared, dataset: Dataset, settings: Settings) -> Result | None:
    """The stored result of the exact cell, whatever metrics it holds."""
    return _work(model, dataset, settings, None).stored()


def cell_key(
    model: Prepared, dataset: Dataset, settings: Settings, recipe: IndexConfig | None = None, **more: Any
) -> str:
    """What a finished cell is recognised by. Metrics are not part of it: they are added to the cell.

    ``more`` is ``measures``, a list, for the key under which earlier versions stored a cell with these.
    """
    parts = {"model": model.ref.key, "dataset": dataset.fingerprint, "limit": dataset.limit}
    if model.ref.spec.kind == "reranker" and any(member.has_vectors for member in model.ref.members):
        parts["zero_vectors"] = ZERO_VECTORS  # the first stage's geometry, which tells of them, is not in the cell
    index = {"index": [recipe.factory, recipe.search]} if recipe else {}
    return content_key({**parts, "revision": REVISION, "k": settings.k, **more, **index})


def _recipes(ref: ModelRef, settings: Settings) -> tuple[IndexConfig | None, ...]:
    """Of the cells of one model and dataset: None for exact search, then every index."""
    return (None, *(settings.indexes if ref.has_vectors else ()))


def _label(ref: ModelRef, recipe: IndexConfig | None, settings: Settings) -> str:
    """The row's name."""
    return depth_label(recipe.label(ref.label) if recipe else ref.label, settings.k)


class _Way(NamedTuple):
    """An approximate index to search with, and what it is held against."""

    recipe: IndexConfig
    indexed: IndexEvaluation
    exact: Result | None
    """The exact cell; None when it failed."""


def _cell(
    model: Prepared,
    dataset: Dataset,
    settings: Settings,
    way: _Way | None = None,
    fault: PluginError | None = None,
) -> Cell:
    """The finished cell, or else the one made now. Of several processes that want it, one makes it; the others wait."""
    work = _work(model, dataset, settings, way.recipe if way else None)
    work.way, work.fault = way, fault
    if found := work.finished():
        return found
    deed = f"computes {work.label} on {dataset.label}"
    with alone(settings.home / "locks" / work.key[:32], settings.progress, deed):
        return work.finished() or _made(work)


def _work(model: Prepared, dataset: Dataset, settings: Settings, recipe: IndexConfig | None) -> _Work:
    key = cell_key(model, dataset, settings, recipe)
    return _Work(model, dataset, _label(model.ref, recipe, settings), key, settings, recipe)


def _made(work: _Work) -> Cell:
    """The cell, searched and measured; where a run is stored already, with the metrics added that it lacks."""
    label, dataset, settings = work.label, work.dataset.label, work.settings
    note("begun", model=label, dataset=dataset)
    try:
        if work.stored():
            status, place = "measured", settings.results.folder(label, dataset)
            with alone(place, settings.progress):  # commands with other homes may add metrics, too
                result = settings.results.write(label, dataset, work.extend)
        else:
            status, result = "ok", settings.results.write(label, dataset, work.run)
        note("ended", model=label, dataset=dataset, seconds=result["seconds"])
        return Cell(label, dataset, status, result, replaced=work.replaced)
    except ModelError as error:
        if settings.sole:
            raise
        return _failed(work, str(error), error)
    except (UserError, KeyboardInterrupt) as error:
        note("stopped", model=label, dataset=dataset, seconds=work.clock.seconds, reason=str(error) or "interrupted")
        raise
    except BaseException as error:  # the cell boundary: recorded, and the other cells go on
        return _failed(work, str(error) if isinstance(error, PluginError) else described(error), error)
    finally:
        settings.progress("", 0, 0)


def _failed(work: _Work, reason: str, error: BaseException) -> Cell:
    """The failed cell, recorded as far as the plug-in's own code can describe the model."""
    label, dataset = work.label, work.dataset.label
    told = {"reason": writable(reason), "traceback": trace(error)}
    note("failed", model=label, dataset=dataset, seconds=work.clock.seconds, **told)
    with suppress(ModelError, PluginError):
        work.settings.results.write_failure(work.result("failed", {}) | told)
    return Cell(label, dataset, "failed", None, told["reason"], told["traceback"])


@dataclass(slots=True)
class _Work:
    """One cell under way."""

    model: Prepared
    dataset: Dataset
    label: str
    key: str
    settings: Settings
    recipe: IndexConfig | None
    way: _Way | None = None
    fault: PluginError | None = None
    """Why it has failed already."""
    started: str = field(default_factory=lambda: _now())
    clock: Clock = field(default_factory=Clock)
    found: Retrieval = field(default_factory=Retrieval)

    replaced: str = ""
    """As in `Cell`."""

    def stored(self) -> Result | None:
        """The stored result, where it is whole and nothing it depends on has changed, whatever metrics it holds."""

        def older(result: Result) -> str:
            measures = list(result["measures"])
            return cell_key(self.model, self.dataset, self.settings, self.recipe, measures=measures)

        if self.settings.force:
            return None
        found = self.settings.results.finished(self.label, self.dataset.label, self.key, older)
        return None if found is None or _misplaced_zeros(found) else found

    def finished(self) -> Cell | None:
        """The cell as it is stored, where it holds every metric that is asked for."""
        stored = self.stored()
        whole = stored is not None and {*self.settings.measures} <= stored["measures"].keys()
        return Cell(self.label, self.dataset.label, "cached", stored) if whole else None

    def run(self, folder: Path) -> Result:
        """Does all the work of the cell, writing its files into the folder."""
        dataset, hubs = self.dataset, Hubness()
        if self.fault:
            raise self.fault
        measures = self._measures()
        self.found = self._retrieve()
        with self.clock.timed("measure"), run_writer(folder / RUN, self.model.ref.spec.name) as write:

            def rankings() -> Iterator[Ranking]:
                paired = zip(dataset.queries, self.found.hits, strict=True)
                for number, (query, (rows, scores)) in enumerate(paired, 1):
                    exclude = query.id if dataset.exclude_self else None
                    ids = dataset.corpus.ids(rows)
                    ranking = rank(query.id, ids, scores, self.settings.k, exclude=exclude, rows=rows)
                    hubs.add(ranking.doc_ids)
                    write(ranking)
                    self.settings.progress(f"searching {dataset.label}", number, len(dataset.queries))
                    yield ranking

            scores = measure(dataset.qrels, rankings(), measures, dataset.judged)
        write_per_query(folder / PER_QUERY, dataset.queries, dataset.qrels, scores)
        self.found.geometry["hubness"] = hubs.summary(len(dataset.corpus), len(dataset.queries))
        self.found.counts["missing"] = scores.missing
        result = self.result("ok", scores.mean())
        self._note_replaced(result)
        return result

    def _measures(self) -> tuple[str, ...]:
        """The metrics asked for, and those that the result of the same key holds which is computed again."""
        before = replace(self, settings=replace(self.settings, force=False)).stored()
        documents, depth = len(self.dataset.corpus) - self.dataset.exclude_self, self.settings.k
        held = [name for name in before["measures"] if fits(name, depth, documents)] if before else []
        return tuple(dict.fromkeys([*held, *self.settings.measures]))

    def _note_replaced(self, result: Result) -> None:
        """Says what has changed since the result that this one replaces; UserError for another dataset's."""
        if found := refuse_another(self.settings.results, self.label, self.dataset):
            for what in ("dataset", "model"):
                before = found["manifest"].get(what)
                if not isinstance(before, dict) or before.get("fingerprint") != result["manifest"][what]["fingerprint"]:
                    self.replaced = what

    def extend(self, folder: Path) -> Result:
        """Adds the metrics that the stored result lacks, computed from its run; writes its files into the folder."""
        stored = self.stored()
        if stored is None:  # gone since it was looked for
            return self.run(folder)
        source = self.settings.results.folder(self.label, self.dataset.label)
        lacking = [name for name in self.settings.measures if name not in stored["measures"]]
        self.settings.progress(f"measuring {self.label} on {self.dataset.label}", 0, 0)
        scores = measure(self.dataset.qrels, read_run(source / RUN), lacking, self.dataset.judged)
        shutil.copyfile(source / RUN, folder / RUN)
        extend_per_query(source / PER_QUERY, folder / PER_QUERY, self.dataset.queries, self.dataset.qrels, scores)
        measures = {**stored["measures"], **scores.mean()}
        added = {"measures": lacking, "command": self.settings.command, "finished": _now()}
        run = stored["manifest"].get("run") or {}
        run = {**run, "measured": [*(run.get("measured") or ()), added]}
        result = {**stored, "measures": measures, "manifest": {**stored["manifest"], "key": self.key, "run": run}}
        if index := stored.get("index"):
            exact = self.way.exact["measures"] if self.way and self.way.exact else {}
            result["index"] = index_costs(index, measures, {**index["exact"], **exact})
        return result

    def _retrieve(self) -> Retrieval:
        if self.way is None:
            return retrieve(self.model, self.dataset, self.settings.k, self.clock, self.settings.limits)
        if self.way.exact is None:
            raise PluginError("the exact search it is to be held against failed")
        found = self.way.indexed.retrieve(self.way.recipe, self.clock)
        found.geometry = {side: self.way.exact["geometry"][side] for side in ("documents", "queries")}
        return found

    def result(self, status: str, measures: dict[str, float]) -> Result:
        """The content of result.json. What changes from run to run is in command, seconds and manifest.run alone."""
        ref, dataset, index = self.model.ref, self.dataset, self.found.index
        exact = self.way.exact["measures"] if self.way and self.way.exact else {}
        return {
            "schema": SCHEMA,
            "model": self.label,
            "dataset": dataset.label,
            "split": dataset.split,
            "status": status,
            "partial": dataset.limit is not None,
            "in_domain": not {dataset.name, dataset.name.partition("/")[0]}.isdisjoint(ref.trained_on),
            "command": self.settings.command,
            "measures": measures,
            "geometry": self.found.geometry,
            **({"index": index_costs(index["figures"], measures, exact)} if index and measures else {}),
            "seconds": {phase: round(spent, 4) for phase, spent in self.clock.seconds.items()},
            "counts": {
                "documents": len(dataset.corpus),
                "queries": len(dataset.queries),
                "judged": sum(map(len, dataset.qrels.values())),
                **self.found.cost(),
            },
            "manifest": {
                "key": self.key,
                "model": {**_described(ref), "similarity": self.found.similarity},
                "dataset": dataset.described(),
                "k": self.settings.k,
                **({"index": index["manifest"]} if index else {}),
                # models that draw at random state their seeds in their options
                "seeds": {"index": index["manifest"]["seed"]} if index else {},
                "ties": "score descending, then document id descending",
                "zero_vectors": ZERO_VECTORS,
                "run": {
                    "started": self.started,
                    "finished": _now(),
                    "peak_memory_bytes": peak_memory(),
                    "search": self.settings.limits._asdict(),
                    "encoding": rates(self.model),
                    **({"fallbacks": ref.fallbacks} if ref.fallbacks else {}),
                    **environment(),
                },
            },
        }


def _misplaced_zeros(result: Result) -> bool:
    """Whether zero vectors were ranked as if their cosine were 0.5, as 0.1 did."""
    cosine = result["manifest"]["model"].get("similarity") == "cosine"
    sides = (result["geometry"].get(side) or {} for side in ("documents", "queries"))
    zeros = any(side.get("definitions", {}).get("zero_vectors") for side in sides)
    return cosine and zeros and "zero_vectors" not in result["manifest"]


def _described(ref: ModelRef) -> dict[str, Any]:
    members = [{"label": member.label, "key": member.key, **_described(member)} for member in ref.members]
    return {
        "name": ref.spec.name,
        "kind": ref.spec.kind,
        "plugin": ref.plugin,
        "summary": ref.spec.summary,
        "options": {k: v for k, v in ref.options.items() if k != "path"},
        "passed": dict(ref.passed),
        "storage": ref.storage,
        "trained_on": list(ref.trained_on),
        "training": ref.training,
        "fingerprint": ref.fingerprint,
        **({"members": members} if members else {}),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
