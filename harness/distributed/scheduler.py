"""What a distributed benchmark has to do, in which order, and what each answer makes possible.

Vectors first, stretch by stretch of every collection that is not stored yet; a cell as soon as its vectors are there,
and before that, where it has many documents, its search in parts. A cell is finished by one worker with the very code
that a benchmark in one process runs, which finds vectors and parts stored. The cells with most to compute come first,
so that none of them is left over at the end.
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
from harness.distributed.encode_tasks import Collection
from harness.distributed.executor import Answer, Task
from harness.distributed.worker import Encode, Finish, Search
from harness.evaluation.pipeline import Cell, Settings, Unready, cells, searched, stored
from harness.metrics.moments import PART
from harness.models.runner import Prepared
from harness.search.partial_results import Searched
from harness.types import PluginError, Role, UserError

PART_ROWS = PART
"""Documents of a part of a search; a cell of no more is searched by the worker that finishes it."""
LOG_SECONDS = 10.0

log = logging.getLogger("harness")


@dataclass(slots=True, eq=False)
class _Plan:
    """One cell (and its approximate indexes) that is to be computed."""

    at: int
    model: int
    dataset: int
    label: str
    cost: float
    needs: list[Collection]
    """What has to be encoded first; nothing where only metrics of stored runs are missing."""
    searches: int = 0
    """Parts not yet answered."""
    fault: str = ""
    trace: str = ""


_Read = tuple[Collection, Encode | None]
"""A stretch of a collection; None: there is no further one."""


class Schedule:
    """The agenda of a benchmark. Use ``with`` to end the thread that reads ahead."""

    def __init__(self, models: Sequence[Prepared | Unready], datasets: Sequence[Dataset], settings: Settings) -> None:
        self.models = [model for model in models if isinstance(model, Prepared)]
        self.datasets, self.settings = datasets, settings
        self.workers, self._wanted = 1, len(models) * len(datasets)
        self._reader, self._halts = ThreadPoolExecutor(1, "read-texts"), Event()
        self._cells: dict[int, list[Cell]] = {}
        self._next_told = 0
        self._collections: dict[tuple[str, str, str, str], Collection] = {}
        self._plans: list[_Plan] = []
        usable = count()
        for start, model in zip(count(0, len(datasets)), models, strict=False):
            if isinstance(model, Unready):
                self._cells |= {at: [cell] for at, cell in enumerate(model.cells(datasets), start)}
                continue
            m = next(usable)
            for d, dataset in enumerate(datasets):
                if (found := stored(model, dataset, settings)) is not None:
                    self._cells[start + d] = found
                else:
                    self._plans.append(self._plan(start + d, m, d))
        self._plans.sort(key=lambda plan: -plan.cost)
        self._waiting = list(self._plans)
        self._doing: dict[Task, Collection | _Plan] = {}
        self._released: deque[Task] = deque()
        self._stream, self._read_all = self._read(), False
        self._ahead: Future[_Read | None] | None = None
        self._start = self._logged = time.monotonic()
        self._total, self._encoded = sum(c.rows for c in self._collections.values()), 0
        for plan in [plan for plan in self._plans if not plan.needs]:
            self._release(plan)

    def __enter__(self) -> Schedule:
        return self

    def __exit__(self, *error: object) -> None:
        self._halts.set()
        self._reader.shutdown()

    def _plan(self, at: int, m: int, d: int) -> _Plan:
        model, dataset = self.models[m], self.datasets[d]
        needs, cost = [], float(len(dataset.corpus))
        only_measured = searched(model, dataset, self.settings)
        for number, base in enumerate(() if only_measured else model.bases):
            with suppress(UserError, PluginError):  # what is wrong with it comes up when it is loaded
                cost += len(dataset.corpus) * base.ref.figures.get("flops_per_token", 1.0)
            sides: tuple[tuple[Role, str, int], ...] = (
                ("document", dataset.corpus.sha256, len(dataset.corpus)),
                ("query", dataset.fingerprint["queries"], len(dataset.queries)),
            )
            for role, name, rows in sides:
                key = (base.ref.own_key, base.ref.storage if role == "document" else "", role, name)
                label = f"{dataset.label} with {base.label}"
                fresh = Collection(base, (m, number), dataset, d, role, name, rows, label)
                needs.append(self._collections.setdefault(key, fresh))
        return _Plan(at, m, d, f"{model.label} on {dataset.label}", cost, needs)

    @property
    def unfinished(self) -> bool:
        """Whether a cell is missing."""
        return len(self._cells) < self._wanted

    def told(self) -> Iterator[Cell]:
        """The cells that are finished and whose turn it is."""
        while self._next_told in self._cells:
            yield from self._cells[self._next_told]
            self._next_told += 1

    def next(self) -> Task | None:
        """A cell or a search that has become possible, else the next stretch of texts; None while it is being read."""
        if self._released:
            return self._released.popleft()
        if self._ahead is None and not self._read_all:
            self._ahead = self._reader.submit(next, self._stream, None)
        if self._ahead is None or not self._ahead.done():
            return None
        found, self._ahead = self._ahead.result(), None
        if found is None:
            self._read_all = True
            return None
        collection, task = found
        if task is None:
            collection.read = True
            self._tell()
            self._settle(collection)
            return self.next()
        collection.open += 1
        self._doing[task] = collection
        return task

    def ended(self, task: Task, answer: Answer) -> None:
        """UserError where the fault is the user's; any other fails the cells that it concerns, in their turn."""
        if answer.mistake:
            raise UserError(answer.fault)
        of = self._doing.pop(task)
        if isinstance(of, Collection):
            assert isinstance(task, Encode)
            of.answered(task, answer)
            self._encoded += 0 if answer.fault else task.stop - task.start
            self._tell()
            self._settle(of)
        elif isinstance(task, Search):  # one that failed is made up for by the worker that finishes the cell
            of.searches -= 1
            self._finish(of)
        else:
            self._conclude(of, answer)

    def _conclude(self, plan: _Plan, answer: Answer) -> None:
        found = answer.value
        if answer.fault:  # worker after worker has died over it: it is recorded here
            model, dataset = self.models[plan.model], self.datasets[plan.dataset]
            found = list(cells(model, dataset, self.settings, answer.fault, answer.trace))
        self._cells[plan.at] = found
        self._tell()

    def _tell(self) -> None:
        """The whole crew's progress: texts while there are any to encode, then cells."""
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        if not all(collection.complete for collection in self._collections.values()):
            done = sum(collection.done for collection in self._collections.values())
            self.settings.progress(f"encoding with {workers}", done, self._total)
        else:
            self.settings.progress(f"evaluating with {workers}", len(self._cells), self._wanted)
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            log.info("throughput", extra=self.throughput())

    def throughput(self) -> dict[str, Any]:
        """Of the whole crew so far."""
        seconds = time.monotonic() - self._start
        rate = round(self._encoded / seconds, 2) if seconds else 0.0
        return {
            "texts": self._encoded,
            "seconds": round(seconds, 3),
            "texts_per_second": rate,
            "cells": len(self._cells),
        }

    def _read(self) -> Iterator[_Read]:
        """Every stretch to be encoded, each collection followed by its end. Runs beside all else."""
        for plan in self._plans:
            for collection in plan.needs:
                if not collection.begun and plan in self._waiting:
                    collection.begun = True
                    yield from ((collection, task) for task in collection.stretches(self.workers, self._halts))
                    yield collection, None

    def _settle(self, collection: Collection) -> None:
        """Lets the cells go on that have waited for this collection alone."""
        if collection.complete:
            collection.conclude()
        for plan in [plan for plan in self._waiting if collection in plan.needs]:
            if any(need.fault for need in plan.needs) or all(need.stored for need in plan.needs):
                self._release(plan)

    def _release(self, plan: _Plan) -> None:
        """Makes a cell's search in parts, or its end, the next thing to be done."""
        self._waiting.remove(plan)
        failed = next((need for need in plan.needs if need.fault), None)
        if failed:
            plan.fault, plan.trace = failed.fault, failed.trace
        if plan.needs and not plan.fault and self.models[plan.model].ref.spec.kind == "dense":
            for task in self._parts(plan):
                plan.searches += 1
                self._doing[task] = plan
                self._released.append(task)
        self._finish(plan)

    def _finish(self, plan: _Plan) -> None:
        if not plan.searches:
            task = Finish(plan.label, plan.model, plan.dataset, plan.fault, plan.trace)
            self._doing[task] = plan
            self._released.append(task)

    def _parts(self, plan: _Plan) -> Iterator[Search]:
        """Its search and its documents' geometry, so many documents at a time; nothing where one worker had better do
        it."""
        documents = next(need for need in plan.needs if need.role == "document")
        if documents.rows <= PART_ROWS:
            return
        dataset, depth = self.datasets[plan.dataset], self.settings.k + self.datasets[plan.dataset].exclude_self
        searched, similarity = Searched(self.models[plan.model], dataset, depth), documents.similarity
        shards = documents.in_order()
        ends = list(accumulate(shard.rows for shard in shards))
        for start in range(0, documents.rows, PART_ROWS):
            stop = min(start + PART_ROWS, documents.rows)
            if not searched.has(start, stop):
                first, last = bisect_right(ends, start), bisect_left(ends, stop)
                keys, before = tuple(shard.key for shard in shards[first : last + 1]), ends[first] - shards[first].rows
                label = f"search of documents {start} to {stop} of {plan.label}"
                place = plan.model, plan.dataset, start, stop
                yield Search(label, *place, keys, start - before, similarity or documents.base.similarity)
