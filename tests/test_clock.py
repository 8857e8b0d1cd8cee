"""Time goes to the innermost phase, once."""

from __future__ import annotations

import time

import pytest

from harness.clock import Clock


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
