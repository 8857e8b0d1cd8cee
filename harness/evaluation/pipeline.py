"""Runs the evaluation pipeline: dataset -> model -> embeddings -> search -> run -> metrics -> result.

This is the only module that orders the steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from harness.datasets.beir import Dataset
from harness.errors import described, trace, writable
from harness.evaluation.cells import (
    Cell,
    CellTask,
    Settings,
    cell_key,
    finished,
    lacking,
    row_label,
    searched,
    searches,
    stored,
    tasks,
)
from harness.evaluation.record import Computation, make_result, now
from harness.metrics.depth import check_depth
from harness.metrics.geometry import Hubness
from harness.metrics.measures import Evaluator, measure
from harness.metrics.ranking import rank, read_run
from harness.metrics.run_writer import run_writer
from harness.models.runner import Prepared
from harness.registry.model_ref import ModelRef
from harness.results.dataset_identity import refuse_another
from harness.results.schema import Result
from harness.results.store import PER_QUERY, RUN, with_stored, write_per_query
from harness.search.ann_eval import IndexEvaluation, index_costs
from harness.search.retrieve import Retrieval, retrieve
from harness.storage.locks import exclusive
from harness.storage.temporary_files import sweep
from harness.system.log import note
from harness.types import ModelError, PluginError, UserError

__all__ = ["Cell", "Settings", "Unready", "benchmark", "cell_key", "cells", "finished", "prepare", "searched", "stored"]


@dataclass(frozen=True, slots=True)
class Unready:
    """A model that cannot be used, found before anything was computed: each of its cells fails."""

    ref: ModelRef
    label: str
    error: ModelError | PluginError

    def cells(self, datasets: Sequence[Dataset]) -> Iterator[Cell]:
        """Its failed cells. They are not stored: which model it would have been is unknown."""
        for dataset in datasets:
            note("failed", model=self.label, dataset=dataset.label, reason=str(self.error), traceback=trace(self.error))
            yield Cell(self.label, dataset.label, "failed", None, str(self.error), trace(self.error))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The exact search that an index is compared with."""

    indexed: IndexEvaluation
    exact: Result | None
    """The exact cell's result; None if it failed."""


def benchmark(models: Sequence[ModelRef], datasets: Sequence[Dataset], settings: Settings) -> Iterator[Cell]:
    """Evaluates every model on every dataset and yields each cell as it ends.

    Finished cells with the same key are reused unless ``settings.force`` is set. A model that cannot be loaded and a
    fault in a plug-in fail their cells; the other cells are computed.

    Raises:
        UserError: For a user's mistake, before any work starts where it can be known then.
        ModelError: If the only model cannot be loaded.
    """
    sweep(settings.home / "locks")
    settings = replace(settings, sole=len(models) == 1)
    for model in prepare(models, datasets, settings):
        if isinstance(model, Unready):
            yield from model.cells(datasets)
            continue
        for dataset in datasets:
            yield from cells(model, dataset, settings)
        model.unload()  # one model at a time is in memory


def prepare(models: Sequence[ModelRef], datasets: Sequence[Dataset], settings: Settings) -> list[Prepared | Unready]:
    """Prepares the models and checks everything that can be checked before the work starts.

    Models that cannot be used are `Unready`; if all are, the first one's error is raised.

    Raises:
        UserError: If what is asked for cannot work, or if a result of another dataset would be replaced.
    """
    for dataset in datasets:
        check_depth(settings.measures, settings.k, len(dataset.corpus) - dataset.exclude_self, dataset.label)
        for ref in models:
            with suppress(ModelError, PluginError):  # it becomes `Unready` below
                for index in searches(ref, settings):
                    refuse_another(settings.results, row_label(ref, index, settings), dataset)
    ready: list[Prepared | Unready] = []
    for ref in models:
        model = _prepared(ref, settings)
        if isinstance(model, Prepared) and any(isinstance(each, Prepared) for each in ready):
            model.unload()  # a model that was loaded to learn its fallbacks is loaded again when it runs
        ready.append(model)
    errors = [model.error for model in ready if isinstance(model, Unready)]
    if errors and len(errors) == len(ready):
        raise errors[0]
    if any(model.ref.has_vectors for model in ready):
        for index in settings.indexes:
            for dataset in datasets:
                index.check(len(dataset.corpus), dataset.label)
    return ready


def _prepared(ref: ModelRef, settings: Settings) -> Prepared | Unready:
    try:
        common: dict[str, Any] = {"offline": settings.offline, "progress": settings.progress, "shared": settings.shared}
        model = Prepared(ref, settings.home, **common, budget=settings.budget)
        _ = model.ref.key
        return model
    except (ModelError, PluginError) as error:
        return Unready(ref, ref.label, error)


def cells(model: Prepared, dataset: Dataset, settings: Settings, fault: str = "", trace: str = "") -> Iterator[Cell]:
    """One model on one dataset: the exact cell, then one for each index.

    Args:
        model: The model.
        dataset: The dataset.
        settings: The settings.
        fault: Why the exact cell has failed already.
        trace: The traceback of that failure.
    """
    error = PluginError(fault) if fault else None
    if error:
        error.trace = trace
    first, *others = tasks(model, dataset, settings)
    exact = _cell(first, error=error)
    yield exact
    indexed = IndexEvaluation(model, dataset, settings.k, settings.limits)
    for task in others:
        yield _cell(task, _Comparison(indexed, exact.result))


def _cell(task: CellTask, against: _Comparison | None = None, error: PluginError | None = None) -> Cell:
    """The stored cell, or the one computed now. If several processes need it, one computes it and the others wait."""
    if found := task.finished():
        return found
    what = f"computes {task.label} on {task.dataset.label}"
    with exclusive(task.settings.home / "locks" / task.key[:32], task.settings.progress, what):
        return task.finished() or _run(task, against, error)


def _run(task: CellTask, against: _Comparison | None, error: PluginError | None) -> Cell:
    """Computes a cell, or adds metrics to it if its run is stored. A failure is recorded, and the other cells go on."""
    label, dataset, done = task.label, task.dataset.label, Computation()
    note("begun", model=label, dataset=dataset)
    try:
        if task.stored():
            cell = Cell(label, dataset, "measured", _add_metrics(task, done, against))
        elif error:
            raise error
        else:
            result, replaced = _compute(task, done, against)
            cell = Cell(label, dataset, "ok", result, replaced=replaced)
        note("ended", model=label, dataset=dataset, seconds=cell.result and cell.result["seconds"])
        return cell
    except ModelError as failure:
        if task.settings.sole:
            raise
        return _failed(task, done, str(failure), failure)
    except (UserError, KeyboardInterrupt) as stop:
        note("stopped", model=label, dataset=dataset, seconds=done.clock.seconds, reason=str(stop) or "interrupted")
        raise
    except BaseException as failure:  # the cell boundary: recorded, and the other cells go on
        reason = str(failure) if isinstance(failure, PluginError) else described(failure)
        return _failed(task, done, reason, failure)
    finally:
        task.settings.progress("", 0, 0)


def _compute(task: CellTask, done: Computation, against: _Comparison | None) -> tuple[Result, str]:
    """Computes one cell: search, rank, write, measure, store.

    Returns:
        The result, and what has changed since the one that it replaces.
    """
    dataset, settings = task.dataset, task.settings
    evaluator, hubness = Evaluator(dataset.qrels, task.metrics(), dataset.judged), Hubness()
    with settings.results.writing(task.label, dataset.label) as place:
        done.found = _search(task, done, against)
        with done.clock.timed("measure"), run_writer(place.folder / RUN, task.model.ref.spec.name) as write:
            for number, (query, hits) in enumerate(zip(dataset.queries, done.found.hits, strict=True), 1):
                ids, exclude = dataset.corpus.lazy_ids(hits.rows), query.id if dataset.exclude_self else None
                ranking = rank(query.id, ids, hits.scores, settings.k, exclude=exclude, rows=hits.rows)
                write(ranking)
                hubness.add(ranking.doc_ids)
                evaluator.add(ranking)
                settings.progress(f"searching {dataset.label} (queries)", number, len(dataset.queries))
            scores = evaluator.scores()
        judged = dataset.queries, dataset.qrels, scores, dataset.groups, dataset.clusters()
        write_per_query(place.folder / PER_QUERY, *judged)
        done.found.geometry["hubness"] = hubness.summary(len(dataset.corpus), len(dataset.queries))
        done.found.counts["missing"] = scores.missing
        result = make_result(task, done, "ok", scores.mean(), _exact_measures(against))
        replaced = _replaced(task, result)
        place.finish(result)
    return result, replaced


def _search(task: CellTask, done: Computation, against: _Comparison | None) -> Retrieval:
    if task.index is None or against is None:
        return retrieve(task.model, task.dataset, task.settings.k, done.clock, task.settings.limits)
    if against.exact is None:
        raise PluginError("the exact search it is to be compared with failed")
    found = against.indexed.retrieve(task.index, done.clock)
    geometry = against.exact["geometry"]  # of token vectors none is defined
    found.geometry = {side: geometry[side] for side in ("documents", "queries") if side in geometry}
    return found


def _exact_measures(against: _Comparison | None) -> dict[str, float]:
    return against.exact["measures"] if against and against.exact else {}


def _replaced(task: CellTask, result: Result) -> str:
    """What has changed since the stored result: ``dataset``, ``model`` or nothing; UserError for another dataset's."""
    changed = ""
    if found := refuse_another(task.settings.results, task.label, task.dataset):
        before, after = found["manifest"], result["manifest"]
        if before.get("dataset", {}).get("fingerprint") != after["dataset"]["fingerprint"]:
            changed = "dataset"
        if before.get("model", {}).get("fingerprint") != after["model"]["fingerprint"]:
            changed = "model"
    return changed


def _add_metrics(task: CellTask, done: Computation, against: _Comparison | None) -> Result:
    """Adds the metrics that the stored result lacks, computed from its run."""
    results, dataset, settings = task.settings.results, task.dataset, task.settings
    with exclusive(task.folder, settings.progress):  # processes with other homes may add metrics, too
        stored = task.stored()
        if stored is None:  # removed in the meantime
            return _compute(task, done, against)[0]
        names = lacking(stored, settings.measures)
        settings.progress(f"measuring {task.label} on {dataset.label}", 0, 0)
        scores = measure(dataset.qrels, read_run(task.folder / RUN), names, dataset.judged)
        with results.writing(task.label, dataset.label) as place:
            shutil.copyfile(task.folder / RUN, place.folder / RUN)
            all_scores, known = with_stored(scores, task.folder / PER_QUERY), (dataset.groups, dataset.clusters())
            write_per_query(place.folder / PER_QUERY, dataset.queries, dataset.qrels, all_scores, *known)
            result = _extended(task, stored, names, scores.mean(), _exact_measures(against))
            place.finish(result)
    return result


def _extended(
    task: CellTask, stored: Result, names: list[str], means: dict[str, float], exact: dict[str, float]
) -> Result:
    """The stored result with further metrics, and a record of when they were added."""
    measures, run = {**stored["measures"], **means}, stored["manifest"].get("run") or {}
    added = {"measures": names, "command": task.settings.command, "finished": now()}
    result: Result = {**stored, "measures": measures}
    result["manifest"] = {
        **stored["manifest"],
        "key": task.key,
        "dataset": {**(stored["manifest"].get("dataset") or {}), "clusters": task.dataset.clusters().record()},
        "run": {**run, "measured": [*(run.get("measured") or ()), added]},
    }
    if index := stored.get("index"):
        result["index"] = index_costs(index, measures, {**index["exact"], **exact})
    return result


def _failed(task: CellTask, done: Computation, reason: str, error: BaseException) -> Cell:
    """The failed cell, recorded if the plug-in's own code can describe the model."""
    label, dataset = task.label, task.dataset.label
    reason, text = writable(reason), trace(error)
    note("failed", model=label, dataset=dataset, seconds=done.clock.seconds, reason=reason, traceback=text)
    with suppress(ModelError, PluginError):
        result = make_result(task, done, "failed", {}, {})
        task.settings.results.write_failure({**result, "reason": reason, "traceback": text})
    return Cell(label, dataset, "failed", None, reason, text)
