"""Feed-forward layers in int8: two thirds of an encoder's matrix products, at twice the speed of bfloat16.

Activations are unsigned with one scale and zero point per product (`harness_plugins.forward.calibration`); weights are
signed with one scale per output. Part of each input channel's scale moves into the weights (SmoothQuant, Xiao et al.
2023, arXiv 2211.10438, equation 4). GELU and requantisation are fused into the first product. A few neurons are twenty
times larger than the others and would widen the range, so they stay in bfloat16. So does attention: it is a third of
the products and would lose as much accuracy in int8 as the feed-forward layers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.system.environment import features
from harness.types import UserError
from harness_plugins.forward.calibration import Ranges, ranges
from harness_plugins.forward.products import ONEDNN_ROWS, FeedForward, Product

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness_plugins.forward.unpadded import UnpaddedModel

LEAST_GELU = -0.17
"""Rounded down to three digits: GELU's minimum is -0.16997."""
BFLOAT16_SHARE = 24
"""One neuron in this many stays in bfloat16."""
MARGIN = 1.3
"""Safety factor on the calibrated ranges."""
ROUNDS = 5
"""Of a measurement, the first, which warms up, not counted."""
SHARE = 0.6
"""SmoothQuant's alpha: share of an input channel's scale that moves into the weights."""


def require() -> None:
    """UserError where the processor or torch has no int8 product; torch's fallback is a thousand times slower."""
    import torch

    operations = torch.ops.onednn
    if not features() & {"avx512_vnni", "amx_int8"} or not hasattr(operations, "qlinear_pointwise"):
        raise UserError("dtype=int8 needs a processor with AVX-512 VNNI or AMX, on Linux; type dtype=auto, or omit it.")


class Quantised:
    """Linear layer x W' + b with an 8-bit input."""

    def __init__(self, weight: Tensor, bias: Tensor, low: float, high: float, gains: Tensor | None = None) -> None:
        """``gains`` [in] scale x first; ``low`` and ``high`` are the range of the scaled input."""
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
        self._reordered = torch.ops.onednn.qlinear_prepack(self.levels, [ONEDNN_ROWS, weight.shape[1]])

    def rounded(self, given: Tensor) -> Tensor:
        """Quantise [n, in] to uint8 [n, in]; values out of range are clipped."""
        import torch

        # Half a level is added because the conversion truncates.
        return torch.addcmul(self._half, given, self._levels_of).clamp_(0, 255.5).to(torch.uint8)

    def __call__(self, given: Tensor) -> Tensor:
        """uint8 [n, in] -> bfloat16 [n, out]."""
        import torch

        return self._product(given, 1.0, 0, torch.bfloat16, "none", "")

    def gelu(self, given: Tensor, step: float, zero: int) -> Tensor:
        """uint8 [n, in] -> GELU of the product as uint8 [n, out] with this step and zero point."""
        import torch

        return self._product(given, step, zero, torch.uint8, "gelu", "none")

    def _product(self, given: Tensor, step: float, zero: int, dtype: torch.dtype, after: str, how: str) -> Tensor:
        import torch

        weight = (self._reordered, self.steps, self._zeros, self.bias)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            given, self.step, self.zero, *weight, step, zero, dtype, after, [], how
        )
        return found


class Int8FeedForward:
    """`FeedForward` quantised from a float32 one: most neurons in int8, the largest in bfloat16."""

    def __init__(self, plain: FeedForward, seen: Ranges) -> None:
        import torch

        wide, narrow = plain.widened, plain.narrowed
        assert wide.bias is not None
        assert narrow.bias is not None
        order = seen.widened.argsort(descending=True, stable=True)
        count = max(len(order) // BFLOAT16_SHARE, 1)
        outliers, rest = order[:count].sort().values, order[count:].sort().values
        sizes = wide.weight.abs().amax(0).clamp(min=1e-5)
        gains = sizes ** (1 - SHARE) / seen.given.clamp(min=1e-5) ** SHARE
        bound = float((seen.given * gains).max()) * MARGIN
        self.widened = Quantised(wide.weight[rest], wide.bias[rest], -bound, bound, gains)
        high = max(float(seen.widened[rest].max()), -LEAST_GELU) * MARGIN
        self.narrowed = Quantised(narrow.weight[:, rest], narrow.bias, LEAST_GELU, high)
        self._outliers = FeedForward(
            Product(wide.weight[outliers], wide.bias[outliers], torch.bfloat16, activation="gelu"),
            Product(narrow.weight[:, outliers], torch.zeros_like(narrow.bias), torch.bfloat16),
        )

    def __call__(self, state: Tensor) -> Tensor:
        """float32 [n, hidden] -> bfloat16 [n, hidden]."""
        rounded = self.widened.rounded(state)
        wide = self.widened.gelu(rounded, self.narrowed.step, self.narrowed.zero)
        return self.narrowed(wide) + self._outliers(state)


def feeds(plain: UnpaddedModel, tokens: Sequence[Sequence[int]]) -> list[Int8FeedForward]:
    """Quantise the feed-forward layers, calibrated on these texts; UserError where int8 is unavailable."""
    require()
    layers = zip(plain.feeds, ranges(plain, tokens), strict=True)
    return [Int8FeedForward(feed, seen) for feed, seen in layers if isinstance(feed, FeedForward)]


def gain(plain: UnpaddedModel) -> float:
    """Seconds of a feed-forward layer in bfloat16 over those in int8, measured; 0 where there is none."""
    import torch

    try:
        require()
    except UserError:
        return 0.0
    feed = next((each for each in plain.feeds if isinstance(each, FeedForward)), None)
    if feed is None:
        return 0.0
    hidden, wide = feed.widened.weight.shape[1], feed.widened.weight.shape[0]
    narrow = FeedForward(
        Product(feed.widened.weight, feed.widened.bias, torch.bfloat16, activation="gelu"),
        Product(feed.narrowed.weight, feed.narrowed.bias, torch.bfloat16),
    )
    ways: tuple[Any, ...] = narrow, Int8FeedForward(feed, Ranges(torch.ones(hidden), torch.ones(wide)))
    state, seconds = torch.zeros(ONEDNN_ROWS, hidden), (list[float](), list[float]())
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for way, spent in zip(ways, seconds, strict=True):
                start = time.perf_counter()
                way(state)
                spent.append(time.perf_counter() - start)
    first, second = (median(spent[1:]) for spent in seconds)
    return first / second
