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


class Belief(NamedTuple):
    """What each run believes of its fitness: for each of ``K`` kinds of kernel, the likeliest kernel and nugget.

    Attributes:
        nugget: noise variance relative to the signal's, float64 ``(R, K)``.
        factors: of the kernel, see :meth:`~ednag.samplers.kernel.Kernel.facing`, float64 ``(R, K, 2)``.
    """

    nugget: Tensor
    factors: Tensor

    @classmethod
    def first(cls, process: GaussianProcess, space: SearchSpace, like: Tensor) -> Belief:
        """Believe in the first nugget and the first kernel of each kind, before any evaluation.

        Args:
            process: what there is to choose from.
            space: what the genes mean.
            like: any tensor with a leading dimension ``R``, on the device where the belief shall be.
        """
        first = [kernels[0] for kernels in process.kinds_in(space)]
        factors = torch.tensor(first, dtype=torch.float64, device=like.device)
        nugget = torch.full((len(like), len(first)), process.nuggets[0], dtype=torch.float64, device=like.device)
        return cls(nugget, factors.expand(len(like), -1, -1).clone())

    def alone(self, kind: Tensor) -> Belief:
        """Believe in one kind of each run alone, int64 ``(R,)``."""
        run = torch.arange(len(kind), device=kind.device)
        return Belief(*(field[run, kind][:, None] for field in self))

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
        kinds = self.nugget.shape[1]
        fitted = process.fit(
            space,
            known.repeat_interleave(kinds, 0),
            target.repeat_interleave(kinds, 0),
            member.repeat_interleave(kinds, 0),
            None if prior is None else prior.repeat_interleave(kinds, 0),
            self.nugget.flatten(),
            noise.repeat_interleave(kinds, 0),
            self.factors.flatten(0, 1),
        )
        return Mixture(fitted, kinds)


class Mixture(NamedTuple):
    """Processes of several runs, of which each run averages its own: all count the same.

    Attributes:
        fitted: of ``R K`` processes, those of a run one after the other.
        kinds: ``K``.
    """

    fitted: Fitted
    kinds: int

    def expecting(self, space: SearchSpace, pending: Tensor) -> Mixture:
        """Take into account what is being evaluated; see :meth:`Fitted.expecting`; ``pending`` is ``(R, P, D)``."""
        return self._replace(fitted=self.fitted.expecting(space, self._each(pending)))

    def predict(self, asked: Tensor, prior: Tensor | None = None) -> Prediction:
        """Predict architectures ``(R, N, D)``, of which the priors say ``(R, N, P)``: mean and deviation of the mixture."""
        if self.kinds == 1:
            return self.fitted.predict(asked, prior)
        found = self.fitted.predict(self._each(asked), None if prior is None else self._each(prior))
        mean, deviation, luck = (one.view(-1, self.kinds, *one.shape[1:]) for one in found)
        centre = mean.mean(1)
        spread = (mean.square() + deviation.square()).mean(1) - centre.square()
        return Prediction(centre, spread.clamp(min=1e-12).sqrt(), luck.square().mean(1).sqrt())

    def _each(self, values: Tensor) -> Tensor:
        """Repeat what belongs to runs for each of their processes."""
        return values.repeat_interleave(self.kinds, 0)


def likeliest(
    process: GaussianProcess,
    space: SearchSpace,
    known: Tensor,
    target: Tensor,
    member: Tensor,
    noise: Tensor | None = None,
) -> tuple[Belief, Tensor]:
    """Choose a kernel of each kind, and a nugget, by the marginal likelihood (Rasmussen & Williams 2006, eq. 5.8).

    While members are few, log-normal priors around :data:`USUAL_NUGGET` and factors of 1 decide. Between the kinds
    the likelihood does not choose: it is the likelihood of a model that is wrong in any case, and where it preferred one kind
    clearly, all of them together searched better (``docs/results.md``).

    Args:
        process: what there is to choose from.
        space: what the genes mean.
        known: the evaluated architectures, see :meth:`~ednag.samplers.kernel.Kernel.embed`, ``(R, M, D)``.
        target: their values, float64 ``(R, M)``, zero mean over members, 0 elsewhere.
        member: which of them count, bool ``(R, M)``.
        noise: see :meth:`GaussianProcess.predict`.

    Returns:
        what is believed; and of each kind how likely it makes the members, a logarithm but for a constant of the run,
        float64 ``(R, K)``.
    """
    nuggets = torch.tensor(process.nuggets, dtype=torch.float64, device=known.device)
    of_nugget = -(nuggets / USUAL_NUGGET).log().square() / 2
    parts = process.kernel.exponents(space, known, known, member)
    tried = nuggets[:, None].expand(-1, len(known))
    found = []
    for kernels in process.kinds_in(space):
        factors = torch.tensor(kernels, dtype=torch.float64, device=known.device)
        likely = []
        for genes, features in factors:
            smooth = (genes * parts[0] + features * parts[1]).exp_()
            factor = noisy_factor(smooth.repeat(len(nuggets), 1, 1, 1), member, tried, noise)
            likely.append(log_likelihood(factor, target, member) + of_nugget[:, None])
        usual = -factors.clamp(min=USUAL_FACTOR).log().square().sum(-1) / 4
        values = (torch.stack(likely) + usual[:, None, None]).flatten(0, 1)
        rounded = (values * 2**16).round()  # whatever the batch made of the last bits
        best = rounded.sort(dim=0, descending=True, stable=True).indices[0]
        kernel = torch.div(best, len(nuggets), rounding_mode="floor")
        found.append((nuggets[best % len(nuggets)], factors[kernel], rounded.amax(0) / 2**16))
    nugget, factors, evidence = (torch.stack(of, 1) for of in zip(*found, strict=True))
    return Belief(nugget, factors), evidence


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
