"""How many threads are sensible, on machines that are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.processor import physical_cores


def machine(root: Path, siblings: list[str], quotas: dict[str, str], group: str = "/") -> Path:
    files = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": text for n, text in enumerate(siblings)}
    files |= {f"sys/fs/cgroup/{place}/cpu.max": text for place, text in quotas.items()}
    for name, text in {**files, "proc/self/cgroup": f"12:cpu:/old\n0::{group}\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


PAIRS = ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"]
"""Four cores with two threads each."""


@pytest.mark.parametrize(
    ("siblings", "places", "quotas", "group", "cores"),
    [
        (PAIRS, range(8), {}, "/", 4),
        (PAIRS, {0, 4}, {}, "/", 1),
        (PAIRS, {0, 1, 4}, {}, "/", 2),
        (["0", "1"], range(2), {"": "max 100000"}, "/", 2),
        (PAIRS, range(8), {"": "150000 100000"}, "/", 2),
        (PAIRS, range(8), {"": "10000 100000"}, "/", 1),
        (PAIRS, range(8), {"": "6400000 100000"}, "/", 4),
        (PAIRS, range(8), {"a/b": "max 100000", "a": "300000 100000", "other": "100000 100000"}, "/a/b", 3),
        ([], range(3), {}, "/", 3),
    ],
)
def test_one_thread_a_core_and_no_more_than_the_quota(
    siblings: list[str],
    places: set[int],
    quotas: dict[str, str],
    group: str,
    cores: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(places), raising=False)
    assert physical_cores(machine(tmp_path, siblings, quotas, group)) == cores


@pytest.mark.parametrize(("asked", "threads"), [("", 3), ("7", 5)])
def test_models_get_as_many_threads_unless_somebody_has_decided(
    asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="dense models need torch (the dense extra)")
    from plugins import opened

    set_to = [5]
    monkeypatch.setattr(torch, "get_num_threads", lambda: set_to[-1])
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(opened, "physical_cores", lambda: 3)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    opened.limit_threads()
    assert set_to[-1] == threads
    monkeypatch.setattr(opened, "physical_cores", lambda: 64)
    opened.limit_threads()
    assert set_to[-1] == threads  # never more
