"""The entry point of ``harness``: it sets up signal handling before it imports anything else.

The imports take up to seconds on a busy machine, in which Ctrl-C would otherwise end in a traceback.
"""

from __future__ import annotations

from harness.cli.signals import ending_at_once


def main() -> None:
    """Runs the command line; see `harness.cli.main.main`."""
    ending_at_once()
    from harness.cli.main import main as run

    run()
