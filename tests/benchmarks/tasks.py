"""Competitors of a few lines, for the driver's tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np


class Diary:
    """Records its start and end and sleeps in between."""

    def __init__(self, name: str, diary: str, seconds: float = 0.01, value: float = 1.0) -> None:
        self.name, self.diary, self.seconds, self.value = name, diary, seconds, value
        self.note = f"{os.environ['OMP_NUM_THREADS']} thread"

    def _write(self, text: str) -> None:
        with Path(self.diary).open("a") as stream:
            stream.write(f"{text} {self.name}\n")

    def ready(self) -> None:
        self._write("ready")

    def warm(self) -> None:
        self._write("warm")

    def work(self) -> dict[str, Any]:
        self._write("begin")
        print("this must not reach the driver as an answer")
        time.sleep(self.seconds)
        self._write("end")
        return {"value": np.full(3, self.value)}


class Hungry:
    """Allocates memory while loading, and more while working, which it frees."""

    def __init__(self, load: int, work: int) -> None:
        self.kept, self.extra = np.ones(load, np.uint8), work

    def work(self) -> None:
        np.ones(self.extra, np.uint8).sum()


class Broken:
    """Fails in the given phase."""

    def __init__(self, where: str) -> None:
        self.where, self.rounds = where, 0
        self._fail("load")

    def warm(self) -> None:
        self._fail("warm")

    def work(self) -> None:
        self.rounds += 1
        if self.rounds == 2:
            self._fail("second round")
            if self.where == "death":
                os._exit(7)

    def _fail(self, here: str) -> None:
        if self.where == here:
            raise ValueError(f"no luck: {here}")


class Background:
    """A thread that counts while it runs."""

    def __init__(self, diary: str) -> None:
        import threading

        self.diary = Path(diary)
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            with self.diary.open("a") as stream:
                stream.write(f"{time.monotonic()}\n")
            time.sleep(0.005)

    def work(self) -> None:
        time.sleep(0.02)
