"""The embedded dataset, which every machine has, as the benchmarks' text."""

from __future__ import annotations

from harness.cli.main import State
from harness.dataset import Dataset
from harness.named import open_named
from harness.registry import load_registry


def pydocs() -> Dataset:
    """Built on first use."""
    return open_named("pydocs", load_registry(), State().home)
