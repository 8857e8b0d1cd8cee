"""Computes losses in float32 (float64 for float64 inputs) regardless of the model's dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Run ``function`` outside autocast, with half-precision tensors cast to float32.

    Gradients have the dtype of the given tensors.
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
