"""Human-readable amounts, sizes and durations, and the parser of sizes on the command line."""

from __future__ import annotations

import re

import click

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click alone
    """An amount of memory or disk as people type it: ``512MB``, ``2GB``, ``1.5GiB``, or plain bytes."""

    name = "bytes"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes; powers of 1000, or of 1024 with an i."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?\s*", str(value))
        if not found:
            self.fail(f"{value!r} is not an amount of bytes; write it as in 512MB or 2GB.", param, ctx)
        return round(float(found[1]) * UNITS[(found[2] or "").replace("K", "k").replace("ki", "Ki")])


def amount(number: int | None) -> str:
    """``5.4 M``; empty if not known."""
    return "" if number is None else _scaled(number, ("", " k", " M", " G", " T"))


def size(count: int | None) -> str:
    """``1.2 GB``, in powers of 1000; empty if not known."""
    return "" if count is None else _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float | None) -> str:
    """``12 s``, ``4.5 min``, ``7.2 h`` or ``3.1 d``; empty if not known."""
    if seconds is None:
        return ""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.{0 if unit == 's' and seconds >= 10 else 1}f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if abs(number) < 999.5:
            return f"{number:.{0 if unit == units[0] or number >= 99.5 else 1}f}{unit}"
        number /= 1000
    return f"{number:.1f}{units[-1]}"
