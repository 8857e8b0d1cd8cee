"""Pooling of the token vectors of documents: similar ones are replaced by their mean, so that fewer are stored.

B. Clavie, A. Chaffin and G. Adams, Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via
Token Pooling (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import ModelSpec, Option, Pooling, hookimpl
from harness.types import Options

Floats = NDArray[np.float32]
IMPLEMENTATION = 1
ITERATIONS = 10
"""Of k-means."""


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the pooling."""
    yield ModelSpec(
        name="pool",
        kind="pooling",
        load=f"{__name__}:load",
        fingerprint=f"{__name__}:fingerprint",
        summary="fewer token vectors for each document: pool(path/to/colbert):factor=2",
        options={
            "factor": Option(2.0, "of so many token vectors one is left", minimum=1),
            "method": Option("hierarchical", "how vectors are grouped", choices=("hierarchical", "kmeans")),
            "protect": Option(1, "so many of the first vectors stay as they are, such as that of [CLS]", minimum=0),
            "normalise": Option(True, "vectors get length 1 afterwards"),
        },
    )


def fingerprint(options: Options) -> dict[str, Any]:
    """The options and the revision of this arithmetic."""
    return {"implementation": IMPLEMENTATION, "options": dict(options)}


def load(options: Options) -> Pooling:
    """The pooling with these options."""
    group = {"hierarchical": ward, "kmeans": kmeans}[str(options["method"])]
    return ClusterPooling(
        float(options["factor"] or 1), int(options["protect"] or 0), bool(options["normalise"]), group
    )


@dataclass(frozen=True, slots=True)
class ClusterPooling:
    """Groups of vectors become their means."""

    factor: float
    protect: int
    normalise: bool
    group: Callable[[Floats, int], NDArray[np.int64]]
    """Gives each of some vectors the number of its group, at most so many groups."""

    def pool(self, vectors: Floats) -> Floats:
        """As `Pooling.pool`."""
        rest = vectors[self.protect :]
        count = max(int(len(rest) // self.factor), 1)
        if count < len(rest):
            groups, places = np.unique(self.group(rest, count), return_inverse=True)
            sums = np.zeros((len(groups), vectors.shape[1]))
            np.add.at(sums, places, rest)
            means = (sums / np.bincount(places)[:, None]).astype(np.float32)
            vectors = np.concatenate([vectors[: self.protect], means])
        if self.normalise:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, np.float32(1e-12))
        return vectors


def ward(vectors: Floats, count: int) -> NDArray[np.int64]:
    """Ward's hierarchical clustering of cosine distances, as sentence-transformers' HierarchicalTokenPooling has it."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    apart = (1 - vectors @ vectors.T).clip(0, 2)
    found: NDArray[np.int64] = hierarchy.fcluster(
        hierarchy.linkage(squareform(apart, checks=False), method="ward"), t=count, criterion="maxclust"
    )
    return found


def kmeans(vectors: Floats, count: int) -> NDArray[np.int64]:
    """k-means that starts from vectors at equal distances in the text; a group may end empty."""
    import warnings

    from scipy.cluster.vq import kmeans2

    starts = vectors[np.linspace(0, len(vectors) - 1, count).round().astype(int)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster without vectors
        _, found = kmeans2(vectors, starts, iter=ITERATIONS, minit="matrix")
    return found.astype(np.int64)  # type: ignore[no-any-return]
