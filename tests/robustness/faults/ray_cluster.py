"""A Ray cluster of several nodes on this machine, held by a process of its own: the campaign forks, and must have no
threads, which Ray starts. It ends with the campaign, however that ends: its standard input does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.robustness.faults.suite import Skipped

ROOT = Path(__file__).resolve().parents[3]
STORE = 80 << 20
"""Bytes of a node's object store: the least Ray allows, about."""
NODE = {"num_cpus": 1, "object_store_memory": STORE}
SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A node that is silent for some five seconds is lost."""
LONGEST = 60.0
"""Seconds after which a cluster that does not become what it should counts as broken."""


class RayCluster:
    """One node, to which others are added."""

    def __init__(self, log: Path, ip: str = "") -> None:
        """``ip``: of the first node, if not this machine's own. Skipped where no cluster can be had."""
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # here: sockets have short names
        self.log = log
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.robustness.faults.ray_cluster", ip],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                cwd=ROOT,
                text=True,
                start_new_session=True,
            )
        try:
            self.address = self._answer()
        except RuntimeError as error:
            self.close()
            raise Skipped(f"no Ray cluster starts here ({error})") from None

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: this tree, one thread each, and everything temporary in one folder."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        own = {"PYTHONPATH": path, "RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        return {**os.environ, **threads, **own}

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            told = self.log.read_text(errors="replace").strip().splitlines() or ["without a word"]
            raise RuntimeError(told[-1][:200])
        return line.strip()

    def ask(self, *words: object) -> str:
        """Has something done (`_obey`), and waits until it is."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def await_nodes(self, count: int) -> None:
        """Returns when so many live. RuntimeError where they do not."""
        end = time.monotonic() + LONGEST
        while (alive := int(self.ask("alive"))) != count:
            if time.monotonic() > end:
                raise RuntimeError(f"{alive} nodes live, and not {count}")
            time.sleep(0.1)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LONGEST)
        kill([*descendants(self._process.pid), self._process.pid] if self._process.poll() is None else [])
        shutil.rmtree(self.folder, ignore_errors=True)


def _parents() -> dict[int, int]:
    """Every process -> its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> list[int]:
    """Processes that a process, or one of these, has started and that live."""
    parents, family = _parents(), {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {pid})


def workers(pid: int, word: str = "ray::") -> list[int]:
    """Those among the descendants that are Ray's workers, by the title that Ray gives them."""
    found = []
    for child in descendants(pid):
        with suppress(OSError):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(word.encode()):
                found.append(child)
    return found


def kill(pids: list[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _fell(cluster: Any, node: Any) -> None:
    """A node and all its workers gone at a stroke, as when a machine loses power."""
    _strike(node)
    cluster.remove_node(node, allow_graceful=False)


def _strike(node: Any) -> None:
    for process in [one.process for many in node.all_processes.values() for one in many]:
        kill([*descendants(process.pid), process.pid])


def _obey(cluster: Any, word: str, number: float) -> object:
    nodes = sorted(cluster.worker_nodes, key=lambda node: str(node.unique_id))
    if word == "add":
        cluster.add_node(**NODE)
    elif word == "remove" and nodes:  # that of this rank, from 0 to 1
        _fell(cluster, nodes[int(number * len(nodes))])
    elif word == "behead":
        _strike(cluster.head_node)
        return 0
    elif word == "mend":  # so many besides the first, all of them alive
        for node in [node for node in nodes if node.dead_processes()] + nodes[int(number) :]:
            if node in cluster.worker_nodes:
                _fell(cluster, node)
        for _ in range(int(number) - len(cluster.worker_nodes)):
            cluster.add_node(**NODE)
        cluster.wait_for_nodes()
    return len(cluster.global_state._live_node_ids())


def _hold(ip: str) -> None:
    """Starts a cluster, says its address, and obeys, line by line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints
    from ray.cluster_utils import Cluster

    place = {"node_ip_address": ip} if ip else {}
    head = {**NODE, **place, "include_dashboard": False, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        print(cluster.address, file=answers, flush=True)
        for line in sys.stdin:
            word, _, number = line.strip().partition(" ")
            print(_obey(cluster, word, float(number or 0)), file=answers, flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _hold(sys.argv[1])
