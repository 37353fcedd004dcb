"""How noisy the fitness is, and what architectures say of each other: what a run's members make likeliest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ednag.samplers.surrogate import Fitted, GaussianProcess, Prediction, noisy_factor
from ednag.spaces import SearchSpace

USUAL_NUGGET = 0.15
"""Noise variance, relative to the signal's, that is likeliest before any evaluation."""

USUAL_FACTOR = 0.25
"""What a factor of 0 on a part of the kernel counts as, before any evaluation: as far from 1 as 4."""

LEAST = 0.1
"""Pairs of kernel and nugget that are believed less than this are left out: they cost time and say little."""


class Belief(NamedTuple):
    """What each run believes of its fitness: the ``K`` likeliest pairs of kernel and nugget.

    Attributes:
        nugget: noise variance relative to the signal's, float64 ``(R, K)``.
        factors: of the kernel, see :meth:`~ednag.samplers.kernel.Kernel.facing`, float64 ``(R, K, 2)``.
        share: how far each is believed, float64 ``(R, K)``, falling, with a sum of 1; 0 for what is left out.
    """

    nugget: Tensor
    factors: Tensor
    share: Tensor

    @classmethod
    def first(cls, process: GaussianProcess, space: SearchSpace, like: Tensor) -> Belief:
        """Believe in the first nugget and the first kernel, before any evaluation.

        Args:
            process: what there is to choose from.
            space: what the genes mean.
            like: any tensor with a leading dimension ``R``, on the device where the belief shall be.
        """
        kernels = process.kernels_in(space)
        width = min(process.averaged, len(process.nuggets) * len(kernels))
        nugget = torch.full((len(like), width), process.nuggets[0], dtype=torch.float64, device=like.device)
        share = (torch.arange(width, device=like.device) == 0).double().expand_as(nugget).clone()
        factors = torch.tensor(kernels[0], dtype=torch.float64, device=like.device)
        return cls(nugget, factors.repeat(*nugget.shape, 1), share)

    def fit(
        self,
        process: GaussianProcess,
        space: SearchSpace,
        known: Tensor,
        target: Tensor,
        member: Tensor,
        noise: Tensor,
        prior: Tensor | None = None,
    ) -> Mixture:
        """Fit what is believed; arguments as for :meth:`GaussianProcess.fit`."""
        run, place = (self.share > 0).nonzero(as_tuple=True)
        fitted = process.fit(
            space,
            known[run],
            target[run],
            member[run],
            None if prior is None else prior[run],
            self.nugget[run, place],
            noise[run],
            self.factors[run, place],
        )
        return Mixture(fitted, run, place, self.share)


class Mixture(NamedTuple):
    """Processes of several runs, of which each run averages its own.

    Attributes:
        fitted: of ``S`` processes.
        run: whose each is, int64 ``(S,)``.
        place: its place among the run's, int64 ``(S,)``.
        share: how far each is believed, see :class:`Belief`, ``(R, K)``.
    """

    fitted: Fitted
    run: Tensor
    place: Tensor
    share: Tensor

    def expecting(self, space: SearchSpace, pending: Tensor) -> Mixture:
        """Take into account what is being evaluated; see :meth:`Fitted.expecting`; ``pending`` is ``(R, P, D)``."""
        return self._replace(fitted=self.fitted.expecting(space, pending[self.run]))

    def predict(self, asked: Tensor, prior: Tensor | None = None) -> Prediction:
        """Predict architectures ``(R, N, D)``, of which the priors say ``(R, N, P)``: mean and deviation of the mixture."""
        if len(self.run) == len(self.share):
            return self.fitted.predict(asked, prior)
        mean, deviation, luck = self.fitted.predict(asked[self.run], None if prior is None else prior[self.run])
        centre = self._mixed(mean)
        spread = self._mixed(mean.square() + deviation.square()) - centre.square()
        return Prediction(centre, spread.clamp(min=1e-12).sqrt(), self._mixed(luck.square()[:, None])[:, 0].sqrt())

    def _mixed(self, values: Tensor) -> Tensor:
        """Average what the processes say, ``(S, N)`` to ``(R, N)``."""
        every = values.new_zeros(*self.share.shape, values.shape[-1])
        every[self.run, self.place] = self.share[self.run, self.place, None] * values
        return every.sum(1)


def likeliest(
    process: GaussianProcess,
    space: SearchSpace,
    known: Tensor,
    target: Tensor,
    member: Tensor,
    noise: Tensor | None = None,
) -> Belief:
    """Weigh kernels and nuggets by the marginal likelihood of each run's members (Rasmussen & Williams 2006, eq. 5.8).

    While members are few, log-normal priors around :data:`USUAL_NUGGET` and factors of 1 decide.

    Args:
        process: what there is to choose from.
        space: what the genes mean.
        known: the evaluated architectures, see :meth:`~ednag.samplers.kernel.Kernel.embed`, ``(R, M, D)``.
        target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
        member: which of them count, bool ``(R, M)``.
        noise: see :meth:`GaussianProcess.predict`.

    Returns:
        the likeliest ``process.averaged`` pairs, or as many as there are.
    """
    nuggets, kernels = (
        torch.tensor(of, dtype=torch.float64, device=known.device)
        for of in (process.nuggets, process.kernels_in(space))
    )
    of_nugget = -(nuggets / USUAL_NUGGET).log().square() / 2
    of_kernel = -kernels.clamp(min=USUAL_FACTOR).log().square().sum(-1) / 4
    parts = process.kernel.exponents(space, known, known, member)
    tried = nuggets[:, None].expand(-1, len(known))
    likely = []
    for (genes, features), usual in zip(kernels, of_kernel, strict=True):
        smooth = (genes * parts[0] + features * parts[1]).exp_()
        factor = noisy_factor(smooth.repeat(len(nuggets), 1, 1, 1), member, tried, noise)
        likely.append(log_likelihood(factor, target, member) + (usual + of_nugget)[:, None])
    rounded = (torch.cat(likely).T * 2**16).round() / 2**16  # whatever the batch made of the last bits
    value, order = rounded.sort(dim=1, descending=True, stable=True)
    share = value[:, : process.averaged].softmax(1)
    share = share.where(share >= LEAST, 0.0)
    best = order[:, : process.averaged]
    kernel = torch.div(best, len(nuggets), rounding_mode="floor")
    return Belief(nuggets[best % len(nuggets)], kernels[kernel], share / share.sum(1, keepdim=True))


def log_likelihood(factor: Tensor, target: Tensor, member: Tensor) -> Tensor:
    """Log marginal likelihood but for a constant, the signal's variance being the likeliest one, float64 ``(*B, R)``.

    Args:
        factor: Cholesky factor of the covariance relative to that variance, float64 ``(*B, R, M, M)``.
        target: see :func:`likeliest`, ``(R, M)``.
        member: which of them count, bool ``(R, M)``; the other rows of ``factor`` are of the identity.
    """
    number = member.sum(-1)
    b = torch.linalg.solve_triangular(factor, target[..., None].expand(*factor.shape[:-1], 1), upper=False)
    signal = b.square().sum((-2, -1)) / number.clamp(min=1)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    likelihood: Tensor = -number / 2 * signal.clamp(min=1e-9).log() - volume
    return likelihood
