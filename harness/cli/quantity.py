"""Amounts, bytes and durations, written for people."""

from __future__ import annotations


def amount(number: int | None) -> str:
    """``5.4 M``; empty for what is not known."""
    return "" if number is None else _scaled(number, ("", " k", " M", " G", " T"))


def size(count: int | None) -> str:
    """``1.2 GB``, in powers of 1000; empty for what is not known."""
    return "" if count is None else _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float | None) -> str:
    """``12 s``, ``4.5 min``, ``7.2 h`` or ``3.1 d``; empty for what is not known."""
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
