"""Cores, threads and load of synthetic machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.system import processor
from harness.system.processor import physical_cores, threads, watching


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
    from harness_plugins.model_folder import load

    set_to = [5]
    monkeypatch.setattr(torch, "get_num_threads", lambda: set_to[-1])
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(load, "physical_cores", lambda: 3)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    load.limit_threads()
    assert set_to[-1] == threads
    monkeypatch.setattr(load, "physical_cores", lambda: 64)
    load.limit_threads()
    assert set_to[-1] == threads  # never more


def scheduled(root: Path, **times: tuple[int, int]) -> None:
    for thread, (ran, waited) in times.items():
        (root / thread).mkdir(parents=True, exist_ok=True)
        (root / thread / "schedstat").write_text(f"{ran} {waited} 9\n")


@pytest.mark.parametrize(
    ("after", "busy"),
    [
        ({"1": (1500, 1000)}, False),  # it had waited before
        ({"1": (1500, 1040)}, False),
        ({"1": (1500, 1060)}, True),
        ({"1": (1500, 1000), "2": (100, 900)}, True),
        ({"1": (1500, 1000), "2": (1000, 10)}, False),
    ],
)
def test_a_process_that_waits_for_a_core_is_on_a_busy_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: dict[str, tuple[int, int]], busy: bool
) -> None:
    read = processor._scheduled
    monkeypatch.setattr(processor, "_scheduled", lambda: read(tmp_path))
    scheduled(tmp_path, **{"1": (1000, 1000)})
    with watching() as watch:
        scheduled(tmp_path, **after)
    assert watch.busy is busy


@pytest.mark.parametrize(("used", "busy"), [(0.95, False), (0.85, True), (1.9, False)])
def test_where_the_system_says_nothing_of_threads_the_wall_time_counts(
    monkeypatch: pytest.MonkeyPatch, used: float, busy: bool
) -> None:
    monkeypatch.setattr(processor, "_scheduled", dict)
    monkeypatch.setattr(processor.time, "perf_counter", iter([10.0, 11.0]).__next__)
    monkeypatch.setattr(processor.time, "process_time", iter([5.0, 5.0 + used]).__next__)
    with watching() as watch:
        pass
    assert watch.busy is busy


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "cores", lambda: 12)
    for stated, count in ((None, 12), ("3", 3), ("many", 12)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if stated:
            monkeypatch.setenv("OMP_NUM_THREADS", stated)
        assert threads() == count
