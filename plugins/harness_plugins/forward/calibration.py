"""Calibration ranges (absolute maxima) of the feed-forward activations on a fixed set of texts, for static int8.

Static ranges keep a text's vector independent of its batch. The texts are diverse because values out of range are
clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from harness_plugins.forward.unpadded import UnpaddedModel

TEXTS = (
    "Aspirin lowers the risk of a second heart attack. In a randomised, double-blind trial, 1,247 patients aged 45 "
    "to 79 took 75 mg a day or a placebo for 3.5 years; 6.1% against 9.4% had an event (hazard ratio 0.64, 95% CI "
    "0.43-0.95, p = 0.03). Bleeding was more frequent with treatment. The benefit was confined to those with raised "
    "C-reactive protein, which suggests that inflammation, and not the platelets alone, is what matters.",
    "CD4+ T cells lacking the receptor IL-7Rα fail to form memory. We show by flow cytometry and RNA sequencing that "
    "Bcl-2 and Foxo1 are expressed at a third of the usual level, and that a retrovirus carrying the gene restores "
    "survival in vivo. These mice (C57BL/6, n = 12 per group) cleared the infection, yet a second challenge was "
    "fatal.",
    "The pressure distribution over a swept wing at transonic speed was measured in a wind tunnel at Mach 0.85. A "
    "shock wave forms near the half chord and moves aft as the angle of attack grows; behind it the boundary layer "
    "separates. The results agree with linear theory up to 4 degrees.",
    "what is the capital of mongolia",
    "how long do you boil an egg so that the yolk stays soft?",
    "I bought this kettle two weeks ago and I'm really disappointed!!! It leaks, it's loud, and the lid came off :( "
    "The seller never answered my e-mail... 2/5 stars. Don't waste your money - get the glass one instead, my sister "
    "loves hers.",
    "The Battle of Hastings was fought on 14 October 1066 between the Norman army of Duke William II and an English "
    "army under King Harold Godwinson. It took place about seven miles northwest of Hastings, close to the "
    "present-day town of Battle, East Sussex, and was a decisive Norman victory.",
    "Shares of the airline fell 7.2 per cent on Tuesday to $41.18, their lowest close since March, after it cut its "
    'forecast for the quarter and blamed the price of fuel. Analysts at two banks lowered their ratings. "We expect '
    'demand to recover by the summer," the chief executive said in a call with investors.',
    "def median(values):\n    ordered = sorted(values)\n    middle = len(ordered) // 2\n    if len(ordered) % "
    "2:\n        return ordered[middle]\n    return (ordered[middle - 1] + ordered[middle]) / 2\n\n# TypeError: "
    "unsupported operand type(s) for +: 'int' and 'str' when the list has strings in it, see "
    "https://example.org/q/1234?sort=new",
    "Returns the indices of the maximum values along an axis. Parameters: a (array_like), the input array; axis "
    "(int, optional): by default, the index is into the flattened array, otherwise along the specified axis. In case "
    "of multiple occurrences, the indices corresponding to the first occurrence are returned.",
    "The tenant shall keep the premises in good repair and shall not sublet them, in whole or in part, without the "
    "landlord's prior written consent, which shall not be unreasonably withheld. Notwithstanding Section 4(b), "
    "either party may terminate this agreement upon thirty (30) days' notice.",
    "Preheat the oven to 200 C. Toss the carrots with oil, salt, cumin and a spoon of honey; roast for 35 minutes, "
    "turning once. Whisk tahini, lemon juice, garlic and water. Serve warm, with parsley on top. Serves four.",
    "She closed the book and listened. Somewhere below, a door had opened; then footsteps, slow and uneven, on the "
    'stairs. "Is that you, Tom?" Nobody answered. The rain went on against the window as it had all afternoon, and '
    "the lamp made a small yellow island of the table, the cup, and her own two hands.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. Chlorophyll, the green pigment in "
    "the chloroplasts, absorbs mostly blue and red light. In the light reactions ATP and NADPH are made; the Calvin "
    "cycle spends them to fix carbon. C4 plants such as maize concentrate CO2 first, which is why they do well in "
    "the heat.",
    "Das Wetter bleibt am Wochenende wechselhaft, mit Schauern im Norden. El tren sale a las ocho y media. Les "
    "enfants jouent dans le jardin. 東京は日本の首都です。 Москва - столица России. مرحبا بالعالم",
    "1. Introduction 2. Related work 3. Method 3.1 Notation: let x_1, ..., x_n be vectors in R^d with |x_i| <= 1; we "
    "minimise f(w) = (1/n) * sum_i log(1 + exp(-y_i <w, x_i>)) + lambda |w|^2 by stochastic gradient descent. 4. "
    "Experiments on CIFAR-10 and ImageNet [12, 17]. 5. Conclusion. References. Appendix A: Proof of Theorem 2.",
    "Name: J. Smith | Tel. +44 20 7946 0000 | Order no. 00012345-B | Qty 3 x 12.99 EUR = 38.97 EUR | VAT 19% | TOTAL "
    "46.37",
    "Gravity keeps the moon in its orbit. " * 12,
    "Why do cats purr? Some say because they are happy; others, that the vibration of 25 to 50 Hz helps bones to "
    "heal. Nobody knows for certain. Cheetahs purr too, but lions, which roar, do not: their hyoid bone is built "
    "otherwise.",
)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of one feed-forward layer over all tokens."""

    given: Tensor
    """[hidden], absolute maximum of the input."""
    widened: Tensor
    """[intermediate], maximum after GELU, whose minimum is known."""


def ranges(plain: UnpaddedModel, tokens: Sequence[Sequence[int]]) -> list[Ranges]:
    """Ranges per layer in the float32 pass over these token ids."""
    import torch

    seen: list[Ranges] = []

    def watched(feed: Any, state: Tensor) -> Tensor:
        wide = feed.widened(state)
        seen.append(Ranges(state.abs().amax(0), wide.amax(0)))
        narrowed: Tensor = feed.narrowed(wide)
        return narrowed

    feeds = list(plain.feeds)
    try:
        plain.feeds = [partial(watched, feed) for feed in feeds]
        with torch.inference_mode():
            plain(tokens)
    finally:
        plain.feeds = feeds
    return seen
