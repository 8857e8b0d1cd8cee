"""Compares the vectors of a fast forward pass with those of SentenceTransformer.encode on a few texts.

Both passes run in float32, before a narrower dtype is set, so one tolerance for rounding is enough. Texts are encoded
one at a time because encode() itself lets a convolution read the padding of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import Role
from harness.registry.load_fallback import Otherwise
from harness.types import ROLES

if TYPE_CHECKING:
    from harness_plugins.sentence_transformers.encoder import Encoder, TokenEncoder

AGREEMENT = 1e-4
"""Tolerance in float32 for hidden states (absolute) and vectors (relative to their norm); 2e-6 is typical."""
SAMPLES = ("Two words, a comma.", "The heart pumps blood through the body, and 12 planets have no moon.")


def samples(encoder: Encoder) -> dict[Role, NDArray[np.float32]]:
    """Role -> float32 [n, dim] of `SAMPLES`, each encoded alone."""
    return {role: np.concatenate([encoder.encode([text], role=role) for text in SAMPLES]) for role in ROLES}


def require_agreement(fast: TokenEncoder, reference: dict[Role, NDArray[np.float32]]) -> None:
    """Compare the vectors of `SAMPLES` with ``reference``, unless that is not finite (encoding reports this later).

    Raises:
        Otherwise: They differ by more than `AGREEMENT`.
    """
    if all(np.isfinite(vectors).all() for vectors in reference.values()):
        apart = _apart(fast, reference)
        if not apart <= AGREEMENT:
            raise Otherwise(
                f"its vectors by forward={fast.NAME} are not those of encode() (apart by {apart:.2g} of their length)",
                forward=fast.FALLBACK,
            )


def _apart(fast: TokenEncoder, reference: dict[Role, NDArray[np.float32]]) -> float:
    """Largest difference of a vector relative to its norm; infinity where encoding fails."""
    try:
        made = samples(fast)
        lengths = {role: np.maximum(np.linalg.norm(reference[role], axis=1), 1e-12) for role in ROLES}
        return max(float((np.linalg.norm(made[r] - reference[r], axis=1) / lengths[r]).max()) for r in ROLES)
    except (LookupError, TypeError, ValueError, RuntimeError):  # a module needs features that are not passed on
        return float("inf")
