"""Creates the tasks of a distributed benchmark and decides their order.

The missing vectors of all collections come first. The search of a cell becomes available when its vectors are stored:
in ranges of documents if there are many of them. A cell is then finished by one worker, which runs the code of a
benchmark in one process and finds the vectors and partial results stored. The most expensive cells come first, so that
none of them is left for the end.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, count
from threading import Event
from typing import Any

from harness.datasets.beir import Dataset
from harness.distributed.encode_tasks import EncodePlan
from harness.distributed.executor import TaskResult, WorkerTask
from harness.distributed.worker import EncodeTask, FinishTask, SearchTask
from harness.evaluation.pipeline import Cell, Settings, Unready, cells, searched, stored
from harness.metrics.moments import PART
from harness.models.runner import Prepared
from harness.search.partial_results import PartialResults
from harness.types import PluginError, Role, UserError

PART_ROWS = PART
"""Documents per partial search; a cell with no more than this is searched by the worker that finishes it."""
LOG_SECONDS = 10.0

log = logging.getLogger("harness")


@dataclass(slots=True, eq=False)
class _CellPlan:
    """A cell (and its approximate indexes) to be computed."""

    position: int
    """Position in the results."""
    model: int
    dataset: int
    label: str
    cost: float
    needs: list[EncodePlan]
    """Collections to be encoded first; empty if only metrics of stored runs are missing."""
    searches: int = 0
    """Number of partial searches without a result."""
    fault: str = ""
    trace: str = ""


_EncodeStep = tuple[EncodePlan, EncodeTask | None]
"""A task of a collection; None after its last one."""


class Scheduler:
    """The task queue of a benchmark. Use it in a ``with`` block, which ends the thread that reads texts."""

    def __init__(self, models: Sequence[Prepared | Unready], datasets: Sequence[Dataset], settings: Settings) -> None:
        self.models = [model for model in models if isinstance(model, Prepared)]
        self.datasets, self.settings = datasets, settings
        self.workers, self._wanted = 1, len(models) * len(datasets)
        self._reader, self._stop = ThreadPoolExecutor(1, "read-texts"), Event()
        self._cells: dict[int, list[Cell]] = {}
        self._next_position = 0
        self._encode_plans: dict[tuple[str, str, str, str], EncodePlan] = {}
        self._plans: list[_CellPlan] = []
        usable = count()
        for start, model in zip(count(0, len(datasets)), models, strict=False):
            if isinstance(model, Unready):
                self._cells |= {position: [cell] for position, cell in enumerate(model.cells(datasets), start)}
                continue
            m = next(usable)
            for d, dataset in enumerate(datasets):
                if (found := stored(model, dataset, settings)) is not None:
                    self._cells[start + d] = found
                else:
                    self._plans.append(self._plan(start + d, m, d))
        self._plans.sort(key=lambda plan: -plan.cost)
        self._waiting = list(self._plans)
        self._running: dict[WorkerTask, EncodePlan | _CellPlan] = {}
        self._ready: deque[WorkerTask] = deque()
        self._steps, self._all_read = self._encode_steps(), False
        self._next_step: Future[_EncodeStep | None] | None = None
        self._start = self._logged = time.monotonic()
        self._total, self._encoded = sum(plan.rows for plan in self._encode_plans.values()), 0
        for plan in [plan for plan in self._plans if not plan.needs]:
            self._release(plan)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._reader.shutdown()

    def _plan(self, position: int, m: int, d: int) -> _CellPlan:
        model, dataset = self.models[m], self.datasets[d]
        needs, cost = [], float(len(dataset.corpus))
        only_measured = searched(model, dataset, self.settings)
        for number, base in enumerate(() if only_measured else model.bases):
            with suppress(UserError, PluginError):  # reported when the model is loaded
                cost += len(dataset.corpus) * base.ref.figures.get("flops_per_token", 1.0)
            sides: tuple[tuple[Role, str, int], ...] = (
                ("document", dataset.corpus.sha256, len(dataset.corpus)),
                ("query", dataset.fingerprint["queries"], len(dataset.queries)),
            )
            for role, name, rows in sides:
                key = (base.ref.side_key(role), base.ref.storage if role == "document" else "", role, name)
                label = f"{dataset.label} with {base.label}"
                new = EncodePlan(base, (m, number), dataset, d, role, name, rows, label)
                needs.append(self._encode_plans.setdefault(key, new))
        return _CellPlan(position, m, d, f"{model.label} on {dataset.label}", cost, needs)

    @property
    def unfinished(self) -> bool:
        """Whether a cell is missing."""
        return len(self._cells) < self._wanted

    def finished_cells(self) -> Iterator[Cell]:
        """Yield finished cells in result order, up to the first unfinished one."""
        while self._next_position in self._cells:
            yield from self._cells[self._next_position]
            self._next_position += 1

    def next_task(self) -> WorkerTask | None:
        """Return a search or a finish task if one is available, else the next encode task.

        None while the texts of the next encode task are being read.
        """
        if self._ready:
            return self._ready.popleft()
        if self._next_step is None and not self._all_read:
            self._next_step = self._reader.submit(next, self._steps, None)
        if self._next_step is None or not self._next_step.done():
            return None
        step, self._next_step = self._next_step.result(), None
        if step is None:
            self._all_read = True
            return None
        encode, task = step
        if task is None:
            encode.split = True
            self._report_progress()
            self._release_waiting(encode)
            return self.next_task()
        encode.running += 1
        self._running[task] = encode
        return task

    def task_done(self, task: WorkerTask, result: TaskResult) -> None:
        """Process a result. A fault fails the cells that depend on the task.

        Raises:
            UserError: the fault is a user error.
        """
        if result.user_error:
            raise UserError(result.fault)
        plan = self._running.pop(task)
        if isinstance(plan, EncodePlan):
            assert isinstance(task, EncodeTask)
            plan.task_done(task, result)
            self._encoded += 0 if result.fault else task.stop - task.start
            self._report_progress()
            self._release_waiting(plan)
        elif isinstance(task, SearchTask):  # if it failed, the worker that finishes the cell does the whole search
            plan.searches -= 1
            self._add_finish_task(plan)
        else:
            self._record_cells(plan, result)

    def _record_cells(self, plan: _CellPlan, result: TaskResult) -> None:
        found = result.value
        if result.fault:  # retries exhausted: record the failed cell here
            model, dataset = self.models[plan.model], self.datasets[plan.dataset]
            found = list(cells(model, dataset, self.settings, result.fault, result.trace))
        self._cells[plan.position] = found
        self._report_progress()

    def _report_progress(self) -> None:
        """Report the progress of all workers: encoded texts first, then finished cells."""
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        if not all(plan.complete for plan in self._encode_plans.values()):
            done = sum(plan.done for plan in self._encode_plans.values())
            self.settings.progress(f"encoding with {workers} (texts)", done, self._total)
        else:
            self.settings.progress(f"evaluating with {workers} (results)", len(self._cells), self._wanted)
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            log.info("throughput", extra=self.throughput())

    def throughput(self) -> dict[str, Any]:
        """Throughput of all workers since the start."""
        seconds = time.monotonic() - self._start
        rate = round(self._encoded / seconds, 2) if seconds else 0.0
        return {
            "texts": self._encoded,
            "seconds": round(seconds, 3),
            "texts_per_second": rate,
            "cells": len(self._cells),
        }

    def _encode_steps(self) -> Iterator[_EncodeStep]:
        """All encode tasks, with None after the last one of each collection. Runs in the reader thread."""
        for plan in self._plans:
            for encode in plan.needs:
                if not encode.started and plan in self._waiting:
                    encode.started = True
                    yield from ((encode, task) for task in encode.tasks(self.workers, self._stop))
                    yield encode, None

    def _release_waiting(self, encode: EncodePlan) -> None:
        """Release the cells that have been waiting only for this collection."""
        if encode.complete:
            encode.write_list()
        for plan in [plan for plan in self._waiting if encode in plan.needs]:
            if any(need.fault for need in plan.needs) or all(need.stored for need in plan.needs):
                self._release(plan)

    def _release(self, plan: _CellPlan) -> None:
        """Make the partial searches of a cell available, or its finish task if it has none."""
        self._waiting.remove(plan)
        failed = next((need for need in plan.needs if need.fault), None)
        if failed:
            plan.fault, plan.trace = failed.fault, failed.trace
        if plan.needs and not plan.fault and self.models[plan.model].ref.spec.kind == "dense":
            for task in self._search_tasks(plan):
                plan.searches += 1
                self._running[task] = plan
                self._ready.append(task)
        self._add_finish_task(plan)

    def _add_finish_task(self, plan: _CellPlan) -> None:
        if not plan.searches:
            task = FinishTask(plan.label, plan.model, plan.dataset, plan.fault, plan.trace)
            self._running[task] = plan
            self._ready.append(task)

    def _search_tasks(self, plan: _CellPlan) -> Iterator[SearchTask]:
        """The searches of `PART_ROWS` documents each that are not stored; none for a collection of one part."""
        documents = next(need for need in plan.needs if need.role == "document")
        if documents.rows <= PART_ROWS:
            return
        dataset, depth = self.datasets[plan.dataset], self.settings.k + self.datasets[plan.dataset].exclude_self
        partial = PartialResults(self.models[plan.model], dataset, depth)
        shards = documents.in_order()
        ends = list(accumulate(shard.rows for shard in shards))
        for start in range(0, documents.rows, PART_ROWS):
            stop = min(start + PART_ROWS, documents.rows)
            if not partial.has(start, stop):
                first, last = bisect_right(ends, start), bisect_left(ends, stop)
                keys, before = tuple(shard.key for shard in shards[first : last + 1]), ends[first] - shards[first].rows
                label = f"search of documents {start} to {stop} of {plan.label}"
                place, similarity = (plan.model, plan.dataset, start, stop), documents.similarity
                yield SearchTask(label, *place, keys, start - before, similarity or documents.base.similarity)
