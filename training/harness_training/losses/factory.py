"""Creates objects from a name and options of a configuration file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from harness.datasets.catalog import unknown
from harness.types import UserError

T = TypeVar("T")


def make(kind: str, makers: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """``makers[name](**options)``; UserError for an unknown name or option."""
    if name not in makers:
        raise UserError(unknown(kind, name, makers))
    try:
        return makers[name](**options)
    except TypeError as error:
        reason = str(error).rpartition("() ")[2]
        raise UserError(f"The {kind} {name} cannot be made with {dict(options)}: {reason}; fix them.") from error
