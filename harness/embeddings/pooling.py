"""Pool stored token vectors: fewer vectors for each document, and no text is encoded again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.derived import Derived, derived_shards
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.store import Shard
from harness.embeddings.token_vectors import TokenVectors, no_tokens
from harness.errors import plugin_code
from harness.registry.protocols import Pooling
from harness.system.blas import single_threaded
from harness.types import PluginError, UserError


def pooled(
    source: MultiVectors,
    pooling: Callable[[], Pooling],
    name: str,
    derived: Derived,
) -> list[Shard]:
    """Return the shards of the pooled vectors of a collection, computing those that are not stored.

    Args:
        source: the vectors to pool.
        pooling: returns the pooling; called only if vectors must be computed.
        name: of the pooling, for messages.
        derived: the collection of the pooled vectors.

    Raises:
        PluginError: the pooling returned anything but valid vectors.
    """
    return derived_shards(
        source.shards(), len(source), lambda: partial(pooled_rows, pooling=pooling(), name=name), derived
    )


@single_threaded()
def pooled_rows(rows: TokenVectors, pooling: Pooling, name: str) -> TokenVectors:
    """Pool the token vectors of some documents; PluginError as for `pooled`."""
    made: list[NDArray[np.float32]] = []
    for row in range(len(rows)):
        vectors = np.array(rows[row : row + 1].vectors, np.float32)
        if len(vectors):
            with plugin_code(f"{name}: pool() raised", type(pooling).__module__, passing=(UserError,)):
                given = pooling.pool(vectors)
            if fault := pool_fault(given, vectors):
                raise PluginError(f"{name}: {fault}")
            vectors = given
        made.append(vectors)
    if not made:
        return no_tokens(rows.shape[1])
    result = TokenVectors.of(made)
    return TokenVectors(result.vectors, result.offsets, rows.truncated)


def pool_fault(made: object, vectors: NDArray[np.float32]) -> str:
    """Describe what is wrong with the pooled vectors of a document; empty if they are valid."""
    if not isinstance(made, np.ndarray) or made.dtype != np.float32 or made.ndim != 2:
        return "pool() returned no float32 array [m, dim]"
    if made.shape[1] != vectors.shape[1] or not 0 < len(made) <= len(vectors):
        return f"pool() returned shape {made.shape} for vectors of shape {vectors.shape}; return 1 to all of them"
    return "" if np.isfinite(made).all() else "pool() returned NaN or infinity"
