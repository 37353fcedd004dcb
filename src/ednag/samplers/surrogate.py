"""A cheap model of what a run has evaluated: one exact Gaussian process a run, batched, without any training.

The kernel is stationary in one-hot genes and in the optional features of the space
(:meth:`ednag.spaces.SearchSpace.features`),

    k(x, x') = exp(-w_h |h(x) - h(x')|^2 - w_F |F(x) - F(x')|^2),

with ``w`` such that two random architectures are ``gene_scale`` and ``feature_scale`` apart on average: the scales mean
the same in any space. The target is a function of ranks (:func:`rank_target`), so that any increasing transformation of
the fitness gives the same model. So does the optional prior (:class:`Prior`), which becomes the process's mean.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.spaces import SearchSpace


class Score(Protocol):
    """A score of architectures known before any is evaluated, such as a fitness that costs nothing."""

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes, int64 ``(*B, L)``: ``(*B,)``, higher is better, ``-inf`` where ``valid``, bool, is false."""


class Prior:
    """A score known beforehand, put on the scale of :func:`rank_target`: only the order it gives matters.

    The score is ranked among those of 1,024 random valid architectures, always the same. If a run is to be the same
    alone and in a batch, the score of an architecture must not depend on what else is scored with it.

    Args:
        score: such as a fitness that costs nothing; NaN is worst.
        space: what the genes mean.
        device: where genes arrive.
    """

    def __init__(self, score: Score, space: SearchSpace, device: torch.device | str = "cpu") -> None:
        self.score, self.space = score, space
        some = _random_valid(space).to(device)[None]
        self._reference = self._scored(some, space.valid(some))[0].sort().values.contiguous()
        shape = self._shape(self._reference)
        self._centre, self._spread = shape.mean(), shape.std(correction=0).clamp(min=1e-6)

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)``: float64 ``(R, N)``, zero mean and unit variance over random architectures."""
        return (self._shape(self._scored(genes, valid)) - self._centre) / self._spread

    def _scored(self, genes: Tensor, valid: Tensor) -> Tensor:
        return self.score(genes, valid).double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def _shape(self, score: Tensor) -> Tensor:
        """``-log`` of the share of random architectures that are better, ties counted half."""
        n = len(self._reference)
        score = score.contiguous()
        upto = torch.searchsorted(self._reference, score, right=True)
        below = torch.searchsorted(self._reference, score)
        return -((n - (upto + below) / 2 + 0.5) / (n + 0.5)).log()


def _random_valid(space: SearchSpace) -> Tensor:
    """Random valid architectures of a space, up to 1,024, always the same, int64 ``(n, L)``."""
    genes = space.random(Noise([0]), 1024)[0]
    valid = space.valid(genes)
    return genes[valid] if int(valid.sum()) > 1 else genes


class GaussianProcess:
    """Exact Gaussian-process regression on the archive, with a fixed kernel and a profiled signal variance.

    Args:
        gene_scale: mean exponent of the gene part of the kernel between two random architectures, >= 0.
        feature_scale: the same for the features of the space, >= 0.
        nugget: noise variance relative to the signal's, > 0.
        beta: deviations added to the mean by :meth:`score`, >= 0.
        features: whether to use the features of the space.
        trust: coefficient that a :class:`Prior` is expected to have as the mean of the process, before any evaluation.
        certainty: how strongly, >= 0: the coefficient is ``N(trust, signal variance / certainty)``. Members inform it
            with a weight of about 2 each, so that 20 is worth about ten evaluations.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> model, space = GaussianProcess(), NASBench201()
        >>> genes = torch.tensor([[[0] * 6, [3] * 6]])
        >>> known, member = model.embed(space, genes), torch.ones(1, 2, dtype=torch.bool)
        >>> target = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
        >>> score = model.score(space, known, target, member, known)
        >>> bool(score[0, 1] > score[0, 0])
        True
    """

    def __init__(
        self,
        gene_scale: float = 0.25,
        feature_scale: float = 0.21,
        nugget: float = 0.1,
        beta: float = 1.2,
        features: bool = True,
        trust: float = 0.5,
        certainty: float = 20.0,
    ) -> None:
        if gene_scale < 0 or feature_scale < 0 or nugget <= 0 or beta < 0:
            raise ValueError(
                f"need gene_scale, feature_scale, beta >= 0 and nugget > 0; "
                f"got {gene_scale}, {feature_scale}, {beta} and {nugget}"
            )
        self.gene_scale, self.feature_scale = gene_scale, feature_scale
        if certainty < 0:
            raise ValueError(f"certainty must be >= 0, got {certainty}")
        self.nugget, self.beta, self.features = nugget, beta, features
        self.trust, self.certainty = trust, certainty
        self._weights: tuple[SearchSpace, Tensor] | None = None

    def embed(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, L)``, as one-hot genes and features: integers, float32 ``(*B, L max C + F)``."""
        values = torch.arange(max(space.cardinalities), device=genes.device)
        hot = (genes[..., None] == values).flatten(-2).float()
        return torch.cat([hot, space.features(genes).float()], -1) if self.features else hot

    def weights(self, space: SearchSpace) -> Tensor:
        """``w`` of each column of :meth:`embed`, float32 ``(D,)``, multiples of 2^-20.

        They come from the mean squared distances of 1,024 random valid architectures, always the same.
        """
        if self._weights is None or self._weights[0] is not space:
            spread = 2 * self.embed(space, _random_valid(space)).double().var(0, correction=0)
            hot = space.num_genes * max(space.cardinalities)
            scales = (self.gene_scale, self.feature_scale)
            parts = [
                torch.full_like(part, scale / max(float(part.sum()), 1e-6))
                for part, scale in zip((spread[:hot], spread[hot:]), scales, strict=True)
            ]
            self._weights = (space, ((torch.cat(parts) * 2**20).round() / 2**20).float())
        return self._weights[1]

    def kernel(self, space: SearchSpace, a: Tensor, b: Tensor, member: Tensor) -> Tensor:
        """Kernel between two sets of architectures, below 1e-26 where the second is not a member.

        The exponent is a sum of multiples of 2^-20, exact in float32 in any order (while below 16).

        Args:
            space: what the genes mean.
            a: see :meth:`embed`, ``(R, N, D)``.
            b: ``(R, M, D)``.
            member: bool ``(R, M)``.

        Returns:
            float64 ``(R, N, M)``, in ``[0, 1]``.
        """
        weights = self.weights(space).to(a.device)
        left, right = a * (2 * weights), b * weights
        left_norm = -(left * a).sum(-1, keepdim=True) / 2
        right_norm = -(right * b).sum(-1, keepdim=True).where(member[..., None], 64.0)
        left = torch.cat([left, left_norm, torch.ones_like(left_norm)], -1)
        right = torch.cat([b, torch.ones_like(right_norm), right_norm], -1)
        return (left @ right.mT).double().exp_()

    def predict(
        self,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        asked: Tensor,
        prior: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Regress; with a prior, on what a multiple of it leaves.

        The multiple is the posterior mean of its coefficient, so that a prior that contradicts the evaluations fades.

        Args:
            space: what the genes mean.
            known: the evaluated architectures, see :meth:`embed`, ``(R, M, D)``.
            target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
            member: which of them count, bool ``(R, M)``.
            asked: architectures to predict, ``(R, N, D)``.
            prior: what a :class:`Prior` says of ``known`` and of ``asked``, float64 ``(R, M)`` and ``(R, N)``.

        Returns:
            mean and standard deviation of the noise-free value, float64 ``(R, N)``.
        """
        covariance = self.kernel(space, known, known, member) * member[..., None]
        covariance.diagonal(dim1=-2, dim2=-1).copy_(1 + self.nugget * member.double())
        factor = torch.linalg.cholesky_ex(covariance).L
        v = torch.linalg.solve_triangular(factor, self.kernel(space, asked, known, member).mT, upper=False)
        b = torch.linalg.solve_triangular(factor, target[..., None], upper=False)
        shift: Tensor | float = 0.0
        if prior is not None:
            centre = (prior[0] * member).sum(-1, keepdim=True) / member.sum(-1, keepdim=True).clamp(min=1)
            p = torch.linalg.solve_triangular(factor, ((prior[0] - centre) * member)[..., None], upper=False)
            share = (self.trust * self.certainty + (p * b).sum(-2)) / (self.certainty + p.square().sum(-2)).clamp(
                min=1e-9
            )
            b, shift = b - share[..., None] * p, share * (prior[1] - centre)
        signal = (b.square().sum((-2, -1)) / member.sum(-1).clamp(min=1)).sqrt()
        left = (1 - torch.linalg.vector_norm(v, dim=-2).square()).clamp(min=1e-6)
        return (v.mT @ b).squeeze(-1) + shift, signal[:, None] * left.sqrt()

    def score(
        self,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        asked: Tensor,
        prior: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Upper confidence bound, float64 ``(R, N)``; see :meth:`predict`.

        Rounded to 2^-20, far above rounding errors and far below anything that matters: scores that are equal in exact
        arithmetic are equal, however the batch is laid out.
        """
        mean, deviation = self.predict(space, known, target, member, asked, prior)
        return ((mean + self.beta * deviation) * 2**20).round() / 2**20


def rank_target(rank: Tensor, member: Tensor) -> Tensor:
    """Exponential scores of ranks, ``-log((rank + 1/2) / m)``, standardised: only the top stands out.

    Args:
        rank: 0 is best, float64 ``(R, M)``.
        member: which entries count, bool ``(R, M)``; ``m`` a run.

    Returns:
        float64 ``(R, M)``: zero mean and unit variance over the members of a run, 0 elsewhere (and where all tie).
    """
    m = member.sum(-1, keepdim=True).clamp(min=1)
    return standardise(-((rank + 0.5) / m).log(), member)


def standardise(values: Tensor, member: Tensor) -> Tensor:
    """Shift and scale the members of each run to zero mean and unit variance.

    Args:
        values: float64 ``(R, M)``; those of no member are not looked at.
        member: which entries count, bool ``(R, M)``.

    Returns:
        float64 ``(R, M)``, 0 if no member is (and everywhere if all members of a run tie).
    """
    m = member.sum(-1, keepdim=True).clamp(min=1)
    z = torch.where(member, values, 0.0)
    z = torch.where(member, z - z.sum(-1, keepdim=True) / m, 0.0)
    deviation = (z.square().sum(-1, keepdim=True) / m).sqrt()
    return z / deviation.clamp(min=1e-6)
