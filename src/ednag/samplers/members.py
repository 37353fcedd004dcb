"""What a round of the default sampler learns from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ednag.samplers.posterior import declared_noise
from ednag.samplers.problem import Problem
from ednag.samplers.surrogate import GaussianProcess


@dataclass(frozen=True)
class Members:
    """What the current epoch of each run has evaluated, as far as the model looks back.

    Attributes:
        genes: int64 ``(R, M, L)``.
        real: which entries count, bool ``(R, M)``; a run may have none.
        rank: 0 is best, float64 ``(R, M)``.
        worth: what the mapping turns into weights: the fitness, float64 ``(R, M)``.
    """

    genes: Tensor
    real: Tensor
    rank: Tensor
    worth: Tensor


def led_by(members: Members, parent: Tensor) -> Tensor:
    """Replace the second half of parents ``(R, N, L)`` by the best members, as far as there are any."""
    half = parent.shape[1] // 2
    rank = functional.pad(members.rank.where(members.real, torch.inf), (0, half), value=torch.inf)
    genes = functional.pad(members.genes, (0, 0, 0, half))
    rank, best = (one[:, :half] for one in rank.sort(dim=1, stable=True))
    genes = genes.gather(1, best[..., None].expand(-1, -1, parent.shape[-1]))
    return torch.cat([parent[:, :-half], genes.where((rank < torch.inf)[..., None], parent[:, -half:])], 1)


def declared(problem: Problem, members: Members, model: GaussianProcess) -> Tensor:
    """Variance that the fitness declares of each member, relative to the model's signal, float64 ``(R, M)``."""
    error = None if problem.error is None else problem.error(members.genes, members.worth)
    if error is None:
        return torch.zeros_like(members.rank)
    return model.relative(declared_noise(members.worth, error, members.real))
