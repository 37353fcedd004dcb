"""How noisy the fitness is and how far an architecture says something of others: what a run's members make likeliest."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.samplers.surrogate import GaussianProcess, noisy_factor
from ednag.spaces import SearchSpace

USUAL_NUGGET = 0.15
"""Noise variance, relative to the signal's, that is likeliest before any evaluation."""


def likeliest(
    process: GaussianProcess,
    space: SearchSpace,
    known: Tensor,
    target: Tensor,
    member: Tensor,
    noise: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose nugget and scale of each run by the marginal likelihood of its members (Rasmussen & Williams 2006, eq. 5.8).

    First the nugget at the scale chosen before, then the scale at this nugget. While members are few, log-normal priors
    around :data:`USUAL_NUGGET` and 1 decide.

    Args:
        process: what there is to choose from.
        space: what the genes mean.
        known: the evaluated architectures, see :meth:`GaussianProcess.embed`, ``(R, M, D)``.
        target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
        member: which of them count, bool ``(R, M)``.
        noise: see :meth:`GaussianProcess.predict`.
        scale: chosen before, float64 ``(R,)``; the first one if omitted.

    Returns:
        nugget and scale, float64 ``(R,)``, the first of equally likely ones.
    """
    nuggets, scales = (
        torch.tensor(of, dtype=torch.float64, device=known.device) for of in (process.nuggets, process.scales)
    )
    exponent = process.exponent(space, known, known, member)
    scale = scales[:1].expand(len(known)) if scale is None else scale

    def evidence(covariance: Tensor, nugget: Tensor) -> Tensor:
        return log_likelihood(noisy_factor(covariance, member, nugget, noise), target, member)

    nugget = nuggets[:1].expand(len(known))
    if len(nuggets) > 1:
        covariance = (exponent * scale[:, None, None]).exp_()
        likely = torch.stack([evidence(covariance.clone(), one.expand(len(known))) for one in nuggets], -1)
        nugget = nuggets[_best(likely - (nuggets / USUAL_NUGGET).log().square() / 2)]
    if len(scales) > 1:
        likely = torch.stack([evidence((exponent * one).exp_(), nugget) for one in scales], -1)
        scale = scales[_best(likely - scales.log().square() / 2)]
    return nugget, scale


def log_likelihood(factor: Tensor, target: Tensor, member: Tensor) -> Tensor:
    """Log marginal likelihood but for a constant, the signal's variance being the likeliest one, float64 ``(R,)``.

    Args:
        factor: Cholesky factor of the covariance relative to that variance, float64 ``(R, M, M)``.
        target: see :func:`likeliest`, ``(R, M)``.
        member: which of them count, bool ``(R, M)``; the other rows of ``factor`` are of the identity.
    """
    number = member.sum(-1)
    b = torch.linalg.solve_triangular(factor, target[..., None], upper=False)
    signal = b.square().sum((-2, -1)) / number.clamp(min=1)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    likelihood: Tensor = -number / 2 * signal.clamp(min=1e-9).log() - volume
    return likelihood


def _best(likely: Tensor) -> Tensor:
    """Place of the largest, ``(R, K)`` to ``(R,)``, whatever the batch made of the last bits."""
    return (likely * 2**16).round().argmax(-1)
