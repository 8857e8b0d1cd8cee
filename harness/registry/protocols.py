"""Models made of other models, their members: what fusions, rerankers, transforms and poolings do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.types import Hits

KINDS = ("fusion", "reranker", "transform", "pooling")


@runtime_checkable
class Fusion(Protocol):
    """Makes one ranking out of those of several models."""

    @property
    def depth(self) -> int:
        """How many of each member's hits take part."""
        ...

    def fuse(self, lists: Sequence[Hits]) -> Hits:
        """One query's documents, each once.

        ``lists`` holds every member's hits in the harness's order, at most ``depth``: ties are decided, the query's own
        document is left out. Called once with empty lists before any work; UserError then where the options do not fit
        so many members.
        """
        ...


class Scored(NamedTuple):
    """What a reranker gives back."""

    scores: NDArray[np.float32]
    """float32 [n], finite; greater is better."""
    tokens: int = 0
    """Read by the model; 0: not known."""


@runtime_checkable
class Reranker(Protocol):
    """Scores a query and a document together."""

    @property
    def depth(self) -> int:
        """How many of the member's hits are scored; the rest keep their order, below them."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scored:
        """One score for each pair of a query's text and a document's content; equal pairs come once."""
        ...


class Affine(NamedTuple):
    """The map x -> x @ matrix + offset of row vectors."""

    matrix: NDArray[np.float64]
    """[d, d'], finite."""
    offset: NDArray[np.float64]
    """[d'], finite."""


@runtime_checkable
class Transform(Protocol):
    """Changes the vectors of one model, documents and queries alike, by a map fitted on the documents."""

    def fit(self, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> Affine:
        """The map for documents of this mean [d] and covariance [d, d].

        UserError where the options do not fit vectors of d dimensions. An attribute ``similarity`` says how the new
        vectors are compared; where it is absent or None, as the member's are.
        """
        ...


@runtime_checkable
class Pooling(Protocol):
    """Replaces the token vectors of each document of a multi-vector model by fewer; those of queries stay."""

    def pool(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The new vectors of one document, float32 [m, dim].

        ``vectors`` are float32 [tokens, dim] in the order of the tokens, at least one.
        """
        ...
