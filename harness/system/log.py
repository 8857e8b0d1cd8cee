"""Log entries about cells (see `harness.system.log_file`).

Trade-off accepted: entries that cannot be written (a full disk) are dropped, and the run continues.
"""

from __future__ import annotations

import logging
from typing import Any

logging.raiseExceptions = False
NOTE = "note: "
"""A `Progress` description with this prefix is a sentence for the user, not a task."""
_LOG = logging.getLogger("harness")
_LOG.addHandler(logging.NullHandler())


def note(event: str, **fields: Any) -> None:
    """Logs an event with further fields, which must be JSON values."""
    _LOG.info(event, extra=fields)
