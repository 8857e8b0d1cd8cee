"""Narrow matrix products and limited lengths, and errors for what does not fit, each with the option that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import PluginError, UserError

if TYPE_CHECKING:
    import torch


def finite(values: NDArray[np.float32], dtype: torch.dtype, what: str) -> NDArray[np.float32]:
    """Return the rows unchanged.

    Args:
        values: float32 [n] or [n, dim].
        dtype: Of the matrix products.
        what: Name of the rows for the message, such as "vectors".

    Raises:
        PluginError: float16 products made some of them NaN or infinite.
    """
    if str(dtype) == "torch.float16" and (lost := int((~np.isfinite(values.reshape(len(values), -1)).all(1)).sum())):
        raise PluginError(
            f"{lost} of {len(values)} {what} hold NaN or infinity in float16, whose largest number is 65,504; type "
            f"dtype=bfloat16 or dtype=float32."
        )
    return values


def narrow_layers(transformer: Any, dtype: torch.dtype) -> None:
    """Make the linear layers below a transformer's head compute in ``dtype``; all else stays float32.

    The head stays float32: bfloat16 logits have a few hundred distinct values and would tie.
    """
    import torch

    for name, module in transformer.base_model.named_modules() if dtype != torch.float32 else ():
        if isinstance(module, torch.nn.Linear) and "pooler" not in name:
            module.to(dtype)
            module.register_forward_pre_hook(lambda module, given: (given[0].to(dtype), *given[1:]))
            module.register_forward_hook(lambda module, given, made: made.float())


def limit_length(model: Any, folder: Path, length: int) -> None:
    """Set the number of tokens kept of a text; 0 leaves what the folder says. UserError where that is impossible."""
    if not length:
        return
    try:
        model.max_seq_length = length
        model.encode("a " * length, show_progress_bar=False)  # fails beyond the model's position embeddings
    except (AttributeError, IndexError, RuntimeError):
        raise UserError(
            f"{folder} cannot be held to {length} tokens; give a smaller max_seq_length, or omit it."
        ) from None


BOUNDLESS = 10**9
"""Tokenizer limits above this mean "no limit"; transformers writes 10^30."""
UNCUT = 10_000
"""Longest text, in tokens, for a model without a limit: attention memory is quadratic, 5 GB in a layer of 12 heads."""


def limit_of(stated: int | None) -> int | None:
    """The length at which texts are truncated; None for no limit."""
    return None if stated is None or stated > BOUNDLESS else stated


def affordable(tokens: int, stated: int | None) -> int:
    """Return the number of tokens; PluginError for a text too long for memory in a model without a limit."""
    if tokens > UNCUT and limit_of(stated) is None:
        raise PluginError(
            f"a text of {tokens:,} tokens is not cut, since the model states no limit, and may not fit into memory; "
            f"type a limit, such as max_seq_length=512."
        )
    return tokens
