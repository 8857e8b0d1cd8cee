"""Losses are computed in float32 (or float64, when given it) whatever the model runs in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Runs ``function`` outside autocast, with its half-precision tensors widened to float32.

    Its gradients come back in the precision of the tensors it was given.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            widened = [_widened(value) for value in args]
            return function(*widened, **{name: _widened(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return run


def _widened(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value
