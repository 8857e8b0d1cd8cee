"""A node of a Ray cluster in a network namespace: another machine as far as the network is concerned, with a link to
this one that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.robustness.faults.ray_cluster import LONGEST, ROOT, STORE, RayCluster, kill
from tests.robustness.faults.suite import Skipped


def _ip(*words: str) -> str:
    """What the command says. Skipped where it cannot be done."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"no network namespace can be made here ({done.stderr.strip()[:200]})")
    return done.stdout


class Link:
    """A namespace and the pair of interfaces that joins it to this one."""

    def __init__(self) -> None:
        """Skipped where none can be made."""
        if shutil.which("ip") is None:
            raise Skipped("there is no `ip` (iproute2) to make a network namespace with")
        self.name, number = f"faults-{os.getpid()}", 4 * (os.getpid() % 16384)
        self._near, self._far = f"fn{os.getpid()}", f"ff{os.getpid()}"
        block = f"198.18.{number >> 8}.{number & 255}"  # 198.18.0.0/15 is for benchmarks of networks (RFC 2544)
        self.here, self.there = (f"{block.rpartition('.')[0]}.{(number & 255) + end}" for end in (1, 2))
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
            _ip("addr", "add", f"{self.here}/30", "dev", self._near)
            _ip("link", "set", self._near, "up")
            _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", self._far)
            _ip("-n", self.name, "link", "set", "lo", "up")
            self.set("up")
        except Skipped:
            self.close()
            raise

    def set(self, state: str) -> None:
        """``up`` or ``down``."""
        _ip("-n", self.name, "link", "set", self._far, state)

    def processes(self) -> list[int]:
        """All within."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def close(self) -> None:
        """Removes it, and whatever runs within."""
        with suppress(Skipped):
            kill(self.processes())
        for words in (["link", "del", self._near], ["netns", "del", self.name]):  # the latter alone takes its time
            subprocess.run(["ip", *words], capture_output=True)


class FarNode:
    """A node at the far end of a link. At most one at a time."""

    def __init__(self, cluster: RayCluster, link: Link, log: Path) -> None:
        self.cluster, self.link, self.log = cluster, link, log
        self._process: subprocess.Popen[bytes] | None = None

    def mend(self) -> None:
        """The link up, and a node alive at its end: the same, if it has survived. RuntimeError where none comes."""
        self.link.set("up")
        if self._process is not None and self._process.poll() is None and int(self.cluster.ask("alive")) == 2:
            return
        self.lose()
        self.cluster.await_nodes(1)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
        command += ["--address", self.cluster.address, "--node-ip-address", self.link.there]
        command += ["--object-store-memory", str(STORE)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.link.name, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.cluster.environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self.cluster.await_nodes(2)

    def lose(self) -> None:
        """Everything within dies: a machine that is never heard of again."""
        end = time.monotonic() + LONGEST
        while (pids := self.link.processes()) and time.monotonic() < end:
            kill(pids)
            time.sleep(0.05)
        if self._process is not None:
            self._process.wait()
            self._process = None
