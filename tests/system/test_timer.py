"""Time goes to the innermost phase, once."""

from __future__ import annotations

import time

import pytest

from harness.system.timer import Clock


def test_a_phase_inside_another_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()

    def items():
        for item in "ab":
            now[0] += 3
            yield item

    with clock.timed("measure"):
        now[0] += 1
        for _ in clock.timed_each("search", items()):
            now[0] += 10
    clock.add("search", 0.5)
    assert clock.seconds == {"search": 6.5, "measure": 21.0}


def test_a_phase_that_fails_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="x"), clock.timed("work"):
        raise ValueError("x")
    assert set(clock.seconds) == {"work"}


def test_a_part_of_the_work_is_counted_in_the_whole_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    inner = (part := clock.part("outer")).part("inner")

    def items(own: Clock, seconds: float, below=()):
        for _ in range(2):
            for each in below:
                next(each)
            now[0] += seconds
            yield "x"

    lowest = inner.timed_each("search", items(inner, 1))
    middle = part.timed_each("fuse", items(part, 10, [lowest]))
    with clock.timed("measure"):
        for _ in clock.timed_each("rerank", items(clock, 100, [middle])):
            now[0] += 1000
    inner.add("index", 5)
    assert clock.seconds == {
        "outer/inner/search": 2,
        "outer/search": 2,
        "search": 2,
        "outer/fuse": 20,
        "fuse": 20,
        "rerank": 200,
        "measure": 2000,
        "outer/inner/index": 5,
        "outer/index": 5,
        "index": 5,
    }
    assert sum(spent for phase, spent in clock.seconds.items() if "/" not in phase) == now[0] + 5
