"""What is done to the suite, kind by kind. Each takes a random source of its own and an empty place, and says in words
what was lost; an empty string means that the suite survived."""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.robustness.faults import damage, odd_kinds, ray_kinds, shim, swaps, training_kinds
from tests.robustness.faults.suite import Skipped, Suite, Verdict, one_sentence

Work = Callable[[Suite, random.Random, Path], Verdict]


def kill_at_a_moment(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """SIGKILL at a random moment; now and then the rerun is killed too, and again."""
    kills = 0
    while True:
        process = suite.start(place)
        time.sleep(chance.uniform(0, suite.seconds * 1.1))
        process.send(signal.SIGKILL)
        kills += process.wait().status == -signal.SIGKILL
        if chance.random() < 0.7:
            return Verdict(suite.recovers(place), kills)


def kill_at_a_call(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """SIGKILL before, within or after the n-th call that changes a file: what a moment hits too seldom."""
    kills, most = 0, suite_calls(suite)
    while True:
        mode = chance.choice([shim.Mode.KILL_BEFORE, shim.Mode.KILL_WITHIN, shim.Mode.KILL_AFTER])
        ended = suite.start(place, setup=shim.arm(place, mode, chance.randint(1, most))).wait()
        if ended.status not in (0, -signal.SIGKILL):
            return Verdict(f"it ended with {ended.status}: {ended.err[-400:]}", kills)
        kills += ended.status != 0
        if chance.random() < 0.7:
            return Verdict(suite.recovers(place), kills)


_CALLS: dict[Path, int] = {}


def suite_calls(suite: Suite) -> int:
    """Calls that change a file in an undisturbed run."""
    if not shim.present():
        raise Skipped("there is no C compiler for the library that counts calls")
    if suite.root not in _CALLS:
        place, note = suite.root / "counted", suite.root / "calls"

        def setup() -> None:
            shim.arm(place, shim.Mode.COUNT_ONLY, 0)()
            leave = os._exit

            def counted(status: int) -> None:
                note.write_text(str(shim.calls()))
                leave(status)

            os._exit = counted  # type: ignore[assignment]

        assert suite.start(place, setup=setup).wait().status == 0
        _CALLS[suite.root] = int(note.read_text())
        shutil.rmtree(place)
    return _CALLS[suite.root]


def refused_writes(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """The n-th write, fsync, rename, mkdir or creation fails: once, or it and all that follow."""
    most = suite_calls(suite)
    mode = chance.choice([shim.Mode.FAIL_ONCE, shim.Mode.FAIL_FROM_HERE])
    number = chance.choice([errno.ENOSPC, errno.ENOSPC, errno.EDQUOT, errno.EIO])
    ended = suite.start(place, setup=shim.arm(place, mode, chance.randint(1, most), number)).wait()
    wrong = one_sentence(ended) if ended.status else ""
    return Verdict(wrong or suite.recovers(place), int(ended.status != 0))


def small_disk(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A disk of a random size that is too small, then room is made."""
    size = sum(path.stat().st_size for path in suite.clean.rglob("*"))
    pages = max(2, int(chance.uniform(0, 1.2 * size) / 4096))
    place.mkdir(parents=True)
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={4 * pages}k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True).returncode:
        raise Skipped("no disk can be mounted here")
    try:
        ended = suite.start(place).wait()
        wrong = one_sentence(ended) if ended.status else ""
        orphans = [path.name for path in place.rglob(".*") if path.suffix == ".tmp"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        wrong = wrong or (f"orphans stay: {orphans}" if orphans else "") or suite.recovers(place)
        return Verdict(wrong, int(ended.status != 0))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def clock_jumps(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """The wall clock goes to and fro by seconds or years; stored files are from the future or from 1970."""
    if not shim.present():
        raise Skipped("there is no C compiler for the library that moves the clock")
    far = [chance.choice([-1, 1]) * 10 ** chance.uniform(0, 9) for _ in range(2)]
    setup = shim.clock(far[0], far[1], chance.randint(1, 200))
    process = suite.start(place, setup=setup)
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, suite.seconds))
        process.send(signal.SIGKILL)
    ended = process.wait()
    if ended.status not in (0, -signal.SIGKILL):
        return Verdict(f"it ended with {ended.status}: {ended.err[-400:]}")
    for path in place.rglob("*"):
        if chance.random() < 0.3:
            os.utime(path, times=(when := chance.choice([0, 4e9, time.time() + 60]), when))
    if chance.random() < 0.5:
        ended = suite.start(place, setup=shim.clock(far[1], far[0], chance.randint(1, 200))).wait()
        if ended.status:
            return Verdict(f"it ended with {ended.status}: {ended.err[-400:]}")
    return Verdict(suite.recovers(place))


def crowd(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """Eight processes on one store at once, some of them killed."""
    processes = []
    for _ in range(8):
        processes.append(suite.start(place))
        time.sleep(chance.choice([0.0, chance.uniform(0, suite.seconds / 4)]))
    killed = chance.sample(processes, chance.choice([0, 0, 1, 4]))
    for process in killed:
        time.sleep(chance.uniform(0, suite.seconds / 2))
        process.send(signal.SIGKILL)
    for process in processes:
        ended = process.wait(120)
        if ended.status and not (process in killed and ended.status == -signal.SIGKILL):
            return Verdict(f"one of the eight ended with {ended.status}: {ended.err[-400:]}")
    return Verdict(suite.recovers(place) if killed else suite.differs(place) or suite.recovers(place))


def another_version() -> None:
    """For `Suite.start`: this program as another version of itself, with results and numbers of another kind."""
    from harness.evaluation import cells, record
    from harness.results import schema

    cells.REVISION += 1
    schema.SCHEMA += 1
    record.SCHEMA = schema.SCHEMA


def versions(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """Two versions of the program take turns on one store, or use it at once; one may be killed."""
    processes = []
    for number in range(chance.randint(2, 4)):
        setup = another_version if number % 2 == 0 else (lambda: None)
        processes.append(suite.start(place, setup=setup))
        if chance.random() < 0.5:
            ended = processes[-1].wait()
            if ended.status:
                return Verdict(f"version {number % 2} ended with {ended.status}: {ended.err[-400:]}")
            processes.pop()
    killed = chance.random() < 0.3
    for process in processes:
        if killed:
            time.sleep(chance.uniform(0, suite.seconds / 2))
            process.send(signal.SIGKILL)
        ended = process.wait()
        if ended.status not in (0, -signal.SIGKILL if killed else 0):
            return Verdict(f"one of two at once ended with {ended.status}: {ended.err[-400:]}")
    return Verdict(suite.recovers(place))


_OLDER: dict[Path, Path] = {}


def older_program(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """The program as it was at another commit, before or beside this one, on one store."""
    if suite.root not in _OLDER:
        root = Path(__file__).resolve().parents[3]
        folder = suite.root / "older"
        folder.mkdir()
        archive = subprocess.run(["git", "-C", str(root), "archive", OLDER_COMMIT], capture_output=True)
        if archive.returncode:
            raise Skipped(f"the commit {OLDER_COMMIT} is not in this copy of the repository")
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        _OLDER[suite.root] = folder
    words = [sys.executable, "-m", "harness", *suite.words(place), "--plugin", str(suite.plugin)]
    environment = {**os.environ, "PYTHONPATH": str(_OLDER[suite.root]), "HARNESS_HOME": str(place / "home")}
    if (before := chance.random() < 0.3) and (wrong := suite.recovers(place)):
        return Verdict(wrong)
    log = suite.root / f"older-{place.name}.err"
    with log.open("w") as errors:
        older = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
    if not before and chance.random() < 0.6:
        time.sleep(chance.uniform(0, 2.5))
        if (ended := suite.start(place).wait()).status:
            older.kill()
            return Verdict(f"beside an older one it ended with {ended.status}: {ended.err[-400:]}")
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 1.5))
        older.kill()
    if older.wait() not in (0, -signal.SIGKILL):
        return Verdict(f"the older one ended with {older.returncode}: {log.read_text()[-400:]}")
    return Verdict(suite.recovers(place, without=("owner",)))  # which shards of the older one do not state


OLDER_COMMIT = "4af2b97"


def workers_killed(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """``--executor processes``: workers are killed while their parent works, now and then the parent too."""
    if importlib.util.find_spec("harness.distributed.executor") is None:
        raise Skipped("this version has no --executor")
    words = ("--executor", "processes", "--workers", "2")
    process, kills = suite.start(place, *words), 0
    for _ in range(chance.randint(1, 2)):
        time.sleep(chance.uniform(0.1, 3))
        if children := _children(process.pid):
            os.kill(chance.choice(children), signal.SIGKILL)
            kills += 1
    if chance.random() < 0.3:
        process.send(signal.SIGKILL)
    ended = process.wait(120)
    if ended.status not in (0, 1, -signal.SIGKILL) or "Traceback" in ended.err:
        return Verdict(f"it ended with {ended.status}: {ended.err[-400:]}", kills)
    return Verdict(suite.recovers(place, *(words if chance.random() < 0.5 else ())), kills)


def _children(pid: int) -> list[int]:
    """Processes that a process has started and that live."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


class Kind(NamedTuple):
    """One kind of fault."""

    work: Work
    share: int
    """Cases for every 1,000 kills."""


def flipped(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """One bit of one stored file."""
    return Verdict(damage.case(suite, chance, place, damage.flip))


def torn(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """One stored file cut short, emptied, its end zeros or twice."""
    return Verdict(damage.case(suite, chance, place, damage.tear))


KINDS: dict[str, Kind] = {
    "kill at a moment": Kind(kill_at_a_moment, 500),
    "kill at a call": Kind(kill_at_a_call, 500),
    "refused write": Kind(refused_writes, 200),
    "small disk": Kind(small_disk, 60),
    "flipped bit": Kind(flipped, 300),
    "torn file": Kind(torn, 200),
    "swapped records": Kind(swaps.swapped, 200),
    "replaced corpus": Kind(swaps.replaced, 100),
    "clock jump": Kind(clock_jumps, 100),
    "8 processes": Kind(crowd, 25),
    "two versions": Kind(versions, 60),
    "older program": Kind(older_program, 12),
    "workers killed": Kind(workers_killed, 30),
    "ray workers killed": Kind(ray_kinds.ray_workers_killed, 30),
    "ray nodes killed": Kind(ray_kinds.ray_nodes_killed, 30),
    "ray head killed": Kind(ray_kinds.ray_head_killed, 10),
    "link cut": Kind(ray_kinds.link_cut, 30),
}
KINDS |= {kind: Kind(*entry) for kind, entry in (odd_kinds.WORK | training_kinds.WORK).items()}
