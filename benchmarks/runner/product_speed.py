"""Speed of torch's product of two large matrices, the upper limit of a forward pass."""

from __future__ import annotations

import time

import numpy as np

ENOUGH, LARGEST = 0.05, 1 << 14
"""Minimum seconds and maximum rows of the measured matrix product."""


def product_speed(dtype: str, device: str) -> float:
    """Operations per second of torch's product of two large matrices: median of nine."""
    import torch

    size, seconds, multiply = 512, 0.0, torch._int_mm if dtype == "int8" else torch.mm
    while seconds < ENOUGH and size < LARGEST:
        size *= 2
        # random numbers: a GPU multiplies ones at a tenth more, because they take less power
        one, spent = (4 * torch.randn(size, size, device=device)).to(getattr(torch, dtype)), []
        for _ in range(9):
            start = time.perf_counter()
            float(multiply(one, one)[0, 0])
            spent.append(time.perf_counter() - start)
        seconds = float(np.median(spent))
    return 2.0 * size**3 / seconds
