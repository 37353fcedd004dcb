"""A cheap model of what a run has evaluated: one exact Gaussian process a run, batched, without any training.

The kernel is stationary in one-hot genes and in the optional features of the space
(:meth:`ednag.spaces.SearchSpace.features`),

    k(x, x') = exp(-w_h |h(x) - h(x')|^2 - w_F |F(x) - F(x')|^2),

with ``w`` such that two random architectures are ``gene_scale`` and ``feature_scale`` apart on average: the scales mean
the same in any space. The target is a function of ranks (:func:`normal_scores`), so that any increasing transformation of
the fitness gives the same model. So do the optional priors (:class:`Prior`), of which the process's mean is a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ednag.samplers.calibration import random_valid
from ednag.samplers.expected import Expected
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings


class Prediction(NamedTuple):
    """What a process says of architectures.

    Attributes:
        mean: of the value, float64 ``(R, N)``.
        deviation: of the value without noise, float64 ``(R, N)``.
        luck: deviation that the nugget gives each value, float64 ``(R,)``.
    """

    mean: Tensor
    deviation: Tensor
    luck: Tensor


class Fitted(NamedTuple):
    """A process that has seen its members, ready to be asked; see :meth:`GaussianProcess.fit`.

    Attributes:
        process: whose kernel it has.
        facing: the members as the kernel's right-hand side, see :meth:`GaussianProcess.facing`, ``(R, M, D)``.
        member: which of them count, bool ``(R, M)``.
        factor: Cholesky factor of the covariance of their noisy values, float64 ``(R, M, M)``.
        weight: what each member adds to the mean, per unit of the kernel, float64 ``(R, M, 1)``.
        signal: deviation of the signal, float64 ``(R,)``.
        luck: deviation of the noise, float64 ``(R,)``.
        scale: see :meth:`GaussianProcess.kernel`, ``(R,)``; ``None`` for 1.
        centre: mean of the priors over members, float64 ``(R, 1, P)``; ``None`` if there are no priors.
        share: coefficients of the priors, float64 ``(R, P, 1)``; ``None`` likewise.
        expected: what is being evaluated, see :meth:`expecting`; ``None`` for nothing.
    """

    process: GaussianProcess
    facing: Tensor
    member: Tensor
    factor: Tensor
    weight: Tensor
    signal: Tensor
    luck: Tensor
    scale: Tensor | None
    centre: Tensor | None
    share: Tensor | None
    expected: Expected | None = None

    def expecting(self, space: SearchSpace, pending: Tensor, nugget: Tensor) -> Fitted:
        """Take into account what is being evaluated: the mean stays, and the deviation is what will be left of it.

        As if each had turned out as the mean says (the hallucinated observations of Desautels, Krause & Burdick 2014,
        "Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit optimization", section 4).

        Args:
            space: what the genes mean.
            pending: see :meth:`GaussianProcess.embed`, ``(R, P, D)``.
            nugget: as for :meth:`GaussianProcess.fit`, ``(R,)``.
        """
        every = torch.ones(pending.shape[:2], dtype=torch.bool, device=pending.device)
        facing = self.process.facing(space, pending, every)
        known = self.process.facing_kernel(pending, self.facing, self.scale)
        v = torch.linalg.solve_triangular(self.factor, known.mT, upper=False)
        covariance = self.process.facing_kernel(pending, facing, self.scale) - v.mT @ v
        covariance.diagonal(dim1=-2, dim2=-1).add_(nugget[:, None])
        return self._replace(expected=Expected(facing, v, torch.linalg.cholesky_ex(covariance).L))

    def predict(self, asked: Tensor, prior: Tensor | None = None) -> Prediction:
        """Predict architectures ``(R, N, D)``, of which the priors say ``(R, N, P)``."""
        cross = self.process.facing_kernel(asked, self.facing, self.scale)
        v = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        mean = (cross @ self.weight).squeeze(-1)
        if prior is not None and self.centre is not None and self.share is not None:
            mean = mean + ((prior - self.centre) @ self.share).squeeze(-1)
        left = 1 - torch.linalg.vector_norm(v, dim=-2).square()
        if self.expected is not None:
            left = left - self.expected.explained(
                self.process.facing_kernel(asked, self.expected.facing, self.scale), v
            )
        left = left.clamp(min=1e-6)
        return Prediction(mean, self.signal[:, None] * left.sqrt(), self.luck)

    def bound(self, asked: Tensor, prior: Tensor | None = None) -> Tensor:
        """Upper confidence bound of the value with its luck, float64 ``(R, N)``; see :meth:`GaussianProcess.score`."""
        mean, deviation, luck = self.predict(asked, prior)
        first, last = self.process.beta
        number = self.member.sum(-1, keepdim=True).clamp(min=1)
        beta = (first * self.process.early / number).clamp(last, first)
        bound = mean.add_(deviation.square_().add_(luck.square()[:, None]).sqrt_().mul_(beta))
        return bound.mul_(2**20).round_().div_(2**20)


class GaussianProcess:
    """Exact Gaussian-process regression on the archive, with a fixed kernel, a profiled signal and a chosen noise.

    What a fitness says of an architecture is partly luck: of its training, of its validation images. How much, relative
    to what the kernel explains, differs between tasks by a factor of 20, so that no fixed share serves all of them; each
    run takes the likeliest of a few (:func:`ednag.samplers.evidence.likeliest`).

    Args:
        gene_scale: mean exponent of the gene part of the kernel between two random architectures, >= 0.
        feature_scale: the same for the features of the space, >= 0.
        nugget: noise variance relative to the signal's, > 0; of several, each run takes the likeliest.
        scales: factors >= 1 on the exponent of the kernel, of which each run takes the likeliest: 1 for what is nearly a sum
            of effects, more where genes depend on each other.
        beta: deviations that :meth:`score` adds to the mean, >= 0: the first number for up to ``early`` members, from there
            on fewer, in inverse proportion to the number of members, down to the second.
        early: see ``beta``, > 0.
        features: whether to use the features of the space.
        trust: sum of the coefficients that ``P`` priors (:class:`Prior`) are expected to have in the mean of the process,
            before any evaluation.
        certainty: how strongly, >= 0: each coefficient is ``N(trust / P, signal variance / (certainty P))``. Members
            inform one with a weight of about 2 each, so that 5 is worth two or three evaluations.

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
        nugget: float | Sequence[float] = (0.01, 0.05, 0.15, 0.4, 1.0),
        scales: float | Sequence[float] = (1.0, 4.0),
        beta: tuple[float, float] = (2.5, 1.2),
        early: float = 50.0,
        features: bool = True,
        trust: float = 0.5,
        certainty: float = 5.0,
    ) -> None:
        self.scales = (float(scales),) if isinstance(scales, (int, float)) else tuple(map(float, scales))
        self.nuggets = (float(nugget),) if isinstance(nugget, (int, float)) else tuple(map(float, nugget))
        if gene_scale < 0 or feature_scale < 0 or not self.nuggets or min(self.nuggets) <= 0:
            raise ValueError(
                f"need gene_scale, feature_scale >= 0 and nugget > 0; got {gene_scale}, {feature_scale} and {nugget}"
            )
        if not self.scales or min(self.scales) < 1:
            raise ValueError(f"need scales >= 1, got {scales}")
        if not 0 <= beta[1] <= beta[0] or early <= 0 or certainty < 0:
            raise ValueError(
                f"need beta of two numbers >= 0 that don't rise, early > 0, certainty >= 0; "
                f"got {beta}, {early} and {certainty}"
            )
        self.gene_scale, self.feature_scale = gene_scale, feature_scale
        self.beta, self.early, self.features = (float(beta[0]), float(beta[1])), early, features
        self.trust, self.certainty = trust, certainty
        self._exact = all(math.frexp(factor)[0] == 0.5 for factor in self.scales)  # multiplying by them rounds nothing
        self._weights: tuple[SearchSpace, Tensor] | None = None
        self._table: tuple[SearchSpace, Tensor] | None = None

    def encode(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, L)``, as one-hot genes and features: integers, float32 ``(*B, L max C + F)``."""
        values = torch.arange(max(space.cardinalities), device=genes.device)
        hot = (genes[..., None] == values).flatten(-2).float()
        return torch.cat([hot, space.features(genes).float()], -1) if self.features else hot

    def embed(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, L)``, as the kernel's left-hand side, float32 ``(*B, D)``.

        That is, as in :meth:`encode`, followed by 1 and by minus the squared norm in the metric of the kernel, so that one
        product with :meth:`facing` gives squared distances. Looked up in a table in spaces of up to :data:`TABULATED` gene
        strings.
        """
        if space.size > TABULATED:
            return self._embed(space, genes)
        if self._table is None or self._table[0] is not space or self._table[1].device != genes.device:
            self._table = (space, self._embed(space, gene_strings(space.cardinalities, genes.device)))
        table, code = self._table[1], space.code(genes)
        return table.index_select(0, code.flatten()).view(*code.shape, -1)

    def _embed(self, space: SearchSpace, genes: Tensor) -> Tensor:
        x = self.encode(space, genes)
        norm = -(x * self.weights(space).to(x.device) * x).sum(-1, keepdim=True)
        return torch.cat([x, torch.ones_like(norm), norm], -1)

    def facing(self, space: SearchSpace, b: Tensor, member: Tensor) -> Tensor:
        """Turn a left-hand side of the kernel, see :meth:`embed`, into a right-hand side, ``(R, M, D)``.

        Args:
            space: what the genes mean.
            b: ``(R, M, D)``.
            member: bool ``(R, M)``; what is no member is far from everything.
        """
        norm = b[..., -1:].where(member[..., None], -64.0)
        return torch.cat([b[..., :-2] * (2 * self.weights(space).to(b.device)), norm, torch.ones_like(norm)], -1)

    def facing_kernel(self, a: Tensor, facing: Tensor, scale: Tensor | None = None) -> Tensor:
        """:meth:`kernel` of a left-hand and a right-hand side."""
        if scale is not None and self._exact:  # fewer numbers to multiply
            facing, scale = facing * scale.to(facing.dtype)[:, None, None], None
        exponent = (a @ facing.mT).double()
        return (exponent if scale is None else exponent.mul_(scale[:, None, None])).exp_()

    def weights(self, space: SearchSpace) -> Tensor:
        """``w`` of each column of :meth:`encode`, float32 ``(D,)``, multiples of 2^-20.

        They come from the mean squared distances of 1,024 random valid architectures, always the same.
        """
        if self._weights is None or self._weights[0] is not space:
            spread = 2 * self.encode(space, random_valid(space)).double().var(0, correction=0)
            hot = space.num_genes * max(space.cardinalities)
            scales = (self.gene_scale, self.feature_scale)
            parts = [
                torch.full_like(part, scale / max(float(part.sum()), 1e-6))
                for part, scale in zip((spread[:hot], spread[hot:]), scales, strict=True)
            ]
            self._weights = (space, ((torch.cat(parts) * 2**20).round() / 2**20).float())
        return self._weights[1]

    def kernel(self, space: SearchSpace, a: Tensor, b: Tensor, member: Tensor, scale: Tensor | None = None) -> Tensor:
        """Kernel between two sets of architectures, below 1e-26 where the second is not a member.

        Args:
            space: what the genes mean.
            a: see :meth:`embed`, ``(R, N, D)``.
            b: ``(R, M, D)``.
            member: bool ``(R, M)``.
            scale: factor on the exponent of each run, >= 1, ``(R,)``; 1 if omitted.

        Returns:
            float64 ``(R, N, M)``, in ``[0, 1]``.
        """
        return self.facing_kernel(a, self.facing(space, b, member), scale)

    def exponent(self, space: SearchSpace, a: Tensor, b: Tensor, member: Tensor) -> Tensor:
        """Logarithm of :meth:`kernel` at a scale of 1, float64 ``(R, N, M)``.

        It is a sum of multiples of 2^-20, exact in float32 in any order (while below 16).
        """
        return (a @ self.facing(space, b, member).mT).double()

    def relative(self, variance: Tensor) -> Tensor:
        """Relate variances of standardised values to the signal's, any shape.

        Two random architectures have a covariance of about ``exp(-gene_scale - feature_scale)``, so that a signal of
        variance 1 spreads the values of a run by what is left to 1.
        """
        return -variance * math.expm1(-self.gene_scale - self.feature_scale)

    def predict(
        self,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        asked: Tensor,
        prior: tuple[Tensor, Tensor] | None = None,
        nugget: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Prediction:
        """Regress; with priors, on what multiples of them leave.

        The multiples are the posterior means of their coefficients (ridge regression within the process), so that a
        prior that contradicts the evaluations fades, and one of several that is right gains.

        Args:
            space: what the genes mean.
            known: the evaluated architectures, see :meth:`embed`, ``(R, M, D)``.
            target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
            member: which of them count, bool ``(R, M)``.
            asked: architectures to predict, ``(R, N, D)``.
            prior: what ``P`` priors (:class:`Prior`) say of ``known`` and of ``asked``, float64 ``(R, M, P)`` and
                ``(R, N, P)``.
            nugget: of each run, ``(R,)``; the first one if omitted.
            noise: variance of each value that its evaluation declared, relative to the signal's, see :meth:`relative`,
                float64 ``(R, M)``; none if omitted.
        """
        fitted = self.fit(space, known, target, member, None if prior is None else prior[0], nugget, noise)
        return fitted.predict(asked, None if prior is None else prior[1])

    def fit(
        self,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        prior: Tensor | None = None,
        nugget: Tensor | None = None,
        noise: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Fitted:
        """Look at the members once, to predict any number of times.

        Arguments are those of :meth:`predict`; ``prior`` is what priors say of ``known``, and ``scale`` is the factor on the
        exponent of each run, ``(R,)``, 1 if omitted.
        """
        if nugget is None:
            nugget = torch.full((len(known),), self.nuggets[0], dtype=torch.float64, device=known.device)
        facing = self.facing(space, known, member)
        factor = noisy_factor(self.facing_kernel(known, facing, scale), member, nugget, noise)
        b = torch.linalg.solve_triangular(factor, target[..., None], upper=False)
        centre = share = None
        if prior is not None:
            real = member[..., None]
            centre = (prior * real).sum(-2, keepdim=True) / real.sum(-2, keepdim=True).clamp(min=1)
            p = torch.linalg.solve_triangular(factor, (prior - centre) * real, upper=False)
            share = self._shares(p, b)
            b = b - p @ share
        signal = (b.square().sum((-2, -1)) / member.sum(-1).clamp(min=1)).sqrt()
        weight = torch.linalg.solve_triangular(factor.mT, b, upper=True)
        return Fitted(self, facing, member, factor, weight, signal, signal * nugget.sqrt(), scale, centre, share)

    def _shares(self, p: Tensor, b: Tensor) -> Tensor:
        """Posterior means of the priors' coefficients, ``(R, P, 1)``.

        Args:
            p: the priors at the members, decorrelated, float64 ``(R, M, P)``.
            b: the target, likewise, ``(R, M, 1)``.
        """
        number = p.shape[-1]
        precision = p.mT @ p
        precision.diagonal(dim1=-2, dim2=-1).add_(max(self.certainty * number, 1e-9))
        return torch.cholesky_solve(p.mT @ b + self.trust * self.certainty, torch.linalg.cholesky_ex(precision).L)

    def score(
        self,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        asked: Tensor,
        prior: tuple[Tensor, Tensor] | None = None,
        nugget: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Upper confidence bound of the value with its luck, float64 ``(R, N)``; see :meth:`predict`.

        Luck adds the same variance everywhere, so that the more of it there is, the less it matters how sure the mean
        is. Noise that an evaluation declared is no luck that lasts, and adds nothing.

        Rounded to 2^-20, far above rounding errors and far below anything that matters: scores that are equal in exact
        arithmetic are equal, however the batch is laid out.
        """
        fitted = self.fit(space, known, target, member, None if prior is None else prior[0], nugget, noise)
        return fitted.bound(asked, None if prior is None else prior[1])


def noisy_factor(covariance: Tensor, member: Tensor, nugget: Tensor, noise: Tensor | None) -> Tensor:
    """Cholesky factor of the covariance of noisy values; rows of no member are of the identity.

    Args:
        covariance: of values without noise, float64 ``(*B, R, M, M)``; it is overwritten.
        member: which of them count, bool ``(R, M)``.
        nugget: ``(*B, R)``.
        noise: ``(R, M)``; see :meth:`GaussianProcess.predict`.

    Returns:
        float64 ``(*B, R, M, M)``.
    """
    if not bool(member.all()):
        covariance.mul_(member[..., None])
    variance = nugget[..., None] if noise is None else nugget[..., None] + noise
    covariance.diagonal(dim1=-2, dim2=-1).copy_(1 + variance * member)
    factor: Tensor = torch.linalg.cholesky_ex(covariance).L
    return factor


TABULATED = 2**14
"""Spaces of up to this many gene strings are embedded by looking up."""
