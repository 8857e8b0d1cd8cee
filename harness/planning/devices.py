"""Devices that a plan can be made for without having one: ``devices.toml``, read and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.datasets.catalog import unknown
from harness.storage.safe_load import read_toml
from harness.types import UserError

FILE = Path(__file__).with_name("devices.toml")


@dataclass(frozen=True, slots=True)
class Device:
    """One device; ``devices.toml`` says what the figures are and where they come from."""

    name: str
    summary: str
    flops: float
    """Operations a second at the peak of its ``dtype``."""
    dtype: str
    float32: float
    """Operations a second at its peak in float32, in which exact search runs."""
    utilisation: float
    """Share of either peak that encoding and search are assumed to reach."""
    memory: float
    """Bytes."""
    price: float
    """USD an hour."""


@cache
def devices() -> dict[str, Device]:
    """Every device by name."""
    content = read_toml(FILE)
    return {name: Device(name, **figures) for name, figures in content.items()}


def device(name: str) -> Device:
    """One device; UserError with the nearest names where there is none of that name."""
    known = devices()
    if name.lower() not in known:
        raise UserError(unknown("device", name, known) + " Without --device the plan is for this machine.")
    return known[name.lower()]
