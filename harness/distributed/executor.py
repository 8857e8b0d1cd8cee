"""Work shared out among workers that may die: each holds one task at a time, and what a dead one held is done again.

Which task comes next, and what follows from its answer, is the agenda's business (`harness.distributed.benchmark`);
where workers run and how they are reached is the crew's (`harness.distributed.process_pool`,
`harness.distributed.ray_pool`). Here is what both have in common.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from harness.errors import described, trace
from harness.types import ModelError, PluginError, UserError, resolve

TRIES = 3
"""Workers that may die over one task before that task has failed."""
RESTARTS = 5
"""Times that one worker is started anew."""
PATIENCE = 600.0
"""Seconds without a single worker alive after which the work is given up."""

log = logging.getLogger("harness")


class Task(Protocol):
    """A piece of work: immutable, and small enough to be sent anywhere. Done twice, it leaves what once leaves."""

    @property
    def label(self) -> str:
        """For messages: what it does, and to what."""
        ...


class Answer(NamedTuple):
    """What became of a task."""

    value: Any = None
    fault: str = ""
    """Why it failed, in words; empty: it did not."""
    mistake: bool = False
    """Whether the fault is its user's (a UserError), which ends everything."""
    trace: str = ""
    """The traceback of the fault."""


class Event(NamedTuple):
    """Something that a crew has to tell."""

    kind: Literal["ready", "done", "lost", "gone"]
    """A worker can take a task; answers the one it holds; died and is being started anew; died for good."""
    worker: int
    answer: Answer = Answer()
    """Of one that is done."""
    reason: str = ""
    """Why it died; where it runs, of one that is ready."""


class Crew(Protocol):
    """Workers numbered from 0."""

    size: int

    def start(self) -> None:
        """Starts every worker; each tells when it is ready."""
        ...

    def send(self, worker: int, task: Task) -> None:
        """Gives a task to a worker that is ready and holds none."""
        ...

    def wait(self, seconds: float) -> Sequence[Event]:
        """What happened; after so many seconds nothing, perhaps."""
        ...

    def stop(self) -> None:
        """Ends every worker at once, whatever it holds."""
        ...


class Agenda(Protocol):
    """What is to be done."""

    @property
    def unfinished(self) -> bool:
        """Whether anything is still to be done or awaited."""
        ...

    def next(self) -> Task | None:
        """The next task, for a worker that is free; None when there is none at this moment."""
        ...

    def ended(self, task: Task, answer: Answer) -> None:
        """Takes note of a task's answer, which may make others possible."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """How many workers there are to be, and what each one gets. None: as many as the machine or cluster offers."""

    workers: int | None = None
    cpus: int = 1
    """Cores, and threads, of each."""
    gpus: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a worker is made of."""

    target: str
    """``"module:callable"``: from ``knowledge`` to something with ``perform(task) -> answer``."""
    knowledge: Any
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """What must be set before a worker imports anything: the threads that every numeric library uses."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {**dict.fromkeys(names, str(self.threads)), "TOKENIZERS_PARALLELISM": "false"}


class Station:
    """Where a worker works, once it is there: made with its first task, kept for all others."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._worker: Any = None

    def perform(self, task: Task) -> Answer:
        """Does the task; what goes wrong becomes words, which survive any journey. An interrupt is a fault too: the
        user's reaches the master, so this one was raised by a plug-in."""
        try:
            self._worker = self._worker or resolve(self._call.target)(self._call.knowledge)
            return Answer(self._worker.perform(task))
        except UserError as error:
            return Answer(fault=str(error), mistake=not isinstance(error, ModelError), trace=trace(error))
        except PluginError as error:
            return Answer(fault=str(error), trace=trace(error))
        except BaseException as error:  # the boundary of the task: it has failed, the worker goes on
            return Answer(fault=described(error), trace=trace(error))


@dataclass(slots=True)
class Foreman:
    """Hands out an agenda's tasks to a crew until there are none left."""

    crew: Crew
    clock: Callable[[], float] = time.monotonic
    held: dict[int, tuple[Task, float]] = field(default_factory=dict)
    """Worker -> what it does, and since when."""
    free: deque[int] = field(default_factory=deque)
    again: deque[Task] = field(default_factory=deque)
    deaths: Counter[Task] = field(default_factory=Counter)
    alive: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    since: float = 0.0
    """When there last was a worker."""

    def work(self, agenda: Agenda) -> Iterator[None]:
        """Does everything, yielding now and then. Whatever ends it, no worker outlives it.

        Raises PluginError when no worker is left.
        """
        try:
            self.since = self.clock()
            self.crew.start()
            while agenda.unfinished:
                starving = not self._hand_out(agenda)
                for event in self.crew.wait(0.02 if starving else 1.0):
                    self._take(event, agenda)
                self._despair()
                yield
        finally:
            self.crew.stop()

    def _hand_out(self, agenda: Agenda) -> bool:
        """Whether every free worker found something to do."""
        while self.free:
            task = self.again.popleft() if self.again else agenda.next()
            if task is None:
                return False
            worker = self.free.popleft()
            self.held[worker] = task, self.clock()
            self.crew.send(worker, task)
        return True

    def _take(self, event: Event, agenda: Agenda) -> None:
        worker = event.worker
        if event.kind in ("ready", "done"):
            self.free.append(worker)
        if event.kind == "ready":
            self.alive.add(worker)
            log.info("worker ready", extra={"worker": worker, "where": event.reason})
        elif event.kind == "done":
            task, start = self.held.pop(worker)
            seconds = round(self.clock() - start, 3)
            told = {"task": task.label, "worker": worker, "seconds": seconds, "fault": event.answer.fault}
            told |= {"traceback": event.answer.trace} if event.answer.trace else {}
            log.info("task done", extra=told)
            agenda.ended(task, event.answer)
        else:
            self._bury(event, agenda)

    def _bury(self, event: Event, agenda: Agenda) -> None:
        worker = event.worker
        self.alive.discard(worker)
        if worker in self.free:
            self.free.remove(worker)
        if event.kind == "gone":
            self.gone.add(worker)
        log.warning("worker lost", extra={"worker": worker, "reason": event.reason, "for_good": event.kind == "gone"})
        task, _ = self.held.pop(worker, (None, 0.0))
        if task is None:
            return
        self.deaths[task] += 1
        if self.deaths[task] < TRIES:
            self.again.append(task)
            return
        fault = f"{TRIES} workers died over it, one after the other ({task.label}; the last: {event.reason})"
        agenda.ended(task, Answer(fault=fault))

    def _despair(self) -> None:
        now = self.clock()
        if self.alive:
            self.since = now
        elif len(self.gone) == self.crew.size:
            raise PluginError(f"All {self.crew.size} workers died {RESTARTS + 1} times; what was finished is kept.")
        elif now - self.since > PATIENCE:
            raise PluginError(f"For {PATIENCE:.0f} seconds there was no worker alive; what was finished is kept.")
