"""The log: one JSON object a line, what happened and when, for people and programs that look later."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from harness.storage.atomic import disk_errors

MOST_BYTES, KEPT = 10_000_000, 5
"""A file that has grown so large steps aside; so many old ones stay."""
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message"}


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "level": record.levelname, "event": record.getMessage()}
        more = {name: value for name, value in vars(record).items() if name not in _USUAL}
        return json.dumps(told | more, ensure_ascii=False, default=str)


@contextmanager
def journal(file: Path) -> Iterator[None]:
    """Writes what the harness logs into the file, whatever fields (``extra``) it comes with, while the block runs.

    UserError where it cannot be written.
    """
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_fifo():  # which nobody may read: opening it would wait for a reader
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        handler = RotatingFileHandler(file, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8")
    handler.setFormatter(_Line())
    log = logging.getLogger("harness")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False  # lines on stderr are progress and notes, not this
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
        handler.close()
