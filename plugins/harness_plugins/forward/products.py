"""Matrix products of the unpadded forward pass, with the activation fused where oneDNN can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Activation = Literal["gelu"]
_FUSED: dict[str | None, tuple[str, str]] = {None: ("none", ""), "gelu": ("gelu", "none")}
"""Activation -> oneDNN's name and algorithm."""


class Product:
    """Linear layer x W' + b with an optional activation; weights are cast, and reordered for oneDNN, once."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        activation: Activation | None = None,
        reorder: bool = True,
    ) -> None:
        import torch

        self.weight, self.bias, self._activation = weight.detach().to(dtype), bias.detach().to(dtype), activation
        self._dtype = dtype
        self._reordered = reorder and dtype == torch.bfloat16 and _reorders_weights(weight.device.type)
        if self._reordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, ONEDNN_ROWS)

    def __call__(self, given: Tensor) -> Tensor:
        """[n, in] of any dtype -> [n, out] of the layer's dtype."""
        import torch
        from torch.nn.functional import gelu, linear

        given = given.to(self._dtype)
        if self._reordered:
            after, how = _FUSED[self._activation]
            found: Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, after, [], how)
            return found
        found = linear(given, self.weight, self.bias)
        return gelu(found) if self._activation else found


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
