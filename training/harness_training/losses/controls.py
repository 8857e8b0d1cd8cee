"""Control regularisers: alternative explanations of SIGReg's gains. Each is a scalar of a batch [N, d], N >= 2."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness_training.losses.precision import full_precision


@full_precision
def mean_removal(embeddings: Tensor) -> Tensor:
    """|mean|^2 / d: the squared offset per dimension, without constraining the spectrum.

    Removing the mean alone is reported to improve retrieval ("Correcting Mean Bias in Text Embeddings", arXiv
    2511.11041); gains of SIGReg over this control have other causes. For N samples of unit variance its floor is 1/N.
    """
    return embeddings.mean(0).square().mean()


@full_precision
def uniformity(embeddings: Tensor) -> Tensor:
    """Log mean_{i<j} exp(-2 |u_i - u_j|^2), u = z/|z|: Wang & Isola (arXiv 2005.10242), eq. 4.2 with t = 2.

    Between 0 (one direction) and about -4 (uniform on the sphere, d large).
    """
    cosines = _pairs(normalize(embeddings, dim=1))
    return torch.logsumexp(4 * cosines - 4, dim=0) - math.log(len(cosines))


@full_precision
def spread_out(embeddings: Tensor) -> Tensor:
    """(mean_{i<j} c_ij)^2 + max(0, mean_{i<j} c_ij^2 - 1/d), c = cosines: global orthogonal regularisation.

    Zhang et al., "Learning Spread-out Local Feature Descriptors" (arXiv 1708.06320), eq. 5-7; used for EmbeddingGemma.
    """
    cosines = _pairs(normalize(embeddings, dim=1))
    return cosines.mean().square() + torch.relu(cosines.square().mean() - 1 / embeddings.shape[1])


@full_precision
def vicreg(embeddings: Tensor, covariance_weight: float = 0.04, target: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """(1/d) sum_j max(0, target - sqrt(Var_j + epsilon)) + covariance_weight (1/d) sum_{j != k} C_jk^2.

    Bardes, Ponce & LeCun, "VICReg" (arXiv 2105.04906), eq. 1-4, with their 25 : 1 of variance to covariance. With
    N < d the second term is mostly noise of size d/N. The mean is unconstrained.
    """
    dim = embeddings.shape[1]
    covariance = torch.cov(embeddings.T).reshape(dim, dim)
    variances = covariance.diagonal()
    hinge = torch.relu(target - torch.sqrt(variances + epsilon)).mean()
    off_diagonal = (covariance.square().sum() - variances.square().sum()) / dim
    return hinge + covariance_weight * off_diagonal


def _pairs(units: Tensor) -> Tensor:
    """Products of every unordered pair of rows: [N (N - 1) / 2]."""
    first, second = torch.triu_indices(len(units), len(units), offset=1, device=units.device)
    return (units @ units.T)[first, second]
