"""What is done to a suite on a Ray cluster: workers killed, nodes lost, a link cut.

The command has to end with the results of an undisturbed run in one process, or to say in words what is left to do; it
is then run again, by the cluster as it is or in one process.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.robustness.faults.far_node import FarNode, Link
from tests.robustness.faults.ray_cluster import RayCluster, kill, workers
from tests.robustness.faults.suite import (
    MODELS,
    ORPHANS,
    Ended,
    Running,
    Skipped,
    Suite,
    Verdict,
    content,
    one_sentence,
)

SLOW = "toy:pause=0.2"
"""A model that takes its time, without which there is hardly a moment in which to strike."""
PATIENCE = 150.0
REST_SECONDS = 15.0
"""Within which the workers of a command that has ended are gone."""
ACTOR = "ray::_Actor"


class Field:
    """A suite on a cluster, and how long it takes there."""

    def __init__(self, suite: Suite, cluster: RayCluster) -> None:
        self.suite, self.cluster = suite, cluster
        self.words = ("--executor", "ray", "--address", cluster.address)
        self.seconds, self.work = 10.0, 5.0

    def measure(self) -> None:
        """Runs the command undisturbed."""
        place, start = self.suite.root / "undisturbed", time.monotonic()
        process = self.suite.start(place, *self.words)
        before = self._await_worker(place, process)
        ended = process.wait(PATIENCE)
        self.seconds = time.monotonic() - start
        self.work = self.seconds - before
        wrong = _lost(self.suite, place)
        assert ended.status == 0, ended.err
        assert not wrong, wrong
        shutil.rmtree(place)

    def _await_worker(self, place: Path, process: Running) -> float:
        """The seconds until a worker is ready, or the command ends."""
        log, start = place / "home" / "logs" / "benchmark.jsonl", time.monotonic()
        while not (log.exists() and "worker ready" in log.read_text()) and under_way(process):
            time.sleep(0.01)
        return time.monotonic() - start

    def await_moment(self, chance: random.Random, place: Path, process: Running) -> bool:
        """A random moment, mostly one when somebody is at work; whether the command is still under way then."""
        if chance.random() < 0.75:
            self._await_worker(place, process)
            time.sleep(chance.uniform(0, self.work))
        else:
            time.sleep(chance.uniform(0, self.seconds))
        return under_way(process)

    def rest(self) -> None:
        """Returns when no worker is at work any more; one that does not see that its command has ended is killed."""
        end = time.monotonic() + REST_SECONDS
        while (left := workers(os.getpid(), ACTOR)) and time.monotonic() < end:
            time.sleep(0.05)
        kill(left)

    def judge(self, chance: random.Random, place: Path, ended: Ended, faults: int, *, lost: bool = False) -> Verdict:
        """What came of it: of the command itself, then of its rerun, which goes without a cluster that is ``lost``."""
        self.rest()
        wrong = ""
        if ended.status == 0:
            wrong = _lost(self.suite, place) or _garbled(ended.out)
        elif ended.status != -signal.SIGKILL and not (ended.status == 1 and "failed: " in ended.err):
            wrong = one_sentence(ended, max(1, ended.status))
        if "Traceback" in ended.err:
            wrong = f"it ended with {ended.status}: {ended.err[-400:]}"
        again = self.words if ended.status and chance.random() < 0.5 and not lost else ()
        wrong = wrong or self.suite.recovers(place, *again)
        self.rest()
        shutil.rmtree(self.suite.root / "logs")
        return Verdict(wrong, faults)


def under_way(process: Running) -> bool:
    """Whether the command has not ended yet."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _lost(suite: Suite, place: Path) -> str:
    """How a place differs from an undisturbed run, but for what the killed leave behind and a rerun sweeps away."""
    left = {name: data for name, data in content(place).items() if not name.endswith(ORPHANS)}
    odd = [name for name in left.keys() | suite.expected.keys() if left.get(name) != suite.expected.get(name)]
    return f"without a rerun {len(odd)} files differ from a clean run's: {sorted(odd)[:3]}" if odd else ""


def _garbled(out: str) -> str:
    try:
        json.loads(out)
    except ValueError:
        return f"its output is not JSON: {out[:200]}"
    return ""


_FIELDS: dict[str, tuple[Field, FarNode | None]] = {}
_OPEN = ExitStack()
"""The one cluster there is."""


def _field(suite: Suite, kind: str, make: Callable[[Suite, Path], tuple[Field, FarNode | None]]) -> Field:
    """That of the kind, which ends any other. Skipped where it cannot be."""
    if kind not in _FIELDS:
        if importlib.util.find_spec("ray") is None:
            raise Skipped("Ray is not installed (the ray extra)")
        _OPEN.close()
        _FIELDS.clear()
        atexit.register(_OPEN.close)
        root = suite.root / kind
        root.mkdir(exist_ok=True)
        _FIELDS[kind] = make(Suite(root, (*MODELS, SLOW)), root / "ray.log")
    return _FIELDS[kind][0]


def _several(suite: Suite, log: Path) -> tuple[Field, None]:
    """A cluster of three nodes."""
    cluster = RayCluster(log)
    _OPEN.callback(cluster.close)
    cluster.ask("mend", 2)
    field = Field(suite, cluster)
    field.measure()
    return field, None


def _linked(suite: Suite, log: Path) -> tuple[Field, FarNode]:
    """A cluster of two nodes, one of them behind a link."""
    link = Link()
    _OPEN.callback(link.close)
    cluster = RayCluster(log, link.here)
    _OPEN.callback(cluster.close)
    far = FarNode(cluster, link, log)
    _OPEN.callback(far.lose)
    far.mend()
    field = Field(suite, cluster)
    field.measure()
    return field, far


def ray_workers_killed(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """SIGKILL of random workers of a Ray cluster, now and then of the command too."""
    field, kills = _field(suite, "several", _several), 0
    field.cluster.ask("mend", 2)
    process = field.suite.start(place, *field.words)
    for _ in range(chance.randint(1, 3)):
        if field.await_moment(chance, place, process):
            victims = workers(os.getpid(), ACTOR) or workers(os.getpid())
            kill([chance.choice(victims)] if victims else [])
            kills += bool(victims)
    if chance.random() < 0.2:
        process.send(signal.SIGKILL)
    return field.judge(chance, place, process.wait(PATIENCE), kills)


def ray_nodes_killed(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """Whole nodes lost at a stroke, others added, while the suite runs."""
    field, losses, nodes = _field(suite, "several", _several), 0, 2
    field.cluster.ask("mend", nodes)
    process = field.suite.start(place, *field.words)
    for _ in range(chance.randint(1, 3)):
        loses, rank = nodes > 0 and chance.random() < 0.7, chance.random()
        if field.await_moment(chance, place, process):
            field.cluster.ask("remove" if loses else "add", rank)
            nodes += -1 if loses else 1
            losses += loses
    return field.judge(chance, place, process.wait(PATIENCE), losses)


def ray_head_killed(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """The node that holds the cluster together lost at a stroke, and so the cluster."""
    field = _field(suite, "several", _several)
    field.cluster.ask("mend", 2)
    process = field.suite.start(place, *field.words)
    struck = field.await_moment(chance, place, process)
    field.cluster.ask("behead")
    verdict = field.judge(chance, place, process.wait(PATIENCE), int(struck), lost=True)
    _OPEN.close()
    _FIELDS.clear()
    return verdict


def link_cut(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """The link to a node goes down: for good, for a moment, or for so long that the node counts as lost meanwhile."""
    field = _field(suite, "linked", _linked)
    far = _FIELDS["linked"][1]
    assert far is not None
    far.mend()
    process = field.suite.start(place, *field.words)
    struck = field.await_moment(chance, place, process)
    far.link.set("down")
    for_good, seconds = chance.random() < 0.4, chance.uniform(0.2, 8)
    if not for_good:
        time.sleep(seconds)
        far.link.set("up")
    ended = process.wait(PATIENCE)
    if for_good:
        far.lose()
    return field.judge(chance, place, ended, int(struck))
