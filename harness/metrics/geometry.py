"""Geometry of a set of vectors, from one streaming pass: how evenly it fills its space.

`Moments` is the state, `panel` the figures.
Notation in `DEFINITIONS`: n vectors of d dimensions; l the d eigenvalues of their covariance S (mean removed, divided
by n - 1), p = l / sum(l); u the vectors scaled to length 1. Vectors are taken as given unless a definition says
otherwise. A figure that is undefined (0/0) is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.moments import Floats, Moments, collect
from harness.system.blas import single_threaded

Figures = dict[str, Any]

DEFINITIONS = {
    "isotropy": "1 - std(l)/mean(l), population std; from 1 - sqrt(d - 1) to 1 (all equal); depends on n and d",
    "isotropy_ceiling": "1 - sqrt(d/(n - 1)): what n draws of an isotropic Gaussian reach (Marchenko and Pastur 1967)",
    "isotropy_debiased": "isotropy freed of its dependence on n (Srivastava 2005, for Gaussian data); not clipped",
    "cv2_debiased": "estimate of (std(l)/mean(l))^2 of the population behind isotropy_debiased; below 0 by chance only",
    "participation_ratio": "sum(l)^2 / sum(l^2), from 1 to d",
    "isoscore": "(participation_ratio - 1)/(d - 1), which equals IsoScore (Rudman et al. 2022)",
    "mean_cosine": "over all pairs, exact: (|sum u|^2 - n)/(n(n - 1)); zero vectors left out (Ethayarajh 2019)",
    "one_minus_mean_cosine": "1 - mean_cosine",
    "uniformity": "log mean exp(-2|u - u'|^2) over the pairs of the sample (Wang and Isola 2020); isotropic: about -4",
    "partition_function": "min Z(c)/max Z(c), Z(c) = sum exp(c.x/norm_mean) over the sample, c over + and - the "
    "eigenvectors of the second moment X'X of all vectors (Mu and Viswanath 2018)",
    "effective_rank": "exp(entropy of p), p from the eigenvalues of the covariance, from 1 to d",
    "roy_vetterli": "exp(entropy of s/sum(s)), s the singular values of the uncentred vectors (Roy and Vetterli 2007)",
    "top1_share": "p of the largest eigenvalue",
    "top10_share": "p of the ten largest eigenvalues",
    "dims_90": "how many of the largest eigenvalues hold 90 % of the variance",
    "norm_mean": "mean length",
    "norm_cv": "population std of the lengths / mean length",
    "eigenvalues": "l, descending, six significant digits",
}
"""Figure -> its definition and source."""


def measure_geometry(blocks: Iterable[NDArray[np.float32]], n: int) -> Figures:
    """`panel` of n vectors that come in blocks [m, d], in one pass."""
    return panel(*collect(blocks, n))


@single_threaded()
def panel(moments: Moments, sample: NDArray[np.float32], *, normalised: bool | None = None) -> Figures:
    """Every figure of `DEFINITIONS`, with n, d and under ``"definitions"`` how they were taken; JSON-able, no NaN.

    ``sample`` [s, d] are some of the vectors. ``normalised`` records whether the model scales its vectors to length 1;
    None: told from the lengths (mean and spread within 1e-3 of 1 and 0).
    """
    n, d = moments.n, len(moments.mean)
    figures: Figures = {"n": n, "d": d} | dict.fromkeys(DEFINITIONS)
    if n:
        figures["norm_mean"] = moments.norm_mean
    if moments.norm_mean > 0:
        figures["norm_cv"] = math.sqrt(moments.norm_scatter / n) / moments.norm_mean
        figures |= _directions(moments, sample)
    if n > 1:
        figures |= _spectrum(_eigenvalues(np.linalg.eigvalsh(moments.scatter / (n - 1))), n)
    if normalised is None:
        normalised = abs(moments.norm_mean - 1) < 1e-3 and (figures["norm_cv"] or 0) < 1e-3
    figures["definitions"] = {
        "sample": len(sample),
        "sampling": "rows evenly spaced in corpus order",
        "centring": "mean removed for the covariance figures; none for cosine, uniformity, partition and roy_vetterli",
        "normalisation": "vectors as the model gives them; partition_function divides by norm_mean",
        "normalised": bool(normalised),
        "zero_vectors": moments.zeros,
    }
    return figures


def _eigenvalues(rising: NDArray[np.floating[Any]]) -> Floats:
    """Descending; what is below the rounding error of the decomposition (d eps max) is 0."""
    falling = rising[::-1].astype(np.float64)
    falling[falling < len(falling) * np.finfo(np.float64).eps * falling[0]] = 0
    return falling.clip(min=0)


def _effective_rank(values: Floats) -> float:
    shares = values[values > 0] / values.sum()
    return math.exp(-float(shares @ np.log(shares)))


def _spectrum(values: Floats, n: int) -> Figures:
    """Figures of the eigenvalues [d], descending, of the covariance of n > 1 vectors."""
    d, total, squares = len(values), float(values.sum()), float(values @ values)
    figures: Figures = {"eigenvalues": [float(f"{value:.5e}") for value in values]}
    if d > 1:
        figures["isotropy_ceiling"] = 1 - math.sqrt(d / (n - 1))
    if not squares:
        return figures
    ratio = total**2 / squares
    figures |= {
        "isotropy": 1 - float(values.std() / values.mean()),
        "participation_ratio": ratio,
        "isoscore": (ratio - 1) / (d - 1) if d > 1 else None,
        "effective_rank": _effective_rank(values),
        "top1_share": float(values[0]) / total,
        "top10_share": float(values[:10].sum()) / total,
        "dims_90": int(np.searchsorted(np.cumsum(values), (0.9 - 1e-12) * total)) + 1,
    }
    if n > 2:
        m = n - 1
        trace_of_square = m**2 * (squares - total**2 / m)  # both times (m - 1)(m + 2)
        square_of_trace = m * ((m + 1) * total**2 - 2 * squares)
        cv2 = d * trace_of_square / square_of_trace - 1
        figures["cv2_debiased"] = cv2
        figures["isotropy_debiased"] = 1 - math.copysign(math.sqrt(abs(cv2)), cv2)
    return figures


def _directions(moments: Moments, sample: NDArray[np.float32]) -> Figures:
    """Figures of the uncentred vectors, not all of which are 0."""
    figures: Figures = {}
    directed = moments.n - moments.zeros
    if directed > 1:
        cosine = (float(moments.unit_sum @ moments.unit_sum) - directed) / (directed * (directed - 1))
        figures |= {"mean_cosine": cosine, "one_minus_mean_cosine": 1 - cosine}
    rising, axes = np.linalg.eigh(moments.scatter + moments.n * np.outer(moments.mean, moments.mean))
    figures["roy_vetterli"] = _effective_rank(np.sqrt(_eigenvalues(rising)))
    rows = sample.astype(np.float64)
    figures["partition_function"] = _partition(rows / moments.norm_mean, axes) if len(rows) else None
    norms = np.linalg.norm(rows, axis=1)
    units = rows[norms > 0] / norms[norms > 0, None]
    if len(units) > 1:
        closeness = np.exp(4 * (units @ units.T) - 4)  # |u - u'|^2 = 2 - 2 u.u'
        np.fill_diagonal(closeness, 0)
        figures["uniformity"] = math.log(closeness.sum() / (len(units) * (len(units) - 1)))
    return figures


def _partition(rows: Floats, axes: Floats) -> float:
    """min Z / max Z over + and - the columns of ``axes`` [d, d], through logarithms: exp would overflow."""
    logits = rows @ axes
    both = np.concatenate([logits, -logits], axis=1)
    top = both.max(axis=0)
    logs = top + np.log(np.exp(both - top).sum(axis=0))
    return math.exp(logs.min() - logs.max())
