"""Making something from its name and options, as a configuration file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from harness.datasets.catalog import unknown
from harness.types import UserError

T = TypeVar("T")


def make(kind: str, makers: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """``makers[name](**options)``; UserError for a name nobody has or an option it does not take."""
    if name not in makers:
        raise UserError(unknown(kind, name, makers))
    try:
        return makers[name](**options)
    except TypeError as error:
        reason = str(error).rpartition("() ")[2]
        raise UserError(f"The {kind} {name} cannot be made with {dict(options)}: {reason}; mend them.") from error
