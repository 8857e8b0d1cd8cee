"""How a suite scales with workers: runs the production scheduler with simulated tasks and a simulated clock.

``python -m benchmarks cluster [MODEL [DEVICE [SUITE]]]`` takes the cost of each cell from `harness plan` and prints a
table for 1 to 64 workers; docs/scale.md says what is modelled and what is not.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from harness.datasets.catalog import catalogue
from harness.distributed.encode_tasks import MAX_TASK_SHARDS, TASKS_PER_WORKER
from harness.distributed.executor import TaskExecutor, TaskResult, WorkerEvent, WorkerTask
from harness.distributed.scheduler import PART_ROWS
from harness.embeddings.sharding import SHARD_BYTES

WORKERS = (1, 2, 4, 8, 16, 32, 64)
BYTES_PER_TOKEN = 4.4
"""Characters per word piece in English text."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs in seconds that `harness plan` excludes, measured on two cores of an AMD EPYC."""

    read_mib: float = 0.007
    """Read, parse and hash one MiB of documents on the master."""
    task: float = 0.003
    """Dispatch a task and receive its result."""
    load: float = 6.0
    """Load the model, once per worker."""
    query: float = 0.002
    """Rank, measure and write one query's results."""
    merge: float = 0.00004
    """Merge one part of one query's hits."""


@dataclass(frozen=True, slots=True)
class CellCost:
    """Cost of a cell."""

    label: str
    documents: int
    queries: int
    mib: float
    encode: float
    search: float
    geometry: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A simulated task."""

    label: str
    seconds: float
    cell: int
    kind: str
    number: int = 0


@dataclass(slots=True)
class Clock:
    """Simulated seconds."""

    now: float = 0.0


class Suite:
    """The task queue that `harness.distributed.scheduler` makes of such cells."""

    def __init__(self, cells: Sequence[CellCost], workers: int, costs: Costs, clock: Clock) -> None:
        self.cells = sorted(cells, key=lambda cell: -cell.documents)
        self.costs, self.clock, self.released = costs, clock, deque[Piece]()
        self.open = [0] * len(cells)
        self.finished = 0
        self.pieces = deque(piece for at in range(len(cells)) for piece in self._encode(at, workers))
        self.left = [sum(1 for piece in self.pieces if piece.cell == at) for at in range(len(cells))]
        self.counts = list(self.left)
        self.read_at = self._reading()

    def _encode(self, at: int, workers: int) -> list[Piece]:
        cell = self.cells[at]
        shards = max(1, round(cell.mib * (1 << 20) / SHARD_BYTES))
        longest = max(1, min(MAX_TASK_SHARDS, shards // (TASKS_PER_WORKER * workers)))
        count = -(-shards // longest)
        return [Piece(f"{cell.label} {n}", cell.encode / count, at, "encode", n) for n in range(count)]

    def _reading(self) -> float:
        """Time at which the next task will have been read."""
        if not self.pieces:
            return float("inf")
        at = self.pieces[0].cell
        return self.clock.now + self.costs.read_mib * self.cells[at].mib / self.counts[at]

    @property
    def unfinished(self) -> bool:
        """Whether a cell is missing."""
        return self.finished < len(self.cells)

    def next_task(self) -> WorkerTask | None:
        """Like the scheduler: newly unblocked tasks first, then tasks that have been read."""
        if self.released:
            return self.released.popleft()
        if not self.pieces or self.read_at > self.clock.now:
            return None
        piece = self.pieces.popleft()
        self.read_at = self._reading()
        return piece

    def task_done(self, task: WorkerTask, result: TaskResult) -> None:
        """Like the scheduler."""
        assert isinstance(task, Piece)
        at, cell = task.cell, self.cells[task.cell]
        if task.kind == "finish":
            self.finished += 1
            return
        if task.kind == "encode":
            self.left[at] -= 1
            if self.left[at]:
                return
            parts = -(-cell.documents // PART_ROWS) if cell.documents > PART_ROWS else 0
            self.open[at] = parts
            self.released += [
                Piece(cell.label, (cell.search + cell.geometry) / parts, at, "search", n) for n in range(parts)
            ]
        else:
            self.open[at] -= 1
        if not self.open[at]:
            parts = -(-cell.documents // PART_ROWS)
            own = 0.0 if parts > 1 else cell.search + cell.geometry
            merging = self.costs.merge * parts * cell.queries if parts > 1 else 0.0
            seconds = own + merging + self.costs.query * cell.queries
            self.released.append(Piece(cell.label, seconds, at, "finish"))


@dataclass(slots=True)
class Simulated:
    """A worker pool with simulated durations."""

    size: int
    costs: Costs
    clock: Clock
    suite: Suite
    busy: float = 0.0
    loaded: set[int] = field(default_factory=set)
    ends: list[tuple[float, int, WorkerEvent]] = field(default_factory=list)
    longest_end: tuple[float, str] = (0.0, "")

    def start(self) -> None:
        """Start all workers."""
        self.ends = [(0.0, worker, WorkerEvent("ready", worker)) for worker in range(self.size)]

    def send(self, worker: int, task: WorkerTask) -> None:
        """Mark the worker as busy."""
        assert isinstance(task, Piece)
        seconds = task.seconds + self.costs.task
        if task.kind != "finish" and worker not in self.loaded:
            self.loaded.add(worker)
            seconds += self.costs.load
        self.busy += task.seconds
        end = self.clock.now + seconds
        if end >= self.longest_end[0]:
            self.longest_end = (
                end,
                f"{task.kind} of {task.label}" if task.kind != "encode" else f"encoding {task.label}",
            )
        heapq.heappush(self.ends, (end, worker, WorkerEvent("done", worker, TaskResult(True))))

    def wait(self, seconds: float) -> list[WorkerEvent]:
        """Advance the clock to the next event."""
        upcoming = [at for at in (self.ends[0][0] if self.ends else None, self.suite.read_at) if at is not None]
        later = [at for at in upcoming if at > self.clock.now]
        if not (self.ends and self.ends[0][0] <= self.clock.now) and later:
            self.clock.now = min(later)
        told = []
        while self.ends and self.ends[0][0] <= self.clock.now:
            told.append(heapq.heappop(self.ends)[2])
        return told

    def stop(self) -> None:
        """Nothing to clean up."""


def simulate(cells: Sequence[CellCost], workers: int, costs: Costs) -> tuple[float, float, str]:
    """Elapsed seconds, total seconds of work and the last task."""
    clock = Clock()
    suite = Suite(cells, workers, costs, clock)
    pool = Simulated(workers, costs, clock, suite)
    for _ in TaskExecutor(pool, clock=lambda: clock.now).run(suite):
        pass
    return clock.now, pool.busy, pool.longest_end[1]


def planned(model: str, device: str, suite: str) -> list[CellCost]:
    """Costs of all dense cells of a suite, from `harness plan`."""
    command = [sys.executable, "-m", "harness", "plan", "-m", model, "--suite", suite, "--device", device, "--json"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    made = []
    for cell in found["cells"]:
        seconds = cell["seconds"]
        counts = catalogue().datasets[cell["dataset"]].counts
        mib = cell["tokens"] * BYTES_PER_TOKEN / (1 << 20)
        spent = seconds["encode"], seconds["search"], seconds["geometry"]
        made.append(CellCost(cell["dataset"], cell["documents"], counts.queries if counts else 0, mib, *spent))
    return made


def main(model: str = "mpnet", device: str = "t4", suite: str = "beir18") -> None:
    """Print the table."""
    cells, costs = planned(model, device, suite), Costs()
    rows = []
    alone = simulate(cells, 1, costs)[0]
    for workers in WORKERS:
        seconds, _, last = simulate(cells, workers, costs)
        rows.append(
            [workers, f"{seconds / 3600:.2f}", f"{alone / seconds:.1f}", f"{alone / seconds / workers:.3f}", last]
        )
    print(f"{model} on {suite}, every worker a {device}: simulated\n")
    print(
        tabulate(
            rows, ["workers", "hours", "speed-up", "efficiency", "ended last"], tablefmt="pipe", disable_numparse=True
        )
    )
