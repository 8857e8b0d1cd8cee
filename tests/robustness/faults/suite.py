"""The suite that faults happen to: toy models on small datasets, run by the real command in forked processes.

The campaign's own process has imported everything and started no thread, so that a fork is a fresh process that costs
milliseconds; what runs in it is `harness.cli.main.main`, and what kills it is the kernel.
"""

from __future__ import annotations

import gzip
import importlib
import json
import os
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.registry.manager import load_registry
from tests.forked import LIGHT
from tests.robustness.toy import write_dataset, write_plugin, write_weights

MODELS = ("toy", "bm25", "rrf(toy,bm25)")
PATIENCE = 60.0
"""Seconds after which a command counts as hanging."""
PRIVATE = {"logs", "hashes.json"}
"""What is of one place and moment."""
STATE = ("inode", "mtime_ns", "ctime_ns")
"""Of a file that an index was made of: another in every copy of a place, and for every copy that is unpacked again."""
ORPHANS = (".tmp", ".old", ".lock", ".raw")


class Ended(NamedTuple):
    """How a command ended: its exit status (negative: the signal) and what it wrote."""

    status: int
    out: str
    err: str


class Verdict(NamedTuple):
    """What came of one case."""

    wrong: str
    faults: int = 1
    """How many really happened: a process may end before its kill."""


class Skipped(Exception):
    """The kind cannot happen on this machine, and why."""


class Running:
    """A command under way in a process of its own."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log

    def send(self, number: signal.Signals) -> None:
        """One signal, where the process is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Its end. One that hangs is killed, and told by the status -99."""
        status = wait(self.pid, patience)
        out, err = (self.log.with_suffix(end).read_text(errors="replace") for end in (".out", ".err"))
        return Ended(status, out, err)


def wait(pid: int, patience: float) -> int:
    """Exit status of a child, negative for a signal; -99 for one that had to be killed because it hangs."""
    end = time.monotonic() + patience
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -99
        time.sleep(0.002)


class Suite:
    """Its datasets, its command, and what an undisturbed run of it leaves."""

    def __init__(self, root: Path, models: tuple[str, ...] = MODELS, built: bool = False) -> None:
        """Makes the datasets and runs the command twice, undisturbed; ``built``: a named dataset, a gzipped one and
        weights too."""
        self.root, self.models = root, models
        self.plugin = write_plugin(root)
        sizes = ((1, 300), (2, 90))
        folders = [_in_shards(write_dataset(root / f"set{n}", n, size)) for n, size in sizes]
        self.datasets = [*map(str, folders), *([str(_packed(root)), "made-up"] if built else [])]
        load_registry([self.plugin])  # imports the plug-ins
        for module in (*LIGHT, "tests.warm"):
            importlib.import_module(module)
        self.clean = root / "clean"
        for place in (self.clean, root / "again") if built else ():
            write_weights(self.plugin, place / "home")
        start = time.monotonic()
        ended = self.start(self.clean).wait()
        self.seconds = time.monotonic() - start
        assert ended.status == 0, ended.err
        start = time.monotonic()
        assert self.start(root / "again").wait().status == 0
        self.seconds = min(self.seconds, time.monotonic() - start)
        self.expected = content(self.clean)
        words = ["report", "--results", str(self.clean / "results"), "--json", "--baseline", "toy"]
        self.report = self.start_words(self.clean, words).wait().out
        again = content(root / "again")
        assert built or again == self.expected, "the suite is not deterministic"  # paths are keys of what is built

    def words(self, place: Path, *more: str) -> list[str]:
        """The command, with its results below ``place``."""
        models = [word for model in self.models for word in ("-m", model)]
        datasets = [word for folder in self.datasets for word in ("-d", folder)]
        return ["benchmark", *models, *datasets, "--results", str(place / "results"), "--json", *more]

    def start(self, place: Path, *more: str, setup: Callable[[], object] = lambda: None) -> Running:
        """The command in a forked process, its home and results below ``place``; ``setup`` is called there first."""
        return self.start_words(place, ["--plugin", str(self.plugin), *self.words(place, *more)], setup)

    def start_words(self, place: Path, words: list[str], setup: Callable[[], object] = lambda: None) -> Running:
        """Any command of the harness, likewise."""
        place.mkdir(parents=True, exist_ok=True)
        log = self.root / "logs" / f"{place.name}-{time.monotonic_ns()}"
        log.parent.mkdir(exist_ok=True)
        for end in (".out", ".err"):  # here: the process may be killed before it could
            log.with_suffix(end).touch()
        pid = os.fork()
        if pid == 0:
            _become(words, place, log, setup)
        return Running(pid, log)

    def recovers(self, place: Path, *more: str, without: Collection[str] = ()) -> str:
        """Runs the command to its end and says what is wrong with what it leaves; empty: nothing."""
        ended = self.start(place, *more).wait()
        if ended.status:
            return f"the rerun ended with {ended.status}: {ended.err[-400:]}"
        return self.differs(place, without)

    def differs(self, place: Path, without: Collection[str] = ()) -> str:
        """How a place differs from an undisturbed run, fields of that name apart; empty: not at all."""
        left, expected = content(place, without), content(self.clean, without) if without else self.expected
        if orphans := [name for name in left if name.endswith(ORPHANS)]:
            return f"orphans stay: {orphans}"
        if odd := [name for name in left.keys() | expected.keys() if left.get(name) != expected.get(name)]:
            return f"{len(odd)} files differ from a clean run's: {sorted(odd)[:3]}"
        return ""


def _become(words: list[str], place: Path, log: Path, setup: Callable[[], object]) -> None:
    """In the forked process: the command, as a shell would have started it."""
    status = 70
    try:
        os.environ.update(HARNESS_HOME=str(place / "home"))
        for number, end in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(log.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        setup()
        from harness.cli.main import main

        main(words)
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def one_sentence(ended: Ended, status: int = 2) -> str:
    """What is wrong with how a command gave up; empty where it did so with that status and one clear sentence."""
    lines = [line for line in ended.err.splitlines() if line.startswith("harness: ")]
    if ended.status != status or len(lines) != 1 or "Traceback" in ended.err:
        return f"it ended with {ended.status} and not with one sentence: {ended.err[-400:]}"
    return ""


def content(place: Path, without: Collection[str] = ()) -> dict[str, bytes]:
    """Every file below a place but logs; without what tells of the run and not of its outcome, and without these fields
    of JSON."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file() and not PRIVATE & {*path.parts}):
        data = path.read_bytes()
        if path.suffix == ".json":
            data = json.dumps(_outcome(json.loads(data), without), sort_keys=True).encode()
        found[str(path.relative_to(place))] = data
    return found


def _outcome(fields: dict[str, object], without: Collection[str]) -> dict[str, object]:
    for field in ("command", "seconds", "checksum", *STATE, *without):
        fields.pop(field, None)
    if isinstance(manifest := fields.get("manifest"), dict):
        manifest.pop("run", None)
    return fields


def _packed(root: Path) -> Path:
    """A dataset whose corpus and queries are gzipped."""
    folder = write_dataset(root / "set4", 4, 70)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes(), mtime=0))
        (folder / name).unlink()
    return folder


def _in_shards(folder: Path) -> Path:
    """Alters every 70th document so that it ends its shard (`BOUNDARY_INTERVAL`): small corpora have
    several."""
    lines = []
    for number, line in enumerate((folder / "corpus.jsonl").read_text().splitlines()):
        record = json.loads(line)
        if number % 70 == 69:
            record["text"] = next(
                text
                for text in (f"{record['text']} {n}" for n in range(100_000))
                if zlib.crc32(text.encode()) % 1024 == 0
            )
        lines.append(json.dumps(record) + "\n")
    (folder / "corpus.jsonl").write_text("".join(lines))
    return folder
