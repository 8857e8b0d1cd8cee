"""Feed-forward layers in int8: two thirds of an encoder's matrix products, at twice the speed of bfloat16.

Activations are unsigned, with a scale and a zero point of each product (`harness_plugins.forward.calibration`); weights
are signed, with one scale per output. A channel's weight takes over part of the size of its input (Xiao et al. 2023,
SmoothQuant, arXiv 2211.10438, equation 4). GELU and rounding to 8 bits happen inside the first product, whose result
the second takes as it is. A few neurons grow to twenty times the others; they stay in bfloat16 beside the rest, for
which the range would be too wide. Attention is left in bfloat16: its products are a third, and cost as much exactness
in int8 as these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.system.environment import features
from harness.types import UserError
from harness_plugins.forward.calibration import Ranges, ranges
from harness_plugins.forward.unpadded import LAID_OUT_FOR, FeedForward, Product

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness_plugins.forward.unpadded import Packed

LEAST_GELU = -0.17
"""Rounded down to three digits: GELU's minimum is -0.16997."""
LOUD = 24
"""One neuron in so many stays in bfloat16."""
ROOM = 1.3
"""How far beyond what was seen a range reaches."""
SHARE = 0.6
"""Of a channel's size that its weight takes over; 0 leaves all to the activation."""


def require() -> None:
    """UserError where processor or torch have no such product; torch would else take a thousand times as long."""
    import torch

    operations = torch.ops.onednn
    if not features() & {"avx512_vnni", "amx_int8"} or not hasattr(operations, "qlinear_pointwise"):
        raise UserError(
            "dtype=int8 needs a processor with AVX-512 VNNI or AMX, on Linux; type dtype=auto, or leave it."
        )


class Quantised:
    """x W' + b with x in 8 bits, given so or rounded here."""

    def __init__(self, weight: Tensor, bias: Tensor, low: float, high: float, gains: Tensor | None = None) -> None:
        """``gains`` [in] multiply x first; ``low`` and ``high`` bound what comes of it."""
        import torch

        self.step = (high - low) / 255
        self.zero = round(-low / self.step)
        gains = torch.ones(weight.shape[1]) if gains is None else gains
        self._levels_of, self._half = gains / self.step, torch.tensor(self.zero + 0.5)
        weight = weight / gains
        self.steps = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.levels = (weight / self.steps[:, None]).round().to(torch.int8)
        self.bias = bias
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._laid_out = torch.ops.onednn.qlinear_prepack(self.levels, [LAID_OUT_FOR, weight.shape[1]])

    def rounded(self, given: Tensor) -> Tensor:
        """[n, in] -> uint8 [n, in]; what is out of range is cut off."""
        import torch

        # Half a level more, because the fraction is dropped.
        return torch.addcmul(self._half, given, self._levels_of).clamp_(0, 255.5).to(torch.uint8)

    def __call__(self, given: Tensor) -> Tensor:
        """uint8 [n, in] -> bfloat16 [n, out]."""
        import torch

        return self._product(given, 1.0, 0, torch.bfloat16, "none", "")

    def gelu(self, given: Tensor, step: float, zero: int) -> Tensor:
        """uint8 [n, in] -> GELU of the product, uint8 [n, out] of such a step and zero point."""
        import torch

        return self._product(given, step, zero, torch.uint8, "gelu", "none")

    def _product(self, given: Tensor, step: float, zero: int, dtype: torch.dtype, after: str, how: str) -> Tensor:
        import torch

        weight = (self._laid_out, self.steps, self._zeros, self.bias)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            given, self.step, self.zero, *weight, step, zero, dtype, after, [], how
        )
        return found


class Int8FeedForward:
    """`FeedForward` made from a float32 one: most neurons in int8, the loudest in bfloat16."""

    def __init__(self, plain: FeedForward, seen: Ranges) -> None:
        import torch

        wide, narrow = plain.widened, plain.narrowed
        order = seen.widened.argsort(descending=True, stable=True)
        count = max(len(order) // LOUD, 1)
        loud, rest = order[:count].sort().values, order[count:].sort().values
        sizes = wide.weight.abs().amax(0).clamp(min=1e-5)
        gains = sizes ** (1 - SHARE) / seen.given.clamp(min=1e-5) ** SHARE
        bound = float((seen.given * gains).max()) * ROOM
        self.widened = Quantised(wide.weight[rest], wide.bias[rest], -bound, bound, gains)
        high = max(float(seen.widened[rest].max()), -LEAST_GELU) * ROOM
        self.narrowed = Quantised(narrow.weight[:, rest], narrow.bias, LEAST_GELU, high)
        self._loud = FeedForward(
            Product(wide.weight[loud], wide.bias[loud], torch.bfloat16, gelu=True),
            Product(narrow.weight[:, loud], torch.zeros_like(narrow.bias), torch.bfloat16),
        )

    def __call__(self, state: Tensor) -> Tensor:
        """float32 [n, hidden] -> bfloat16 [n, hidden]."""
        rounded = self.widened.rounded(state)
        wide = self.widened.gelu(rounded, self.narrowed.step, self.narrowed.zero)
        return self.narrowed(wide) + self._loud(state)


def feeds(plain: Packed, tokens: Sequence[Sequence[int]]) -> list[Int8FeedForward]:
    """Of a float32 pass, for ranges seen over these texts; UserError as `require` has it."""
    require()
    layers = zip(plain.feeds, ranges(plain, tokens), strict=True)
    return [Int8FeedForward(feed, seen) for feed, seen in layers if isinstance(feed, FeedForward)]
