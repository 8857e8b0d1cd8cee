"""Killed, interrupted, doubled, out of disk: the same command again ends where an undisturbed run ends."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import write_dataset
from tests.forked import Forked

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

SLOW = """
import time

import numpy as np

from harness import ModelSpec, hookimpl


class Slow:
    dim = 32

    def encode(self, texts, *, role):
        time.sleep(0.002)
        letters = [np.frombuffer(text.encode(), np.uint8) % self.dim for text in texts]
        return np.asarray([np.bincount(row, minlength=self.dim) for row in letters], np.float32)


def load(options):
    return Slow()


@hookimpl
def harness_models():
    yield ModelSpec("slow", "dense", f"{__name__}:load", "counts of letters, slowly")
"""


@dataclass
class Bench:
    """One benchmark to be run in places of its own."""

    plugin: Path
    dataset: Path
    models: tuple[str, ...] = ("slow", "bm25")

    def start(self, place: Path, setup: Callable[[], object] | None = None) -> Forked:
        """Starts it with its home and its results below ``place``."""
        models = [word for model in self.models for word in ("-m", model)]
        words = ["benchmark", "--plugin", self.plugin, *models, "-d", self.dataset, "--results", place / "results"]
        environment = {**os.environ, "HARNESS_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
        return Forked([*words, "--json"], environment, setup=setup)

    def finish(self, place: Path) -> list[str]:
        """Runs it to its end, which must be a good one; says of each cell whether it was done or reused."""
        done = self.start(place).finish()
        assert done.returncode == 0, done.stderr
        return [cell["cell"] for cell in json.loads(done.stdout)]


def recorded(place: Path) -> dict[str, tuple[int, int]]:
    """Every file of the shards that count as computed (their record is there): which file it is, and since when."""
    found = {}
    for record in (place / "home" / "vectors").glob("*/*/[0-9a-f]*.json"):
        for file in (record, record.with_suffix(".npy")):
            status = file.stat()
            found[str(file.relative_to(place))] = (status.st_ino, status.st_mtime_ns)
    return found


def content(place: Path) -> dict[str, bytes]:
    """Every file that a benchmark leaves behind, without what tells of the run and not of its outcome."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".json":
            fields = json.loads(data)
            for field in ("command", "seconds", "checksum"):  # which is of all the others
                fields.pop(field, None)
            fields.get("manifest", {}).pop("run", None)
            data = json.dumps(fields).encode()
        found[str(path.relative_to(place))] = data
    return found


def await_shards(place: Path, count: int, process: Forked) -> None:
    while len(recorded(place)) < 2 * count and process.poll() is None:
        time.sleep(0.01)


def last_words(process: Forked) -> str:
    """The one sentence that a command ends with."""
    err = process.finish().stderr
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("harness: ")]
    assert err.splitlines()[-1:] == lines
    return lines[0]


def texts(seed: int, count: int) -> Iterator[str]:
    """Texts of 64 KiB, of which 17 close a shard."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=15)) for _ in range(2000)]
    for _ in range(count):
        yield " ".join(chance.choices(words, k=4095))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Twelve shards of documents, one of queries, and a lexical index."""
    folder = tmp_path_factory.mktemp("bench")
    plugin = folder / "slow_model.py"
    plugin.write_text(SLOW)
    documents = {f"d{number}": text for number, text in enumerate(texts(1, 200))}
    queries = {f"q{number}": documents[f"d{number}"][:63] for number in range(20)}
    return Bench(plugin, write_dataset(folder / "large", documents, queries, [(q, f"d{q[1:]}", 1) for q in queries]))


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """What a run that nobody disturbs leaves behind, and how many seconds it takes."""
    place = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    assert bench.finish(place) == ["ok", "ok"]
    seconds = time.monotonic() - start
    left = content(place)
    shards = [name for name in left if name.endswith(".npy") and "/vectors/" in name]
    assert len(shards) == 13
    assert {"results/slow/large/run.trec.gz", "results/bm25/large/per_query.parquet"} <= set(left)
    return left, seconds


@pytest.mark.parametrize("trial", range(2))
def test_killed_at_a_random_moment_the_same_command_again_gives_the_same_bytes_and_repeats_no_shard(
    bench: Bench, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path, trial: int
) -> None:
    """More moments, and kills at single calls, are in the campaign (tests/robustness/faults)."""
    expected, seconds = undisturbed
    moment, ended = random.Random(trial).uniform(0, seconds), 0
    while ended != -signal.SIGKILL:  # it may have been quicker than the undisturbed run: once more, and sooner
        place = tmp_path / f"{moment:.3f}"
        process = bench.start(place)
        time.sleep(moment)
        process.kill()
        moment, ended = moment / 2, process.wait()
    before = recorded(place)
    bench.finish(place)
    after = recorded(place)
    assert {name: after[name] for name in before} == before
    assert content(place) == expected  # the same files, too: nothing half-written stays


def test_an_interrupt_ends_in_one_sentence_and_loses_no_shard(
    bench: Bench, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    process = bench.start(tmp_path)
    await_shards(tmp_path, 3, process)
    process.send_signal(signal.SIGINT)
    assert "Interrupted" in last_words(process)
    assert process.wait() == 130
    before = recorded(tmp_path)
    assert 2 * 3 <= len(before) < 2 * 13
    assert not list((tmp_path / "results").rglob("*.*"))
    bench.finish(tmp_path)
    after = recorded(tmp_path)
    assert {name: after[name] for name in before} == before
    assert content(tmp_path) == undisturbed[0]


def test_a_process_waits_for_another_at_the_same_cell_until_that_one_ends_or_is_killed(
    bench: Bench, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    first = bench.start(tmp_path)
    await_shards(tmp_path, 2, first)
    first.send_signal(signal.SIGSTOP)
    before = recorded(tmp_path)
    second = bench.start(tmp_path)
    try:
        second.await_line("waiting for another process that computes slow on large")
        time.sleep(0.1)
        assert recorded(tmp_path) == before
    finally:
        first.kill()
    done = second.finish()
    assert done.returncode == 0, done.stderr
    assert [cell["cell"] for cell in json.loads(done.stdout)] == ["ok", "ok"]
    assert before.items() <= recorded(tmp_path).items()
    assert content(tmp_path) == undisturbed[0]


def test_a_full_disk_ends_in_one_sentence_and_costs_no_finished_shard(
    bench: Bench, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A limit on the size of files stands for the disk; the campaign mounts a small one."""
    limit = (256 * 1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    long = {f"long{number}": text for number, text in enumerate(texts(2, 51))}  # three shards of little data
    short = {f"short{number}": "word" for number in range(4200)}  # one of 4096 x 32 x 4 bytes, and the rest
    dataset = write_dataset(tmp_path / "mixed", {**long, **short}, {"q": "word"}, [("q", "short7", 1)])
    tried = Bench(bench.plugin, dataset, ("slow",))
    process = tried.start(tmp_path, setup=partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit))
    assert "The disk is full" in last_words(process)
    assert process.wait() == 2
    before = recorded(tmp_path)
    assert len(before) == 2 * 3
    assert not list((tmp_path / "home").rglob("*.tmp"))
    assert not list((tmp_path / "results").rglob("*.*"))
    assert tried.finish(tmp_path) == ["ok"]
    after = recorded(tmp_path)
    assert {name: after[name] for name in before} == before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert tried.finish(elsewhere) == ["ok"]
    expected = content(elsewhere)
    assert {name: data for name, data in content(tmp_path).items() if name in expected} == expected
