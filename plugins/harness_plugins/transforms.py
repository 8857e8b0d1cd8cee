"""Post-hoc transforms of a model's vectors: mean removal, partial or full whitening, principal components.

All are fitted on the documents of the evaluated dataset (transductive, unsupervised). Whitening is unique up to a
rotation, which changes no distance; the symmetric (ZCA) one stays closest to the original vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import Affine, ModelSpec, Option, PluginError, Transform, UserError, hookimpl
from harness.types import Options, Similarity

Floats = NDArray[np.float64]
IMPLEMENTATION = 1
SIMILARITY = Option(
    "member",
    "how the new vectors are compared; member: as the member's are",
    choices=("member", "euclidean", "cosine", "dot"),
)


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the three transforms."""
    exponent = Option(1.0, "0 removes the mean alone, 1 makes all variances 1", minimum=0, maximum=2)
    kinds: tuple[tuple[str, str, dict[str, Option]], ...] = (
        ("center", "the mean of the documents removed: center(minilm)", {}),
        ("whiten", "mean removed, variances evened out: whiten(minilm):exponent=0.5", {"exponent": exponent}),
        (
            "pca",
            "mean removed, the first principal components kept: pca(minilm):dim=128",
            {"dim": Option(128, "how many", minimum=1)},
        ),
    )
    for name, summary, options in kinds:
        yield ModelSpec(
            name=name,
            kind="transform",
            load=f"harness_plugins.transforms:load_{name}",
            fingerprint="harness_plugins.transforms:fingerprint",
            summary=summary,
            options={**options, "similarity": SIMILARITY},
        )


def fingerprint(options: Options) -> dict[str, Any]:
    """The options, the revision of this arithmetic and the data it is fitted on."""
    return {"implementation": IMPLEMENTATION, "options": dict(options), "fitted_on": "the dataset's documents"}


def load_center(options: Options) -> Transform:
    """X -> x - mean."""
    return Center(_similarity(options))


def load_whiten(options: Options) -> Transform:
    """X -> (x - mean) V diag(l)^(-exponent/2) V' with V, l the eigenvectors and eigenvalues of the covariance.

    Directions without variance are dropped; no ranking depends on them.
    """
    return Whiten(_similarity(options), float(options["exponent"] or 0))


def load_pca(options: Options) -> Transform:
    """X -> (x - mean) times the eigenvectors of the covariance with the largest eigenvalues."""
    return PrincipalComponents(_similarity(options), int(options["dim"] or 0))


def _similarity(options: Options) -> Similarity | None:
    given = options["similarity"]
    return None if given == "member" else given  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Center:
    """Mean removal."""

    similarity: Similarity | None

    def fit(self, mean: Floats, covariance: Floats) -> Affine:
        """X -> x - mean."""
        return _about(mean, np.eye(len(mean)))


@dataclass(frozen=True, slots=True)
class Whiten:
    """Full or partial whitening."""

    similarity: Similarity | None
    exponent: float

    def fit(self, mean: Floats, covariance: Floats) -> Affine:
        """See `load_whiten`."""
        if not self.exponent:  # exact, without the rounding of V V'
            return _about(mean, np.eye(len(mean)))
        values, axes = _axes(mean, covariance)
        if not values[0]:
            raise PluginError("the documents' vectors are all alike, so there is no variance to even out")
        scale = np.power(values, -self.exponent / 2, out=np.zeros_like(values), where=values > 0)
        return _about(mean, (axes * scale) @ axes.T)


@dataclass(frozen=True, slots=True)
class PrincipalComponents:
    """Principal components."""

    similarity: Similarity | None
    dim: int

    def fit(self, mean: Floats, covariance: Floats) -> Affine:
        """See `load_pca`."""
        if self.dim > len(mean):
            raise UserError(
                f"pca cannot keep {self.dim} of {len(mean)} dimensions; type pca(...):dim={len(mean)} at most."
            )
        values, axes = _axes(mean, covariance)
        return _about(mean, (axes * (values > 0))[:, : self.dim])


def _about(mean: Floats, matrix: Floats) -> Affine:
    return Affine(matrix, -mean @ matrix)


def _axes(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues [d] in descending order, and eigenvectors [d, d] in columns.

    Eigenvalues below the rounding error of the decomposition or of float32 vectors are set to 0, because whitening
    would amplify that noise.
    """
    rising, axes = np.linalg.eigh(covariance)
    values = rising[::-1].copy()
    largest = float((np.diag(covariance) + mean**2).max())
    noise = max(len(mean) * np.finfo(np.float64).eps * values[0], np.finfo(np.float32).eps ** 2 * largest)
    values[values <= noise] = 0
    return values, axes[:, ::-1]
