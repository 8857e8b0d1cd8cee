"""Mean and scatter of a set of vectors: the harness's moments against numpy's X.T @ X."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, figure
from benchmarks.runner.synthetic import vectors

EXACT = "numpy, float64"
ROWS = 1 << 14


def contests(plan: Plan) -> list[Contest]:
    """The only comparison."""
    count, dim = plan.pick(20_000, 500_000, 500_000), 768
    given = {"documents": str(vectors(plan, count, dim))}
    products = [
        Competitor(f"numpy, {dtype}", "benchmarks.peers.product:Product", {**given, "dtype": dtype}, packages=packages)
        for dtype, packages in (("float32", ("numpy",)), ("float64", ()))
    ]
    return [
        Contest(
            title=f"Moments of {count:,} x {dim}",
            competitors=[Competitor("harness", "benchmarks.contests.moments:Ours", given), *products],
            quality=_quality,
            rate=("vectors", count),
            notes=[
                "every competitor has its float32 vectors in memory; the harness also takes their lengths and looks "
                "for NaN, numpy computes X.T @ X and the mean and nothing else (in float64 by blocks)",
                f"isotropy: 1 - std/mean of the covariance's eigenvalues; difference: from {EXACT}'s",
            ],
        )
    ]


class Ours:
    """The harness's moments, as used for a benchmark's geometry."""

    def __init__(self, documents: str) -> None:
        import harness.metrics.moments

        self.vectors = np.load(documents, allow_pickle=False)
        self.moments = harness.metrics.moments.Moments

    def work(self) -> None:
        """One pass."""
        self.found = self.moments(self.vectors.shape[1])
        for start in range(0, len(self.vectors), ROWS):
            self.found.update(self.vectors[start : start + ROWS])

    def answer(self) -> dict[str, Any]:
        """The covariance [d, d]."""
        return {"covariance": self.found.scatter / (self.found.n - 1)}


def _quality(answers: Mapping[str, Answer]) -> Quality:
    isotropy = {}
    for name, answer in answers.items():
        values = np.linalg.eigvalsh(answer["covariance"].astype(np.float64))
        isotropy[name] = 1 - float(values.std() / values.mean())
    exact = isotropy.get(EXACT)
    return {
        name: {"isotropy": f"{value:.6f}"} | ({} if exact is None else {"difference": figure(value - exact, 8)})
        for name, value in isotropy.items()
    }
