"""Fusion of several models' rankings, by their ranks or by their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import Fusion, Hits, ModelSpec, Option, UserError, hookimpl
from harness.types import Options

DEPTH = Option(1000, "how many of each member's hits take part", minimum=1)
TIE = 1e-14
"""Sums within this tolerance of the greatest one tie: 1/70 + 1/105 equals 1/84 + 1/84 in spite of rounding.

Different sums of two members are at least 8e-13 apart at the default depth.
"""
IMPLEMENTATION = 2
"""Increased when a member's ranking or this arithmetic changes (zero vectors under cosine, chains of ties)."""


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the two fusion methods."""
    yield ModelSpec(
        name="rrf",
        kind="fusion",
        load="harness_plugins.fusion:load_rrf",
        fingerprint="harness_plugins.fusion:fingerprint",
        summary="reciprocal rank fusion of other models: rrf(bm25,minilm)",
        options={"k": Option(60.0, "added to every rank; larger: top ranks count less", minimum=0), "depth": DEPTH},
    )
    yield ModelSpec(
        name="linear",
        kind="fusion",
        load="harness_plugins.fusion:load_linear",
        fingerprint="harness_plugins.fusion:fingerprint",
        summary="weighted sum of other models' scores, each scaled to 0..1: linear(bm25,minilm):weights=0.3/0.7",
        options={"weights": Option(None, "one number per member, slashes between; unset: equal"), "depth": DEPTH},
    )


def fingerprint(options: Options) -> dict[str, Any]:
    """The options and the revision of this arithmetic."""
    return {"implementation": IMPLEMENTATION, "options": dict(options)}


def load_rrf(options: Options) -> Fusion:
    """Sum over members of 1 / (k + rank), ranks from 1; k = 60 (Cormack, Clarke and Buettcher, SIGIR 2009)."""
    k = float(options["k"] or 0)
    return Sum(int(options["depth"] or 0), lambda member, hits: 1 / (k + np.arange(1, len(hits.rows) + 1)))


def load_linear(options: Options) -> Fusion:
    """Weighted sum over members of min-max normalised scores: weight x (score - min) / (max - min) per query.

    Documents that a member did not find get 0 from it, like its last hit; equal scores all get 1.
    """
    try:
        given = [float(text) for text in str(options["weights"]).split("/")] if options["weights"] else []
    except ValueError:
        given = [-1.0]
    if given and not (np.isfinite(given).all() and min(given) >= 0 and sum(given) > 0):
        raise UserError(
            f"The weights {options['weights']!r} are not numbers from 0 up; write them as in weights=0.3/0.7."
        )

    def share(member: int, hits: Hits) -> NDArray[np.float64]:
        low, high = hits.scores.min(initial=np.inf), hits.scores.max(initial=-np.inf)
        scaled = (hits.scores - low) / (high - low) if high > low else np.ones(len(hits.scores))
        return (given[member] if given else 1.0) * scaled

    return Sum(int(options["depth"] or 0), share, len(given))


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds up each member's contribution to a document."""

    depth: int
    share: Callable[[int, Hits], NDArray[np.float64]]
    """(member's index, its hits) -> contribution of each hit, float64."""
    weights: int = 0
    """Number of weights given; 0 for none."""

    def fuse(self, lists: Sequence[Hits]) -> Hits:
        """All documents found by any member, best first."""
        if self.weights not in (0, len(lists)):
            raise UserError(f"linear has {self.weights} weights for {len(lists)} models; give one for each.")
        rows, place = np.unique(np.concatenate([hits.rows for hits in lists]), return_inverse=True)
        shares = np.zeros((len(rows), len(lists)))
        ends = np.cumsum([len(hits.rows) for hits in lists])
        for member, (hits, where) in enumerate(zip(lists, np.split(place, ends[:-1]), strict=True)):
            shares[where, member] = self.share(member, hits)
        sums = shares.sum(axis=1)
        order = np.argsort(-sums, kind="stable")
        return Hits(rows[order], _tied(sums[order]))


def _tied(falling: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace each sum by the greatest of its tie. Ties do not chain: all are within `TIE` of the greatest."""
    leads = np.diff(falling, prepend=np.inf) < -TIE
    edges = np.append(np.flatnonzero(leads), len(falling))
    chains = np.flatnonzero(falling[edges[:-1]] - falling[edges[1:] - 1] > TIE)
    for start, end in zip(edges[chains].tolist(), edges[chains + 1].tolist(), strict=True):
        while falling[start] - falling[end - 1] > TIE:
            start += int(np.searchsorted(falling[start] - falling[start:end], TIE, side="right"))
            leads[start] = True
    return np.asarray(falling[leads][np.cumsum(leads) - 1])
