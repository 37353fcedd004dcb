"""A sampler of one's own: draw each gene as often as good architectures have it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ednag.core.archive import feasible
from ednag.samplers import Sampler, State


class Marginals(Sampler):
    """Univariate marginal distribution algorithm (Mühlenbein & Paass 1996), one of the simplest that learn.

    Args:
        batch: architectures per round.
        best: how many of the best so far are learned from.
        uniform: probability of a random value in place of a learned one.
    """

    def __init__(self, batch: int = 10, best: int = 10, uniform: float = 0.1) -> None:
        if batch < 1 or best < 1 or not 0 < uniform <= 1:
            raise ValueError(f"need batch >= 1, best >= 1, 0 < uniform <= 1; got {batch}, {best} and {uniform}")
        self.batch, self.best, self.uniform = batch, best, uniform

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose random architectures at first, then draw genes, ``(R, batch, L)``."""
        if state.step == 0:
            return state, state.space.random(state.noise, self.batch)
        most, choices = max(state.space.cardinalities), torch.tensor(state.space.cardinalities)
        counts = F.one_hot(state.memory["genes"], most) * state.memory["weight"][..., None, None]
        allowed = torch.arange(most) < choices[:, None]  # (L, most)
        share = counts.double().sum(1) + self.uniform * allowed / choices[:, None]
        wheel = share.cumsum(-1)[:, None]  # (R, 1, L, most)
        spin = state.noise.uniform(self.batch, state.space.num_genes)[..., None] * wheel[..., -1:]
        return state, (spin >= wheel[..., :-1]).sum(-1)

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Remember the best of the archive, and how much each weighs: ``(R, best, L)`` and ``(R, best)``."""
        values, place = state.archive.fitness.topk(min(self.best, state.archive.fitness.shape[1]), 1)
        chosen = state.archive.genes.gather(1, place[..., None].expand(-1, -1, genes.shape[-1]))
        weight = feasible(values).double() / self.best
        return replace(state, memory={"genes": chosen, "weight": weight})
