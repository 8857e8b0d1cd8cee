"""Matrix products of the unpadded forward pass, with activation and gate fused where oneDNN can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Activation = Literal["gelu", "gelu_tanh", "silu"]
_FUSED: dict[str | None, tuple[str, str]] = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}
"""Activation -> oneDNN's name and algorithm."""


class Product:
    """Linear layer x W' + b with an optional activation; weights are cast, and reordered for oneDNN, once."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        *,
        activation: Activation | None = None,
        reorder: bool = True,
    ) -> None:
        import torch

        self.weight, self.bias = weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        self.dtype, self._activation = dtype, activation
        self._reordered = reorder and dtype == torch.bfloat16 and _reorders_weights(weight.device.type)
        if self._reordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, ONEDNN_ROWS)

    def __call__(self, given: Tensor, times: Tensor | None = None) -> Tensor:
        """[n, in] of any dtype -> [n, out] of the layer's dtype, multiplied by ``times`` of the same shape."""
        import torch
        from torch.nn.functional import linear

        given = given.to(self.dtype)
        if self._reordered and times is None:
            after, how = _FUSED[self._activation]
            found: Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, after, [], how)
            return found
        if self._reordered and self._activation is None:
            found = torch.ops.mkldnn._linear_pointwise.binary(given, times, self.weight, self.bias, "mul")
            return found
        found = self._activated(linear(given, self.weight, self.bias))
        return found if times is None else found.mul_(times)

    def _activated(self, found: Tensor) -> Tensor:
        from torch.nn.functional import gelu, silu

        if self._activation is None:
            return found
        if self._activation == "silu":
            return silu(found, inplace=True)
        return gelu(found, approximate="tanh" if self._activation == "gelu_tanh" else "none")


ONEDNN_ROWS = 2048
"""Batch rows that oneDNN optimises the weight layout for; other sizes are correct and nearly as fast."""


def _reorders_weights(device: str) -> bool:
    """Whether torch has the (private) operations and the processor supports bfloat16."""
    import torch

    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    known = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return device == "cpu" and known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Feed-forward block of a layer: [n, hidden] -> [n, hidden]."""

    widened: Product
    narrowed: Product

    def __call__(self, state: Tensor) -> Tensor:
        """Any dtype in, the products' dtype out."""
        return self.narrowed(self.widened(state))


@dataclass(frozen=True, slots=True)
class GatedFeedForward:
    """Feed-forward block with a gated linear unit (SwiGLU, GeGLU): [n, hidden] -> [n, hidden]."""

    gate: Product
    """With the activation."""
    widened: Product
    narrowed: Product

    def __call__(self, state: Tensor) -> Tensor:
        """Any dtype in, the products' dtype out."""
        given = state.to(self.gate.dtype)  # once for both products
        return self.narrowed(self.widened(given, times=self.gate(given)))
