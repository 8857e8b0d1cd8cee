"""Transform stored vectors with affine maps fitted on the documents of a dataset, without its qrels.

A chain of transforms is a single map: each step is fitted on the mean and covariance after the previous steps. One pass
over the vectors is enough for the whole chain, and only the final vectors are rounded and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.derived import Derived, derived_shards
from harness.embeddings.sharding import SHARD_ROWS
from harness.embeddings.store import Shard, Vectors
from harness.errors import plugin_code
from harness.metrics.moments import Moments
from harness.registry.protocols import Affine, Transform
from harness.system.blas import single_threaded, thread_pool
from harness.types import PluginError, UserError

Floats = NDArray[np.float64]
ROWS = 1024
"""Rows per matrix product, each computed by one thread."""


class Step(Protocol):
    """One transform of a chain."""

    @property
    def label(self) -> str:
        """Name for messages."""
        ...

    @property
    def transform(self) -> Transform:
        """The transform."""
        ...


def mean_and_covariance(documents: Vectors) -> tuple[Floats, Floats]:
    """Mean [d] and covariance [d, d] (divided by n - 1; 0 for one document), computed in one pass."""
    found = Moments(documents.dim)
    for block in documents.blocks(SHARD_ROWS):
        found.update(block)
    return found.mean, found.scatter / max(found.n - 1, 1)


@single_threaded()
def fit(steps: Sequence[Step], mean: Floats, covariance: Floats) -> Affine:
    """Fit all steps and combine them into one map.

    Raises:
        PluginError: a step returned anything but a finite affine map.
        UserError: the options of a step do not fit the vectors.
    """
    combined = Affine(np.eye(len(mean)), np.zeros(len(mean)))
    for step in steps:
        with plugin_code(f"{step.label}: fit() raised", type(step.transform).__module__, passing=(UserError,)):
            matrix, offset = own = step.transform.fit(mean, covariance)
        if matrix.ndim != 2 or matrix.shape != (len(mean), len(offset)) or not np.isfinite(matrix).all():
            raise PluginError(f"{step.label}: fit() returned no finite matrix [{len(mean)}, d] with an offset [d].")
        combined = _then(combined, own)
        mean, covariance = mean @ matrix + offset, matrix.T @ covariance @ matrix
    return combined


def _then(first: Affine, second: Affine) -> Affine:
    return Affine(first.matrix @ second.matrix, first.offset @ second.matrix + second.offset)


def transformed(
    source: Vectors,
    affine: Callable[[], Affine],
    derived: Derived,
) -> list[Shard]:
    """Return the shards of the transformed vectors of a collection, computing those that are not stored.

    Args:
        source: the vectors to transform.
        affine: returns the map; called only if vectors must be computed.
        derived: the collection of the transformed vectors.
    """
    blocks = source.blocks(SHARD_ROWS)
    return derived_shards(blocks, len(source), lambda: partial(multiplied, affine=affine()), derived)


def multiplied(block: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
    """Apply the map to a block [n, d] in float64; returns float32 [n, d']."""
    vectors = np.empty((len(block), len(affine.offset)), np.float32)

    def multiply(start: int) -> None:
        rows = slice(start, start + ROWS)
        vectors[rows] = block[rows].astype(np.float64) @ affine.matrix + affine.offset

    with thread_pool() as pool:
        list(pool.map(multiply, range(0, len(block), ROWS)))
    return vectors
