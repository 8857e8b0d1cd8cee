"""Whether a forward pass of ours gives the vectors that SentenceTransformer.encode gives, tried on a few texts.

Both passes run in float32, where they differ by rounding alone. So there is one tolerance and none for narrow dtypes:
what is compared is the same pass before it is narrowed. Each text is encoded by itself, because a module that reads its
neighbours' padding, such as a convolution, has no other vector that both could agree on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import Role
from harness.registry.load_fallback import Otherwise

if TYPE_CHECKING:
    from harness_plugins.sentence_transformers.encoder import Encoder, TokenEncoder

AGREEMENT = 1e-4
"""How far hidden states of two forward passes may be apart in float32, or vectors as a share of their length; 2e-6 is
usual."""
SAMPLES = ("Two words, a comma.", "The heart pumps blood through the body, and 12 planets have no moon.")
ROLES: tuple[Role, ...] = ("query", "document")


def samples(encoder: Encoder) -> dict[Role, NDArray[np.float32]]:
    """Role -> float32 [n, dim] of `SAMPLES`, each encoded alone."""
    return {role: np.concatenate([encoder.encode([text], role=role) for text in SAMPLES]) for role in ROLES}


def require_agreement(fast: TokenEncoder, reference: dict[Role, NDArray[np.float32]]) -> None:
    """Raises Otherwise where the vectors of `SAMPLES` are not those of ``reference``.

    Nothing is raised where those are not finite: encoding tells.
    """
    if all(np.isfinite(vectors).all() for vectors in reference.values()):
        apart = _apart(fast, reference)
        if not apart <= AGREEMENT:
            raise Otherwise(
                f"its vectors by forward={fast.NAME} are not those of encode() (apart by {apart:.2g} of their length)",
                forward=fast.FALLBACK,
            )


def _apart(fast: TokenEncoder, reference: dict[Role, NDArray[np.float32]]) -> float:
    """The largest difference of a vector as a share of its length; infinity where none can be made."""
    try:
        made = samples(fast)
        lengths = {role: np.maximum(np.linalg.norm(reference[role], axis=1), 1e-12) for role in ROLES}
        return max(float((np.linalg.norm(made[r] - reference[r], axis=1) / lengths[r]).max()) for r in ROLES)
    except (LookupError, TypeError, ValueError, RuntimeError):  # a module that needs more than is handed on
        return float("inf")
