"""The share of the machine's processor that this process may use, and that it got. Linux tells; elsewhere every core
counts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from harness.system.environment import cores


def physical_cores(root: Path = Path("/")) -> int:
    """Cores, each counted once however many threads it runs at a time, within the control group's quota (version 2).

    ``root`` is where /sys and /proc are. At least 1.
    """
    places = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cpus = root / "sys/devices/system/cpu"
    cores = {_read(cpus / f"cpu{place}/topology/thread_siblings_list") or str(place) for place in places}
    quota = _quota(root)
    return max(1, min(len(cores), ceil(quota)) if quota else len(cores))


LEAST_SHARE = 0.9
"""Of the time in which it could have worked that a process gets on a machine that counts as idle."""


def threads() -> int:
    """Threads of numeric libraries: OMP_NUM_THREADS, else one for every core that this process may use."""
    with suppress(ValueError):
        return int(os.environ["OMP_NUM_THREADS"]) if "OMP_NUM_THREADS" in os.environ else cores()
    return cores()


@dataclass(slots=True)
class Watch:
    """What `watching` found."""

    busy: bool = False


@contextmanager
def watching() -> Iterator[Watch]:
    """Tells, at the end of the block, whether other work took the processor: whether this process ran for less than
    `LEAST_SHARE` of the time in which its threads ran or waited for a core (elsewhere than on Linux: of the wall time).
    """
    watch, before, wall, used = Watch(), _scheduled(), time.perf_counter(), time.process_time()
    yield watch
    if after := _scheduled():
        grown = [
            [max(0, value - old) for value, old in zip(now, before.get(thread, (0, 0)), strict=True)]
            for thread, now in after.items()
        ]
        ran, waited = map(float, map(sum, zip(*grown, strict=True)))
    else:
        ran = time.process_time() - used
        waited = max(0.0, time.perf_counter() - wall - ran)
    watch.busy = ran < LEAST_SHARE * (ran + waited)


def _scheduled(folder: Path = Path("/proc/self/task")) -> dict[str, tuple[int, int]]:
    """Thread -> nanoseconds for which it ran and for which it waited for a core; {} where the system does not say."""
    found = {}
    for place in folder.glob("*/schedstat"):
        with suppress(ValueError, IndexError):  # the thread has ended
            ran, waited = _read(place).split()[:2]
            found[place.parent.name] = int(ran), int(waited)
    return found


def _quota(root: Path) -> float:
    """Processors' worth of time that the process's control group, and those it is in, leave it; 0: no limit."""
    top = root / "sys/fs/cgroup"
    own = next((line[3:] for line in _read(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    group = top / own.strip("/")
    found = []
    for place in (group, *group.parents):
        with suppress(ValueError):  # "max", or no such file
            most, period = map(float, _read(place / "cpu.max").split())
            found.append(most / period)
        if place == top:
            break
    return min(found, default=0.0)


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text().strip()
    return ""
