"""The share of the machine's processor that this process may use. Linux tells; elsewhere every core counts."""

from __future__ import annotations

import os
from contextlib import suppress
from math import ceil
from pathlib import Path


def physical_cores(root: Path = Path("/")) -> int:
    """Cores, each counted once however many threads it runs at a time, within the control group's quota (version 2).

    ``root`` is where /sys and /proc are. At least 1.
    """
    places = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cpus = root / "sys/devices/system/cpu"
    cores = {_read(cpus / f"cpu{place}/topology/thread_siblings_list") or str(place) for place in places}
    quota = _quota(root)
    return max(1, min(len(cores), ceil(quota)) if quota else len(cores))


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
