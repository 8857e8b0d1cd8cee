"""Faults."""

from __future__ import annotations


def main(*words: str) -> None:
    """``python -m benchmarks faults WORD ...``."""
    from benchmarks.faults.__main__ import main as run

    run([*words])
