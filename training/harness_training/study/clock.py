"""How long each stage of a study took, counted over interruptions: written every few seconds while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from harness.storage.atomic import write_json
from harness.storage.safe_load import read_json
from harness.types import UserError

EVERY = 2.0
"""Seconds between two entries: what a killed process loses."""


class StageClock:
    """Seconds of each stage, kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds: dict[str, float] = {}
        with suppress(OSError, ValueError, AttributeError):
            self.seconds = {str(name): float(value) for name, value in read_json(file).items()}

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        before, start, stopped = self.seconds.get(stage, 0.0), time.monotonic(), Event()

        def save() -> None:
            self.seconds[stage] = round(before + time.monotonic() - start, 2)
            with suppress(OSError, UserError):
                write_json(self._file, self.seconds)

        def beat() -> None:
            while not stopped.wait(EVERY):
                save()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            save()
