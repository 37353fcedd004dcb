"""Survivor selection: which ``N`` of the ``2N`` parents and offspring survive (step 4 of the method)."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.archive import feasible, first_occurrence, squared_distance
from ednag.evolution.operators import min_max


class Corrector:
    """Elites by fitness, a quota by diversity, the rest by roulette wheel without replacement.

    Args:
        elite: share of survivors taken by fitness, distinct in fitness value.
        diversity: share taken by distance to the others, among members that are fit enough.
        floor: a member is fit enough at this share of the way from 0 (or from the worst fitness, if that is negative)
            to the best.

    Examples:
        >>> x, fitness = torch.eye(4), torch.tensor([1.0, 4.0, 2.0, 3.0], dtype=torch.float64)
        >>> Corrector(elite=0.5, diversity=0.0)(x, fitness, 2, u=torch.full((4,), 0.5))[0]  # the elite
        tensor(1)
    """

    def __init__(self, elite: float = 0.1, diversity: float = 0.2, floor: float = 0.1) -> None:
        if elite < 0 or diversity < 0 or elite + diversity > 1 or not 0 <= floor <= 1:
            raise ValueError(
                f"need elite >= 0, diversity >= 0, elite + diversity <= 1, 0 <= floor <= 1; "
                f"got {elite}, {diversity}, {floor}"
            )
        self.elite, self.diversity, self.floor = elite, diversity, floor

    def __call__(self, x: Tensor, fitness: Tensor, n: Tensor | int, u: Tensor) -> Tensor:
        """Select survivors.

        Args:
            x: genes of all members, ``(*B, M, D)``.
            fitness: float64 ``(*B, M)``.
            n: how many survive, at most ``M``.
            u: uniform numbers in ``[0, 1)``, ``(*B, M)``, for the roulette wheel.

        Returns:
            indices of the survivors, int64 ``(*B, n)``: elites first, then diverse ones, then those drawn.
        """
        n = int(n)
        elites, diverse = round(self.elite * n), round(self.diversity * n)
        value = squash(fitness)
        spread = min_max(squared_distance(x, x).sqrt().sum(-1), 0.0, 1.0).double()
        taken = torch.zeros_like(value, dtype=torch.bool)
        chosen = []
        for count, score in (
            (elites, value.where(first_occurrence(value), -torch.inf)),
            (diverse, spread.where(self._fit_enough(value), -1.0)),
            (n - elites - diverse, roulette_keys(value, spread, u)),
        ):
            picked = score.where(~taken, -torch.inf).topk(count, -1).indices
            taken = taken.scatter(-1, picked, True)
            chosen.append(picked)
        return torch.cat(chosen, -1)

    def _fit_enough(self, value: Tensor) -> Tensor:
        low = value.amin(-1, keepdim=True).clamp(max=0)
        return value >= low + self.floor * (value.amax(-1, keepdim=True) - low)


def squash(fitness: Tensor) -> Tensor:
    """Map infeasible fitness values to finite ones just below the worst feasible one, in their order.

    Args:
        fitness: ``(*B, M)``, possibly with ``-inf`` and huge negative values.

    Returns:
        finite ``(*B, M)``; feasible values are unchanged.
    """
    ok = feasible(fitness)
    if bool(ok.all()):
        return fitness
    low = fitness.where(ok, torch.inf).amin(-1, keepdim=True)
    low = low.where(low.isfinite(), 0.0)
    span = (fitness.where(ok, -torch.inf).amax(-1, keepdim=True) - low).clamp(min=1e-6)
    worse = (fitness[..., None, :] > fitness[..., :, None]).sum(-1) - ok.sum(-1, keepdim=True)
    below = low - span * (1 + worse / fitness.shape[-1])
    return torch.where(ok, fitness, below)


def roulette_keys(value: Tensor, spread: Tensor, u: Tensor) -> Tensor:
    """Keys whose largest ``k`` are a roulette-wheel draw of ``k`` members without replacement.

    The wheel's weight is ``0.1 + 0.9 minmax(fitness (1 + diversity))``. Drawing again until an untaken member turns up
    is sampling without replacement, and ``log weight + Gumbel noise`` sorts members in just that distribution
    (Efraimidis & Spirakis 2006), in one pass.

    Args:
        value: fitness, finite, ``(*B, M)``.
        spread: diversity in ``[0, 1]``, ``(*B, M)``.
        u: uniform numbers in ``[0, 1)``, ``(*B, M)``.
    """
    weight = min_max(value * (1 + spread), 0.1, 1.0)
    return weight.log() - (-(u.double().clamp(min=1e-30)).log()).log()
