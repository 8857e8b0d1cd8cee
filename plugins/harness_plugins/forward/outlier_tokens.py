"""Texts whose vector turns on a rounding error, found while they are encoded in a narrow dtype.

MPNet makes a few tokens of every text into sinks, mostly full stops: over some layers their states grow five-fold from
each to the next, until in one layer their spread is fifty times the usual; from then on other tokens attend to them.
Rounding errors grow as fast. A token on the border becomes a sink in bfloat16 and not in float32, or the other way,
and all the text's states with it (cosine of the vectors 0.9994, where others have 0.99999). Such a token is still
between the usual spread and a sink's in the layer where sinks are first as large as that, and few others are: one text
in a hundred has one. So it costs little to encode those texts again in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness_plugins.forward.unpadded import Packed

SINK = 30.0
"""Times the usual spread in which a token is a sink; MPNet's are at 50, and what is no sink is below 20."""
BETWEEN = (2.0, 15.0)
"""Times the usual spread between which a token is on the border."""


@dataclass(frozen=True, slots=True)
class Border:
    """Where a model's tokens become sinks."""

    layer: int
    usual: float
    """Median spread of a token's state in that layer."""

    def between(self, spreads: Sequence[Tensor]) -> Tensor:
        """bool [tokens], whether each is on the border; nothing is waited for."""
        ratio = spreads[self.layer] / self.usual
        return (ratio > BETWEEN[0]) & (ratio < BETWEEN[1])

    def undecided(self, spreads: Sequence[Tensor], lengths: Sequence[int]) -> list[bool]:
        """Whether each text has a token on the border; ``spreads`` as `Packed` gives them, texts end to end."""
        import torch

        between = self.between(spreads)
        return [bool(text.any()) for text in torch.split(between, list(lengths))] if between.any() else []


def border(plain: Packed, tokens: Sequence[Sequence[int]]) -> Border | None:
    """Of a model, from what its float32 pass does with a few texts; None where no token becomes a sink."""
    import torch

    spreads: list[Tensor] = []
    with torch.inference_mode():
        plain(tokens, spreads)
    for layer, spread in enumerate(spreads):
        usual = float(spread.median())
        if float(spread.max()) > SINK * usual:
            return Border(layer, usual)
    return None
