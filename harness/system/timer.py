"""Seconds per phase of a piece of work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    """Sums the time spent in each phase. The time of a phase inside another is not counted in the outer one."""

    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[tuple[Clock, str]] = field(default_factory=list)
    _whole: tuple[Clock, str] | None = None

    def part(self, name: str) -> Clock:
        """A clock for a part of the work. Its phases are counted here too, both as ``phase`` and as ``name/phase``."""
        return Clock(_open=self._open, _whole=(self, name))

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds the time spent in the block to the phase."""
        outer = self._open[-1] if self._open else None
        self._open.append((self, phase))
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._open.pop()
            self.add(phase, spent)
            if outer is not None:
                outer[0].add(outer[1], -spent)

    def timed_each(self, phase: str, items: Iterator[T]) -> Iterator[T]:
        """Yields the items and adds the time spent producing them to the phase."""
        done = object()
        while True:
            with self.timed(phase):
                item = next(items, done)
            if item is done:
                return
            yield item  # type: ignore[misc]

    def add(self, phase: str, spent: float) -> None:
        """Adds seconds that were measured elsewhere."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + spent
        if self._whole is not None:
            whole, part = self._whole
            whole.add(f"{part}/{phase}", spent)
            if "/" not in phase:
                whole.add(phase, spent)
