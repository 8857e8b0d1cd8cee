"""Models that run on a server: texts are sent there, vectors or scores arrive in batches and are stored one by one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.system.budget import Budget
from harness.types import Role


class Arrived(NamedTuple):
    """The answer to one request."""

    rows: Sequence[int]
    """Positions of its texts (or pairs) among those that were given."""
    values: NDArray[np.float32]
    """float32 [len(rows), dim] of an encoder, [len(rows), 1] of a reranker."""
    tokens: int = 0
    """As the server states them, else an estimate."""


@runtime_checkable
class RemoteEncoder(Protocol):
    """A dense model behind a server. It is a `DenseModel` as well."""

    budget: Budget
    """Set by the harness after loading; every request reserves from it."""

    def encode_batches(self, texts: Sequence[str], *, role: Role) -> Generator[Arrived, None, None]:
        """The vectors of all texts, each once, in any order, as they arrive.

        When a request fails for good, those under way are still yielded; then its error is raised. Closing the
        generator ends the work.
        """
        ...


@runtime_checkable
class RemoteReranker(Protocol):
    """A reranker behind a server. It is a `Reranker` as well."""

    budget: Budget
    """Set by the harness after loading; every request reserves from it."""

    def score_batches(self, pairs: Sequence[tuple[str, str]]) -> Generator[Arrived, None, None]:
        """The scores of all pairs, as `RemoteEncoder.encode_batches`."""
        ...
