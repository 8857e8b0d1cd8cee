"""The log file: one JSON object a line, with time, level, event and further fields."""

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
"""Size at which the file rotates, and how many old files are kept."""
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message"}


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname, "event": record.getMessage()}
        more = {name: value for name, value in vars(record).items() if name not in _USUAL}
        return json.dumps(entry | more, ensure_ascii=False, default=str)


@contextmanager
def log_to_file(file: Path) -> Iterator[None]:
    """Writes log entries with all their fields (``extra``) into the file while the block runs.

    Raises:
        UserError: If it cannot be written.
    """
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_fifo():  # opening a pipe that nobody reads would block: this raises
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        handler = RotatingFileHandler(file, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8")
    handler.setFormatter(_Line())
    log = logging.getLogger("harness")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False  # stderr is for progress and notes
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
        handler.close()
