"""Geometry of a set of vectors from one streaming pass (`panel`), and hubness of the rankings (`Hubness`).

Notation in `DEFINITIONS`: n vectors of d dimensions; l the d eigenvalues of their covariance S (mean removed, divided
by n - 1), p = l / sum(l); u the vectors scaled to length 1. Vectors are taken as given unless a definition says
otherwise. An undefined value (0/0) is None, never NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.moments import Floats, Moments, collect
from harness.system.blas import single_threaded
from harness.types import UserError

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
"""Name -> definition and source."""
HUBNESS_DEPTH = 10


def check_vectors(array: NDArray[Any], what: str) -> None:
    """UserError unless the array holds finite float vectors, one per row; ``what`` begins the message."""
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise UserError(
            f"{what} holds an array of shape {array.shape} and type {array.dtype}; "
            f"save float vectors, one per row [n, d], at least one."
        )
    if not np.isfinite(array).all():
        raise UserError(f"{what} holds NaN or infinite values; drop those rows first.")


def measure_geometry(blocks: Iterable[NDArray[np.float32]], n: int) -> Figures:
    """Compute the `panel` of n vectors given as blocks [m, d], in one pass."""
    return panel(*collect(blocks, n))


@single_threaded()
def panel(moments: Moments, sample: NDArray[np.float32], *, normalised: bool | None = None) -> Figures:
    """Compute all values of `DEFINITIONS`.

    Args:
        moments: moments of all vectors.
        sample: float32 [s, d], some of the vectors.
        normalised: whether the model scales its vectors to length 1; None to decide from the lengths (mean and spread
            within 1e-3 of 1 and 0).

    Returns:
        The values, n, d and under ``"definitions"`` how they were computed. JSON-serialisable, without NaN.
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
    """The eigenvalues in descending order; those below the rounding error of the decomposition (d eps max) are 0."""
    falling = rising[::-1].astype(np.float64)
    falling[falling < len(falling) * np.finfo(np.float64).eps * falling[0]] = 0
    return falling.clip(min=0)


def _effective_rank(values: Floats) -> float:
    shares = values[values > 0] / values.sum()
    return math.exp(-float(shares @ np.log(shares)))


def _spectrum(values: Floats, n: int) -> Figures:
    """Values from the eigenvalues [d], descending, of the covariance of n > 1 vectors."""
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
    """Values from the uncentred vectors, not all of which are 0."""
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
    """Min Z / max Z over + and - the columns of ``axes`` [d, d], computed with logarithms, as exp would overflow."""
    logits = rows @ axes
    both = np.concatenate([logits, -logits], axis=1)
    top = both.max(axis=0)
    logs = top + np.log(np.exp(both - top).sum(axis=0))
    return math.exp(logs.min() - logs.max())


class Hubness:
    """Hubness of a run: how unevenly documents share the top ranks.

    N_k of a document is the number of queries with it among their k best (its k-occurrence; Radovanovic, Nanopoulos and
    Ivanovic, JMLR 2010). A few hubs and many antihubs make its distribution skewed. Memory grows with k times the
    number of queries, not with the corpus.
    """

    def __init__(self, k: int = HUBNESS_DEPTH):
        self.k = k
        self._counts: Counter[str] = Counter()

    def add(self, doc_ids: Sequence[str]) -> None:
        """Count the first k documents of a query; ``doc_ids`` are sorted by rank."""
        self._counts.update(doc_ids[: self.k])

    def summary(self, n_documents: int, queries: int) -> dict[str, float | int | None]:
        """Summarise the counts.

        Returns:
            ``skewness`` of N_k over the whole corpus (population form; None if all counts are equal), the share of
            queries with the most frequent document in their top k, and the share of documents in no top k (antihubs).
        """
        if n_documents < len(self._counts):
            raise ValueError(f"{len(self._counts)} documents were retrieved from a corpus of {n_documents}")
        sizes = Counter(self._counts.values())
        sizes[0] = n_documents - len(self._counts)
        mean = self._counts.total() / n_documents if n_documents else 0.0
        second, third = (sum(times * (size - mean) ** power for size, times in sizes.items()) for power in (2, 3))
        return {
            "k": self.k,
            "queries": queries,
            "documents": n_documents,
            "skewness": third / n_documents / (second / n_documents) ** 1.5 if second else None,
            "largest_share": max(sizes) / queries if queries else None,
            "antihub_share": sizes[0] / n_documents if n_documents else None,
        }
