"""The entry point of ``harness``: it sets up signal handling before it imports anything else.

The imports take up to seconds on a busy machine, in which Ctrl-C would otherwise end in a traceback.
"""

from __future__ import annotations

import gc

from harness.cli.signals import ending_at_once


def main() -> None:
    """Runs the command line; see `harness.cli.main.main`."""
    ending_at_once()
    gc.set_threshold(50_000, 20, 20)  # torch and pandas create a million objects: fewer collections save a second
    from harness.cli.main import main as run

    run()
