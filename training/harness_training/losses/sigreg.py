"""SIGReg: how far a batch of embeddings is from a standard Gaussian, by its characteristic function along slices.

Balestriero & LeCun, "LeJEPA" (arXiv 2511.08544), sec. 4.2-5.1. For embeddings z_1..z_N in R^d and unit vectors a_1..a_M
drawn again at every step, with s_i = a.z_i and phi(t) = exp(-t^2/2)::

    T(a) = N * Int |(1/N) sum_i exp(i t s_i) - phi(t)|^2 exp(-t^2/2) dt          (Epps & Pulley 1983)
    SIGReg = mean over slices of T(a)

Samples are not standardised: mean 0 and variance 1 are part of the target. For Gaussian samples E[T] =
sqrt(2 pi) (1 - 1/sqrt 3) = 1.0594 for every N; T never reaches 0. If all samples coincide, T = 0.4089 N.

The value is T, as in the paper and in the authors' code: lambda of (1 - lambda) task + lambda SIGReg is an added weight
of lambda/(1 - lambda). Away from the target T grows with N while its gradient per sample does not, and a task loss that
is a mean over the batch has gradients per sample of order 1/N, so that a weight acts more strongly in a larger batch.
``normalise`` gives T/N, for which that is not so; a weight of it is N times that of T.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness_training.losses.collectives import gather_rows, row_counts, sum_over_ranks
from harness_training.losses.precision import full_precision
from harness_training.losses.sphere import gaussian_kernel

CHUNK_ELEMENTS = 1 << 22
"""Maximum rows times slices at a time (16 MB in float32)."""
CPU_CHUNK_ELEMENTS = 1 << 16
"""The same on a CPU, where they stay in its cache."""


class Quadrature(NamedTuple):
    """Trapezoid rule on [-reach, reach] with ``knots`` equidistant points, including 0."""

    reach: float
    knots: int


PAPER = Quadrature(5.0, 17)
"""Algorithm 1 of the paper."""
REPOSITORY = Quadrature(3.0, 33)
"""The authors' code: 17 points on [0, 3], doubled by symmetry."""


def unit_slices(count: int, dim: int, step: int, seed: int = 0) -> Tensor:
    """float32 [count, dim] on the CPU: directions uniform on the sphere, the same in every process for a step.

    GPU generators give different numbers. Torch's CPU generator uses 32 bits of the seed, hence the hash of
    (seed, step).
    """
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


@full_precision
def sliced_sigreg(
    embeddings: Tensor,
    slices: Tensor,
    *,
    quadrature: Quadrature = PAPER,
    unbiased: bool = False,
    normalise: bool = False,
) -> Tensor:
    """SIGReg of embeddings [N, d] along unit slices [M, d], over the joined batch when processes train together.

    ``unbiased``: the U-statistic without the pairs (i, i); its expectation is 0 for Gaussian samples.
    ``normalise``: T/N instead of T.
    """
    directions = torch.nn.functional.normalize(slices.to(embeddings), dim=1)
    return _statistic(embeddings, directions, quadrature, unbiased, normalise)


def _statistic(
    embeddings: Tensor, directions: Tensor, quadrature: Quadrature, unbiased: bool, normalise: bool
) -> Tensor:
    """`sliced_sigreg` along directions of norm 1 in the precision of the embeddings."""
    knots, weights = _half_line(quadrature, embeddings)
    count = sum(row_counts(embeddings))
    sums: Tensor = _CharacteristicSums.apply(embeddings, directions, knots)  # type: ignore[no-untyped-call]
    real, imaginary = sum_over_ranks(sums) / count
    phi = torch.exp(-knots.square() / 2)[:, None]
    distance = (real - phi).square() + imaginary.square()
    if unbiased:
        distance = distance + (real.square() + imaginary.square() - 1) / (count - 1)
    value: Tensor = (weights @ distance).mean()
    return value if normalise else count * value


@full_precision
def exact_sigreg(embeddings: Tensor, *, unbiased: bool = False, normalise: bool = False) -> Tensor:
    """The limit of `sliced_sigreg` for infinitely many slices and knots, for embeddings [N, d]; computed in float64.

    With k_d(x) = 1F1(1/2; d/2; -x), the mean of exp(-x u^2) over u = a.e, a uniform on the sphere::

        T = sqrt(2 pi)/N sum_ij k(|z_i-z_j|^2/2) - 2 sqrt(pi) sum_i k(|z_i|^2/4) + N sqrt(2 pi/3)

    Costs N^2 d instead of N M d: cheaper for small batches, and without the noise of slices (about 0.93 per slice).
    """
    rows = gather_rows(embeddings).double()
    count, dim = rows.shape
    norms = rows.square().sum(1)
    distances = (norms[:, None] + norms - 2 * rows @ rows.T).clamp_min(0).fill_diagonal_(0)
    pairs = gaussian_kernel(distances / 2, dim).sum()
    mean_pair = (pairs - count) / (count * (count - 1)) if unbiased else pairs / count**2
    mean_single = gaussian_kernel(norms / 4, dim).mean()
    value = math.sqrt(2 * math.pi) * (mean_pair - math.sqrt(2) * mean_single + 1 / math.sqrt(3))
    return (value if normalise else count * value).to(embeddings.dtype)


@dataclass(frozen=True, slots=True)
class SIGReg:
    """SIGReg as a regulariser: ``SIGReg()(embeddings [N, d], step)`` -> scalar."""

    slices: int = 1024
    """Directions per step; 0 for the exact form."""
    quadrature: Quadrature = PAPER
    unbiased: bool = False
    normalise: bool = False
    seed: int = 0

    def __call__(self, embeddings: Tensor, step: int) -> Tensor:
        """The statistic; ``step`` seeds the slices and must be the same in every process."""
        if not self.slices:
            return exact_sigreg(embeddings, unbiased=self.unbiased, normalise=self.normalise)
        return self._sliced(embeddings, step)

    @full_precision
    def _sliced(self, embeddings: Tensor, step: int) -> Tensor:
        dim, device, dtype = embeddings.shape[1], embeddings.device, embeddings.dtype
        directions = _directions(self.slices, dim, step, self.seed, device, dtype)
        return _statistic(embeddings, directions, self.quadrature, self.unbiased, self.normalise)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # else an evaluation in inference mode would leave a tensor that training cannot use
def _directions(count: int, dim: int, step: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`unit_slices` with norm 1 in this precision, made once for all columns of a step."""
    slices = unit_slices(count, dim, step, seed).to(device, dtype)
    return torch.nn.functional.normalize(slices, dim=1)


def _half_line(quadrature: Quadrature, like: Tensor) -> tuple[Tensor, Tensor]:
    """Positive knots [K] and their weights with the window, doubled by symmetry; 0 adds nothing (phihat(0) = 1)."""
    half = quadrature.knots // 2
    width = quadrature.reach / half
    knots = torch.arange(1, half + 1, dtype=torch.float64) * width
    weights = 2 * width * torch.exp(-knots.square() / 2)
    weights[-1] /= 2
    return knots.to(like), weights.to(like)


class _CharacteristicSums(torch.autograd.Function):
    """Sums over samples of cos(t s) and sin(t s): [2, K, M] from x [N, d], slices [M, d] and knots [K] = t, 2t, 3t...

    Projections are recomputed in the backward pass, a few slices at a time, so nothing of size N x M x K is stored.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slices: Tensor, knots: Tensor) -> Tensor:
        ctx.save_for_backward(x, slices, knots)
        sums = x.new_empty(2, len(knots), len(slices))
        for part in _parts(x, slices):
            for k, (cos, sin) in enumerate(_multiples(x @ slices[part].T * knots[0], len(knots))):
                sums[0, k, part] = cos.sum(0)
                sums[1, k, part] = sin.sum(0)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, slices, knots = ctx.saved_tensors
        real, imaginary = gradients[0] * knots[:, None]
        gradient = torch.zeros_like(x)
        for part in _parts(x, slices):
            angle = x @ slices[part].T * knots[0]
            along = torch.zeros_like(angle)
            for k, (cos, sin) in enumerate(_multiples(angle, len(knots))):
                along.addcmul_(imaginary[k, part], cos).addcmul_(real[k, part], sin, value=-1)
            gradient.addmm_(along, slices[part])
        return gradient, None, None


def _multiples(angle: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """cos(k angle) and sin(k angle) for k = 1 to count, by the addition theorem: one evaluation of each function."""
    one_cos, one_sin = cos, sin = angle.cos(), angle.sin()
    yield cos, sin
    for _ in range(count - 1):
        next_cos = (cos * one_cos).addcmul_(sin, one_sin, value=-1)
        next_sin = (sin * one_cos).addcmul_(cos, one_sin)
        cos, sin = next_cos, next_sin
        yield cos, sin


def _parts(x: Tensor, slices: Tensor) -> list[slice]:
    elements = CPU_CHUNK_ELEMENTS if x.device.type == "cpu" else CHUNK_ELEMENTS
    size = max(1, elements // max(1, len(x)))
    return [slice(start, start + size) for start in range(0, len(slices), size)]
