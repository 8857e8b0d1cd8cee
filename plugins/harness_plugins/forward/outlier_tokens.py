"""Detects texts whose vectors depend on rounding errors in narrow dtypes, so that they are encoded again in float32.

MPNet turns a few tokens of every text, mostly full stops, into outliers: over some layers the spread of their states
grows five-fold per layer until it is fifty times the median; other tokens attend to them from then on. Rounding errors
grow as fast. A borderline token becomes an outlier in bfloat16 but not in float32, or the reverse, and changes all of
its text's states (vector cosine 0.9994 instead of 0.99999). In the layer where outliers first reach their size, such a
token's spread is between the median and an outlier's. One text in a hundred has one, so encoding these again is cheap.
Only encoders with a LayerNorm after each branch give spreads; no text of the others is encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness_plugins.forward.unpadded import UnpaddedModel

OUTLIER = 30.0
"""Outlier threshold, in multiples of the median spread; MPNet's outliers reach 50, other tokens stay below 20."""
BORDERLINE = (2.0, 15.0)
"""Range of a borderline token's spread, in multiples of the median spread."""


@dataclass(frozen=True, slots=True)
class OutlierLayer:
    """The first layer in which a model's tokens become outliers."""

    layer: int
    median: float
    """Median standard deviation of a token's state in that layer."""

    def borderline(self, spreads: Sequence[Tensor]) -> Tensor:
        """Bool [tokens], whether each token is borderline; does not synchronise with the device."""
        ratio = spreads[self.layer] / self.median
        return (ratio > BORDERLINE[0]) & (ratio < BORDERLINE[1])

    def undecided(self, spreads: Sequence[Tensor], lengths: Sequence[int]) -> list[bool]:
        """Whether each text has a borderline token (empty where none has); ``spreads`` as in `UnpaddedModel`."""
        import torch

        borderline = self.borderline(spreads)
        return [bool(text.any()) for text in torch.split(borderline, list(lengths))] if borderline.any() else []


def find_outlier_layer(plain: UnpaddedModel, tokens: Sequence[Sequence[int]]) -> OutlierLayer | None:
    """Find the layer with the float32 pass on a few texts; None where no token becomes an outlier."""
    import torch

    spreads: list[Tensor] = []
    with torch.inference_mode():
        plain(tokens, spreads)
    for layer, spread in enumerate(spreads):
        median = float(spread.median())
        if float(spread.max()) > OUTLIER * median:
            return OutlierLayer(layer, median)
    return None
