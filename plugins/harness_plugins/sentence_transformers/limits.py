"""What is too much for a model: numbers for float16, and texts for memory. Told with what to type instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import PluginError

if TYPE_CHECKING:
    import torch


def finite(values: NDArray[np.float32], dtype: torch.dtype, what: str) -> NDArray[np.float32]:
    """The rows as given; PluginError where products in float16 made any of them NaN or infinite.

    Args:
        values: float32 [n] or [n, dim].
        dtype: Of the matrix products.
        what: The rows are, such as "vectors".
    """
    if str(dtype) == "torch.float16" and (lost := int((~np.isfinite(values.reshape(len(values), -1)).all(1)).sum())):
        raise PluginError(
            f"{lost} of {len(values)} {what} hold NaN or infinity in float16, whose largest number is 65,504; type "
            f"dtype=bfloat16 or dtype=float32."
        )
    return values


BOUNDLESS = 10**9
"""Tokens from which on a tokenizer's limit is none: transformers writes 10^30 where none is stated."""
UNCUT = 10_000
"""Tokens of the longest text that is encoded by a model without a limit: the memory of attention grows with the square,
to some 5 GB in a layer of 12 heads."""


def limit_of(stated: int | None) -> int | None:
    """The tokens at which texts are cut; None where they are not."""
    return None if stated is None or stated > BOUNDLESS else stated


def affordable(tokens: int, stated: int | None) -> int:
    """The tokens of a text as given; PluginError where nothing cuts it and it may not fit into memory."""
    if tokens > UNCUT and limit_of(stated) is None:
        raise PluginError(
            f"a text of {tokens:,} tokens is not cut, since the model states no limit, and may not fit into memory; "
            f"type a limit, such as max_seq_length=512."
        )
    return tokens
