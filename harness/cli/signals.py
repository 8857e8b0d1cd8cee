"""Signals that end a command: cleanly the first time, at once the second."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Raised by the first signal, so that the command cleans up before it ends."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def ending_at_once() -> None:
    """Makes each of `ENDING` end the process with one sentence, while no command runs.

    A signal that is ignored (nohup, a job in the background) stays ignored.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, b"harness: Interrupted; finished work is kept, and the same command resumes from there.\n")
        os._exit(128 + number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


@contextmanager
def stopping() -> Iterator[None]:
    """The first of `ENDING` raises `Stopped`, the second ends the process at once.

    A signal that is ignored (nohup, a job in the background) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os.write(2, b"harness: Stopped at once; what was finished is kept.\n")
            os._exit(128 + number)
        asked = True
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ENDING if not asked else ():  # else the interpreter is on its way out, and may be cut short
            signal.signal(number, before[number])
