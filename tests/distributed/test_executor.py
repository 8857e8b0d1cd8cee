"""Several workers in place of one process: the same bytes, whatever dies; and what is told when nothing helps."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.studies.cluster import CellCost, Costs, simulate
from harness.distributed.executor import (
    MAX_ATTEMPTS,
    MAX_RESTARTS,
    TaskExecutor,
    TaskResult,
    TaskRunner,
    WorkerEvent,
    WorkerSpec,
    WorkerTask,
)
from harness.distributed.scheduler import PART_ROWS
from harness.embeddings.store import Vectors
from harness.metrics.moments import joined, parts
from harness.search.exact import search
from harness.search.partial_results import PartialResults
from harness.types import ModelError, PluginError, UserError
from tests.conftest import Done
from tests.forked import Forked
from tests.pools import Place, content, left_by_one_process, make_place, threads

MODELS = ("letters", "bm25", "rrf(letters,bm25)", "terms", "tokens")
PROCESSES = ("--executor", "processes", "--workers", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
    pytest.importorskip("bm25s", reason="bm25 needs its extra")
    made = make_place(tmp_path_factory.mktemp("workers"))
    made.died.touch()
    return made


@pytest.fixture(scope="module")
def alone(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return left_by_one_process(place, tmp_path_factory.mktemp("alone"), *MODELS, "letters:fault=kills once")


def by_processes(place: Place, root: Path, *models: str) -> Forked:
    words = place.words(*models)
    words[words.index("--results") + 1] = str(root / "results")
    return Forked([*words, *PROCESSES], {**threads(1), "HARNESS_HOME": str(root / "home")})


def test_processes_write_the_bytes_of_one_process_though_a_worker_is_killed(
    place: Place, alone: dict[str, bytes], tmp_path: Path
) -> None:
    place.died.unlink()
    try:
        done = by_processes(place, tmp_path, *MODELS, "letters:fault=kills once").finish()
        assert place.died.exists()
    finally:
        place.died.touch()
    assert done.returncode == 0, done.stderr
    labels = [cell["model"] for cell in json.loads(done.stdout)]
    assert labels == [*MODELS, "letters:fault=kills once"]  # in the order of the command line
    log = tmp_path / "home" / "logs" / "benchmark.jsonl"
    told = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    assert next(line["reason"] for line in told if line["event"] == "worker lost").endswith("was killed by SIGKILL")
    assert sum(line["event"] == "task done" and "encoding" in line["task"] for line in told) == 4 * 7  # four models
    assert told[-1]["event"] == "benchmark done"
    assert told[-1]["texts"] == 4 * 108
    assert content(tmp_path) == alone


FAULTS = {
    "cannot load": r"These letters cannot be loaded; write them again\.",
    "exits": r"letters:fault=exits: batch .*: it raised SystemExit: 0 \(.*letters\.py:\d+\)",
    "interrupts": r"KeyboardInterrupt \(.*letters\.py:\d+\)",
}
"""Fault of a model -> why its cell fails."""


def failed_alone(cells: Sequence[dict[str, str]], err: str, results: Path) -> None:
    """Asserts that the cells of `FAULTS` failed, each with its reason and a traceback, and that no later cell did."""
    failed, others = cells[: len(FAULTS)], cells[len(FAULTS) :]
    assert [cell["cell"] for cell in failed] == ["failed"] * len(FAULTS)
    assert [cell["cell"] for cell in others] == ["ok"] * len(others) != []
    assert "Traceback" not in err
    for (fault, words), cell in zip(FAULTS.items(), failed, strict=True):
        assert re.fullmatch(words, cell["reason"]), cell["reason"]
        [recorded] = [
            r for file in results.glob("*/large/result.json") if fault in (r := json.loads(file.read_text()))["model"]
        ]
        assert recorded["reason"] == cell["reason"]
        assert recorded["traceback"] == cell["traceback"]
        assert "letters.py" in recorded["traceback"]


def test_a_fault_fails_the_cells_of_its_model_and_no_other(
    place: Place, alone: dict[str, bytes], tmp_path: Path
) -> None:
    faults = [f"letters:fault={fault}" for fault in FAULTS]
    done = by_processes(
        place, tmp_path, "letters:fault=raises", "letters:fault=kills", *faults, "letters", "bm25"
    ).finish()
    assert done.returncode == 1
    raised, killed, *others = json.loads(done.stdout)
    assert "it raised ValueError: no marks, please" in raised["reason"]
    assert raised["reason"].startswith("letters:fault=raises: batch ")
    assert killed["cell"] == "failed"
    assert f"{MAX_ATTEMPTS} workers died while running encoding document texts" in killed["reason"]
    assert "SIGKILL" in killed["reason"]
    assert json.loads((tmp_path / "results/letters+fault=kills/large/result.json").read_text())["status"] == "failed"
    failed_alone(others, done.stderr, tmp_path / "results")
    kept = {name: data for name, data in content(tmp_path).items() if name.startswith("results/letters/")}
    assert kept == {name: data for name, data in alone.items() if name.startswith("results/letters/")}
    log = [json.loads(line) for line in (tmp_path / "home" / "logs" / "benchmark.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "worker lost" for line in log) == MAX_ATTEMPTS  # by letters:fault=kills alone
    assert any("SystemExit: 0" in line.get("traceback", "") for line in log)


def test_ctrl_c_ends_workers_too_and_one_process_resumes(
    place: Place, alone: dict[str, bytes], tmp_path: Path, harness: Callable[..., Done]
) -> None:
    process = by_processes(place, tmp_path, *MODELS, "letters:fault=kills once")
    place.await_shards(tmp_path / "home", 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130, process.err
    assert "Traceback" not in process.err
    await_end(process.pid)
    words = place.words(*MODELS, "letters:fault=kills once", results=str(tmp_path / "results"))
    done = harness(*words)
    assert done.code == 0, done.err
    assert content(tmp_path) == alone


HANGS = """
import time
from pathlib import Path

from harness import ModelSpec, hookimpl


class Hangs:
    dim = 4

    def encode(self, texts, *, role):
        Path(__file__).with_name("hanging").touch()
        time.sleep(10_000)


@hookimpl
def harness_models():
    yield ModelSpec("hangs", "dense", f"{__name__}:load", "never comes back")


def load(options):
    return Hangs()
"""


def test_a_worker_that_hangs_ends_with_the_command(toy: Path, tmp_path: Path) -> None:
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143}
    with ExitStack() as stack:
        processes = {number: hanging(number, toy, tmp_path) for number in codes}
        for process in processes.values():
            stack.callback(process.kill)
        for number, process in processes.items():
            while not (tmp_path / number.name / "hanging").exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)  # to the command alone
            assert process.wait(60) == codes[number]
            await_end(process.pid)


def hanging(number: signal.Signals, toy: Path, folder: Path) -> Forked:
    """A command whose worker never returns from its task."""
    own = folder / number.name
    own.mkdir()
    plugin = own / "hangs_model.py"
    plugin.write_text(HANGS)
    words = ["benchmark", "--plugin", plugin, "-m", "hangs", "-d", toy, "--results", own / "r"]
    environment = {**threads(1), "HARNESS_HOME": str(own / "home")}
    return Forked([*words, "--executor", "processes", "--workers", "1"], environment)


def await_end(group: int) -> None:
    """Returns when no process of a group is left."""
    end = time.monotonic() + 20
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.05)
        pytest.fail("a worker outlived the command")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--workers", "2"), "add --executor processes"),
        (("--address", "auto"), "add --executor processes"),
        (("--executor", "processes", "--address", "auto"), "processes run on this machine"),
        (("--executor", "processes", "--gpus-per-task", "1"), "this machine has none"),
        (("--executor", "processes", "--gpus-per-task", "0.5"), "a whole GPU or none"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, toy: Path, words: Sequence[str], sentence: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = harness("benchmark", "-m", "bm25", "-d", toy, *words)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]


def test_every_process_has_a_gpu_of_its_own(
    place: Place, harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Made-up ones: what a process sees is all that divides real ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    words = place.words("letters:fault=tells,pause=0.1", results=str(tmp_path / "results"))
    done = harness(*words, "--executor", "processes")
    assert done.code == 0, done.err
    assert place.devices() == ["3", "5"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


class Step(NamedTuple):
    """A task of the tests."""

    number: int

    @property
    def label(self) -> str:
        return f"step {self.number}"


class Steps:
    """A queue of equal tasks."""

    def __init__(self, count: int) -> None:
        self.todo, self.results, self.count = list(map(Step, range(count))), dict[WorkerTask, TaskResult](), count

    @property
    def unfinished(self) -> bool:
        return len(self.results) < self.count

    def next_task(self) -> WorkerTask | None:
        return self.todo.pop(0) if self.todo else None

    def task_done(self, task: WorkerTask, result: TaskResult) -> None:
        assert task not in self.results
        self.results[task] = result


class Fragile:
    """A pool whose workers follow a script: the outcome of each step on each worker."""

    def __init__(self, size: int, script: Callable[[Step, int], str]) -> None:
        self.size, self.script, self.stopped = size, script, False
        self.events: list[WorkerEvent] = []
        self.most = 0
        self.starts = [1] * size

    def start(self) -> None:
        self.events = [WorkerEvent("ready", worker) for worker in range(self.size)]

    def send(self, worker: int, task: WorkerTask) -> None:
        assert isinstance(task, Step)
        fate = self.script(task, worker)
        if fate == "done":
            self.events.append(WorkerEvent("done", worker, TaskResult(task.number)))
        elif self.starts[worker] > MAX_RESTARTS:
            self.events.append(WorkerEvent("dead", worker, reason=fate))
        else:
            self.starts[worker] += 1
            self.events += [WorkerEvent("lost", worker, reason=fate), WorkerEvent("ready", worker)]

    def wait(self, seconds: float) -> list[WorkerEvent]:
        events, self.events = self.events, []
        return events

    def stop(self) -> None:
        self.stopped = True


def test_a_task_is_given_out_again_until_so_many_workers_died_over_it() -> None:
    pool, steps = Fragile(3, lambda step, worker: "gone astray" if step.number == 4 else "done"), Steps(20)
    for _ in TaskExecutor(pool).run(steps):
        pass
    assert pool.stopped
    assert sum(pool.starts) == 3 + MAX_ATTEMPTS
    bad = steps.results.pop(Step(4))
    assert bad.fault == f"{MAX_ATTEMPTS} workers died while running step 4 (last: gone astray)"
    assert {task: result.value for task, result in steps.results.items()} == {Step(n): n for n in range(20) if n != 4}


def test_work_goes_on_while_one_worker_is_left_and_ends_in_a_sentence_when_none_is() -> None:
    pool, steps = Fragile(2, lambda step, worker: "done" if worker else "dead"), Steps(30)
    for _ in TaskExecutor(pool).run(steps):
        pass
    assert len(steps.results) == 30
    pool = Fragile(2, lambda step, worker: "dead")
    with pytest.raises(PluginError, match="All 2 workers died"):
        list(TaskExecutor(pool).run(Steps(30)))
    assert pool.stopped


def test_when_nobody_comes_the_work_is_given_up_in_the_end() -> None:
    class Absent(Fragile):
        def start(self) -> None:
            pass

    now = iter(range(0, 100_000, 100))
    with pytest.raises(PluginError, match="No worker was alive"):
        list(TaskExecutor(Absent(2, lambda *_: ""), clock=lambda: float(next(now))).run(Steps(1)))


class Blunt:
    """Performs tasks by raising them."""

    def __init__(self, argument: object) -> None:
        pass

    def perform(self, task: object) -> object:
        if isinstance(task, BaseException):
            raise task
        return task


def test_what_a_worker_raises_becomes_words() -> None:
    runner = TaskRunner(WorkerSpec(f"{__name__}:Blunt", None, 1))
    perform: Callable[[object], TaskResult] = runner.perform  # type: ignore[assignment]
    assert perform(7) == TaskResult(7)
    for raised, fault, user_error in (
        (UserError("No."), r"No\.", True),
        (ModelError("Not this one."), r"Not this one\.", False),
        (PluginError("Broken."), r"Broken\.", False),
        (KeyError("k"), r"KeyError: 'k' \(.*test_executor\.py:\d+\)", False),
        (SystemExit(3), r"SystemExit: 3 \(.*test_executor\.py:\d+\)", False),
        (KeyboardInterrupt(), r"KeyboardInterrupt \(.*test_executor\.py:\d+\)", False),
    ):
        result = perform(raised)
        assert result == TaskResult(fault=result.fault, user_error=user_error, trace=result.trace)
        assert re.fullmatch(fault, result.fault)
        assert result.trace.startswith("Traceback")
        assert type(raised).__name__ in result.trace
    missing = TaskRunner(WorkerSpec("no.such:module", None, 1)).perform(Step(0))
    assert "ModuleNotFoundError" in missing.fault
    assert not missing.user_error


class _Facts:
    """What `PartialResults` asks of a model and a dataset."""

    def __init__(self, home: Path, documents: int, queries: int) -> None:
        self.ref, self.key, self.home, self.sha256 = self, "model", home, "corpus"
        self.corpus, self.queries, self.fingerprint = self, [None] * queries, {"queries": "queries"}
        self._documents = documents

    def __len__(self) -> int:
        return self._documents


@pytest.mark.parametrize("similarity", ["euclidean", "dot"])
@pytest.mark.parametrize("cuts", [[0, 600], [0, 1, 2, 600], [0, 37, 300, 599, 600], [*range(0, 601, 50)]])
def test_parts_of_a_search_put_together_are_the_search_bit_for_bit(
    tmp_path: Path, similarity: str, cuts: list[int]
) -> None:
    chance = np.random.default_rng(5)
    documents = chance.normal(size=(600, 16)).astype(np.float32)
    documents[400:] = documents[:200]  # ties across the cuts, some of them at the k-th place
    queries = documents[::75] + (chance.normal(size=(8, 16)) * 0.01).astype(np.float32)
    facts = _Facts(tmp_path, 600, 8)
    searched = PartialResults(facts, facts, 25)  # type: ignore[arg-type]
    assert searched.merged() is None
    for start, stop in pairwise(cuts):
        part = Vectors.of(documents[start:stop])
        hits = search(queries, part, np.zeros(16), 25, similarity)  # type: ignore[arg-type]
        searched.put(start, stop, hits, joined(parts([documents[start:stop]], 600, start)))
    whole = list(search(queries, Vectors.of(documents), documents.mean(0, np.float64), 25, similarity))  # type: ignore[arg-type]
    found = searched.merged()
    assert found is not None
    merged, (state, sample) = list(found[0]), found[1]
    assert [(h.rows.tobytes(), h.scores.tobytes()) for h in merged] == [
        (h.rows.tobytes(), h.scores.tobytes()) for h in whole
    ]
    assert any(len(h.rows) > 25 for h in whole)
    exact = documents.astype(np.float64)
    assert sample.tobytes() == documents.tobytes()
    assert state.n == 600
    np.testing.assert_allclose(state.mean, exact.mean(0), atol=1e-14)
    np.testing.assert_allclose(state.scatter, 599 * np.cov(exact.T), rtol=1e-11, atol=1e-11)
    first, second = (searched.folder / f"{start}-{stop}" for start, stop in [(cuts[0], cuts[1]), (cuts[-2], cuts[-1])])
    if first != second:  # a part in another's place is not taken for it
        for source, target in ((first, tmp_path / "aside"), (second, first), (tmp_path / "aside", second)):
            source.rename(target)
        assert not searched.has(cuts[0], cuts[1])
        assert searched.merged() is None
        for source, target in ((first, tmp_path / "aside"), (second, first), (tmp_path / "aside", second)):
            source.rename(target)
    assert searched.merged() is not None
    victim = sorted(searched.folder.glob("*/scores.npy"))[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert searched.merged() is None  # a corrupt part is treated as missing
    searched.forget()
    assert not searched.folder.exists()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of cells, and of the sums of geometry in this process: workers are given parts of these very rows."""
    monkeypatch.setattr("harness.distributed.scheduler.PART_ROWS", 20)
    monkeypatch.setattr("harness.metrics.moments.PART", 20)


def test_a_large_cell_is_searched_in_parts_with_the_same_bytes(
    place: Place, alone: dict[str, bytes], tmp_path: Path, small_parts: None, harness: Callable[..., Done], home: Path
) -> None:
    kept, halt = set[str](), threading.Event()

    def watch() -> None:
        while not halt.wait(0.002):
            kept.update(folder.name for folder in (home / "searched").glob("*/[0-9]*-[0-9]*"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = harness(*place.words("letters", results=str(tmp_path / "parts")), *PROCESSES)
    finally:
        halt.set()
        watcher.join()
    assert done.code == 0, done.err
    assert len(kept) > 1
    assert not list((home / "searched").glob("*"))
    found = content(tmp_path / "parts")
    for name, data in found.items():
        if not name.endswith("result.json"):  # whose geometry sums over other parts
            assert data == alone[f"results/{name}"]
    assert harness(*place.words("letters", results=str(tmp_path / "one"))).code == 0
    assert found == content(tmp_path / "one")


def test_the_simulated_suite_keeps_the_real_executor_busy() -> None:
    """In closed form: equal encode tasks over w workers, then search and geometry in parts, and one finish task."""
    cells = [CellCost("only", documents=4 * PART_ROWS, queries=0, mib=1024.0, encode=1024.0, search=40.0, geometry=5.0)]
    free = Costs(read_mib=0.0, task=0.0, load=0.0, query=0.0, merge=0.0)
    for workers in (1, 2, 4):
        seconds, busy, last = simulate(cells, workers, free)
        assert busy == pytest.approx(1024 + 40 + 5)
        assert seconds == pytest.approx((1024 + 40 + 5) / workers, rel=0.01)
        assert last == "finish of only"
    slow = replace(free, read_mib=2.0)  # then the main process's reading is all that counts
    assert simulate(cells, 4, slow)[0] == pytest.approx(2048 + 10 + 1, rel=0.02)
