"""What happens to cells, for whoever keeps a log (`harness.system.log_file`).

Trade-off accepted: what cannot be written to it (a full disk) is not, and the work goes on.
"""

from __future__ import annotations

import logging
from typing import Any

logging.raiseExceptions = False
NOTE = "note: "
"""A `Progress` description that begins so is a sentence to be kept in sight, not work."""
_LOG = logging.getLogger("harness")
_LOG.addHandler(logging.NullHandler())


def note(event: str, **fields: Any) -> None:
    """One entry: the event, and whatever else there is to say in JSON."""
    _LOG.info(event, extra=fields)
