"""What float16 is too narrow for, told with what to type instead."""

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
