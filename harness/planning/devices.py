"""Devices that a plan can be made for without owning one, from ``devices.toml``."""

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
    """A device; ``devices.toml`` defines the values and names their sources."""

    name: str
    summary: str
    flops: float
    """Peak operations per second in ``dtype``."""
    dtype: str
    float32: float
    """Peak operations per second in float32, used by exact search."""
    utilisation: float
    """Assumed share of the peaks in encoding and search."""
    memory: float
    """Bytes."""
    price: float
    """USD per hour."""


@cache
def devices() -> dict[str, Device]:
    """All devices by name."""
    content = read_toml(FILE)
    return {name: Device(name, **figures) for name, figures in content.items()}


def device(name: str) -> Device:
    """A device by name. UserError with similar names if it is unknown."""
    known = devices()
    if name.lower() not in known:
        raise UserError(unknown("device", name, known) + " Without --device the plan is for this machine.")
    return known[name.lower()]
