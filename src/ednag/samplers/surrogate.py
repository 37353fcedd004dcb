"""A cheap model of what a run has evaluated: exact Gaussian processes, batched over runs, without any training.

Their kernels are those of :mod:`ednag.samplers.kernel`. The target is a function of ranks
(:func:`ednag.samplers.parts.normal_scores`), so that any increasing transformation of the fitness gives the same model. So do the
optional priors (:class:`~ednag.samplers.calibration.Prior`), of which a process's mean is a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ednag.samplers.expected import Expected
from ednag.samplers.kernel import Kernel, covariance
from ednag.spaces import SearchSpace


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
    """Processes that have seen their members, ready to be asked; see :meth:`GaussianProcess.fit`.

    Attributes:
        process: whose kernel they have.
        facing: the members as the kernel's right-hand side, see :meth:`Kernel.facing`, ``(R, M, D)``.
        factor: Cholesky factor of the covariance of their noisy values, float64 ``(R, M, M)``.
        weight: what each member adds to the mean, per unit of the kernel, float64 ``(R, M, 1)``.
        signal: deviation of the signal, float64 ``(R,)``.
        nugget: variance of the noise relative to the signal's, float64 ``(R,)``.
        factors: see :meth:`Kernel.facing`, ``(R, 2)``; ``None`` for 1.
        centre: mean of the priors over members, float64 ``(R, 1, P)``; ``None`` if there are no priors.
        share: coefficients of the priors, float64 ``(R, P, 1)``; ``None`` likewise.
        expected: what is being evaluated, see :meth:`expecting`; ``None`` for nothing.
    """

    process: GaussianProcess
    facing: Tensor
    factor: Tensor
    weight: Tensor
    signal: Tensor
    nugget: Tensor
    factors: Tensor | None
    centre: Tensor | None
    share: Tensor | None
    expected: Expected | None = None

    def expecting(self, space: SearchSpace, pending: Tensor) -> Fitted:
        """Take into account what is being evaluated: the mean stays, and the deviation is what will be left of it.

        As if each had turned out as the mean says (the hallucinated observations of Desautels, Krause & Burdick 2014,
        "Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit optimization", section 4).

        Args:
            space: what the genes mean.
            pending: see :meth:`Kernel.embed`, ``(R, P, D)``.
        """
        every = torch.ones(pending.shape[:2], dtype=torch.bool, device=pending.device)
        facing = self.process.kernel.facing(space, pending, every, self.factors)
        v = torch.linalg.solve_triangular(self.factor, covariance(pending, self.facing).mT, upper=False)
        left = covariance(pending, facing) - v.mT @ v
        left.diagonal(dim1=-2, dim2=-1).add_(self.nugget[:, None])
        return self._replace(expected=Expected(facing, v, torch.linalg.cholesky_ex(left).L))

    def predict(self, asked: Tensor, prior: Tensor | None = None) -> Prediction:
        """Predict architectures ``(R, N, D)``, of which the priors say ``(R, N, P)``."""
        cross = covariance(asked, self.facing)
        v = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        mean = (cross @ self.weight).squeeze(-1)
        if prior is not None and self.centre is not None and self.share is not None:
            mean = mean + ((prior - self.centre) @ self.share).squeeze(-1)
        left = 1 - torch.linalg.vector_norm(v, dim=-2).square()
        if self.expected is not None:
            left = left - self.expected.explained(covariance(asked, self.expected.facing), v)
        left = left.clamp(min=1e-6)
        return Prediction(mean, self.signal[:, None] * left.sqrt(), self.signal * self.nugget.sqrt())


class GaussianProcess:
    """Exact Gaussian-process regression on the archive, with a profiled signal and a chosen kernel and noise.

    What a fitness says of an architecture is partly luck: of its training, of its validation images. How much, relative
    to what the kernel explains, differs between tasks by a factor of 20, and what explains best does too: genes, features or
    both, additively or locally. No fixed choice serves all of them; each run averages three processes, in genes, in features
    and in both, each with the likeliest noise and locality (:mod:`ednag.samplers.evidence`).

    Args:
        gene_scale: see :class:`~ednag.samplers.kernel.Kernel`.
        feature_scale: see :class:`~ednag.samplers.kernel.Kernel`.
        nugget: noise variance relative to the signal's, > 0; one or several to choose from.
        kernels: factors on the exponents of genes and of features, each 0 or a power of two >= 1, to choose from: 1 for what
            is nearly a sum of effects, more where parts depend on each other, 0 for what says nothing.
        beta: deviations that :meth:`bound` adds to the mean, >= 0: the first number for up to ``early`` members, from there
            on fewer, in inverse proportion to the number of members, down to the second.
        early: see ``beta``, > 0.
        features: whether to use the features of the space.
        trust: sum of the coefficients that ``P`` priors (:class:`~ednag.samplers.calibration.Prior`) are expected to have in the
            mean of the process, before any evaluation.
        certainty: how strongly, >= 0: each coefficient is ``N(trust / P, signal variance / (certainty P))``. Members
            inform one with a weight of about 2 each, so that 5 is worth two or three evaluations.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> model, space = GaussianProcess(), NASBench201()
        >>> genes = torch.tensor([[[0] * 6, [3] * 6]])
        >>> known, member = model.kernel.embed(space, genes), torch.ones(1, 2, dtype=torch.bool)
        >>> target = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
        >>> mean = model.predict(space, known, target, member, known).mean
        >>> bool(mean[0, 1] > mean[0, 0])
        True
    """

    def __init__(
        self,
        gene_scale: float = 0.25,
        feature_scale: float = 0.21,
        nugget: float | Sequence[float] = (0.01, 0.05, 0.15, 0.4, 1.0),
        kernels: Sequence[tuple[int, int]] = ((1, 1), (4, 4), (0, 1), (0, 4), (1, 0), (4, 0)),
        beta: tuple[float, float] = (2.5, 1.2),
        early: float = 50.0,
        features: bool = True,
        trust: float = 0.5,
        certainty: float = 5.0,
    ) -> None:
        self.kernel = Kernel(gene_scale, feature_scale, features)
        self.kernels = tuple((int(genes), int(of_features)) for genes, of_features in kernels)
        self.nuggets = (float(nugget),) if isinstance(nugget, (int, float)) else tuple(map(float, nugget))
        if not self.nuggets or min(self.nuggets) <= 0:
            raise ValueError(f"need nugget > 0, got {nugget}")
        factors = [factor for pair in self.kernels for factor in pair]
        if any(factor & (factor - 1) or factor < 0 for factor in factors) or not any(pair[0] for pair in self.kernels):
            raise ValueError(
                f"need kernels of two factors, each 0 or a power of two, one with a factor on genes; got {kernels}"
            )
        if not 0 <= beta[1] <= beta[0] or early <= 0 or certainty < 0:
            raise ValueError(
                f"need beta of two numbers >= 0 that don't rise, early > 0, certainty >= 0; got {beta}, {early} and {certainty}"
            )
        self.beta, self.early = (float(beta[0]), float(beta[1])), early
        self.trust, self.certainty = trust, certainty

    def kinds_in(self, space: SearchSpace) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Group the kernels by what they look at, genes, features or both; in a space without features, genes alone."""
        kernels = self.kernels
        if not self.kernel.has_features(space):
            kernels = tuple(dict.fromkeys((genes, genes) for genes, _ in kernels if genes))
        kinds: dict[tuple[bool, bool], list[tuple[int, int]]] = {}
        for pair in kernels:
            kinds.setdefault((pair[0] > 0, pair[1] > 0), []).append(pair)
        return tuple(map(tuple, kinds.values()))

    def relative(self, variance: Tensor) -> Tensor:
        """Relate variances of standardised values to the signal's, any shape.

        Two random architectures have a covariance of about ``exp(-gene_scale - feature_scale)``, so that a signal of
        variance 1 spreads the values of a run by what is left to 1.
        """
        return -variance * math.expm1(-self.kernel.gene_scale - self.kernel.feature_scale)

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
            known: the evaluated architectures, see :meth:`Kernel.embed`, ``(R, M, D)``.
            target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
            member: which of them count, bool ``(R, M)``.
            asked: architectures to predict, ``(R, N, D)``.
            prior: what ``P`` priors (:class:`~ednag.samplers.calibration.Prior`) say of ``known`` and of ``asked``, float64 ``(R, M, P)`` and
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
        factors: Tensor | None = None,
    ) -> Fitted:
        """Look at the members once, to predict any number of times.

        Arguments are those of :meth:`predict`; ``prior`` is what priors say of ``known``, and ``factors`` are those of
        :meth:`Kernel.facing`, ``(R, 2)``, 1 if omitted.
        """
        if nugget is None:
            nugget = torch.full((len(known),), self.nuggets[0], dtype=torch.float64, device=known.device)
        facing = self.kernel.facing(space, known, member, factors)
        factor = noisy_factor(covariance(known, facing), member, nugget, noise)
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
        return Fitted(self, facing, factor, weight, signal, nugget, factors, centre, share)

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

    def bound(self, prediction: Prediction, member: Tensor) -> Tensor:
        """Upper confidence bound of the value with its luck, float64 ``(R, N)``.

        Luck adds the same variance everywhere, so that the more of it there is, the less it matters how sure the mean
        is. Noise that an evaluation declared is no luck that lasts, and adds nothing.

        Rounded to 2^-20, far above rounding errors and far below anything that matters: scores that are equal in exact
        arithmetic are equal, however the batch is laid out.

        Args:
            prediction: of architectures.
            member: which members the runs have, bool ``(R, M)``.
        """
        first, last = self.beta
        beta = (first * self.early / member.sum(-1, keepdim=True).clamp(min=1)).clamp(last, first)
        spread = (prediction.deviation.square() + prediction.luck.square()[:, None]).sqrt()
        return (prediction.mean + beta * spread).mul_(2**20).round_().div_(2**20)


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
