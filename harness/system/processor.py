"""Processor cores that this process may use, and whether it got them. Only Linux tells; elsewhere every core counts."""

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
    """The number of physical cores within the quota of the control group (version 2), at least 1.

    ``root`` is the folder that holds /sys and /proc.
    """
    places = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cpus = root / "sys/devices/system/cpu"
    cores = {_read(cpus / f"cpu{place}/topology/thread_siblings_list") or str(place) for place in places}
    quota = _quota(root)
    return max(1, min(len(cores), ceil(quota)) if quota else len(cores))


MIN_SHARE = 0.9
"""The share of its runnable time that a process gets if the machine counts as idle."""


def threads() -> int:
    """The number of threads of numeric libraries: OMP_NUM_THREADS, or else `cores`."""
    with suppress(ValueError):
        return int(os.environ["OMP_NUM_THREADS"]) if "OMP_NUM_THREADS" in os.environ else cores()
    return cores()


@dataclass(slots=True)
class Watch:
    """The finding of `watching`."""

    busy: bool = False


@contextmanager
def watching() -> Iterator[Watch]:
    """Sets ``busy``, at the end of the block, if other processes used the processor.

    That is if this process ran for less than `MIN_SHARE` of the time in which its threads ran or waited for a core
    (not on Linux: of the wall time).
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
    watch.busy = ran < MIN_SHARE * (ran + waited)


def _scheduled(folder: Path = Path("/proc/self/task")) -> dict[str, tuple[int, int]]:
    """Thread -> nanoseconds for which it ran and for which it waited for a core; {} if the system does not tell."""
    found = {}
    for place in folder.glob("*/schedstat"):
        with suppress(ValueError, IndexError):  # the thread has ended
            ran, waited = _read(place).split()[:2]
            found[place.parent.name] = int(ran), int(waited)
    return found


def _quota(root: Path) -> float:
    """The quota of the process's control group and its parents, in cores; 0 means no limit."""
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
