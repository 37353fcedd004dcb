"""Evolutionary diffusion towards a whole Pareto front: fitness against a cost that is known before any evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ednag.core.archive import average_rank, feasible
from ednag.evolution.pareto import expected_gain, gap_to_front, non_dominated
from ednag.samplers.archive_diffusion import ArchiveDiffusion
from ednag.samplers.base import State
from ednag.samplers.members import Members
from ednag.samplers.parts import normal_scores
from ednag.samplers.problem import Problem
from ednag.samplers.surrogate import GaussianProcess
from ednag.spaces import SearchSpace


@dataclass(frozen=True)
class FrontMembers(Members):
    """Members whose ``rank`` is by the gap to the front.

    Attributes:
        target: normal scores of their fitness, float64 ``(R, M)``, see :func:`normal_scores`.
        cost: float64 ``(R, M)``, 0 if not a member.
    """

    target: Tensor
    cost: Tensor


class ParetoDiffusion(ArchiveDiffusion):
    """:class:`ArchiveDiffusion` with a front instead of an optimum.

    1. *Denoise* and *correct* as there, but a member's rank is by its gap to the front: the fitness rank that it lacks of
       the best member that costs no more. The whole front weighs most, whatever it costs.
    2. *Screen* by the expected gain of hypervolume (:func:`ednag.evolution.pareto.expected_gain`): the cost of a proposal
       is known exactly and for free, since it depends on the architecture alone; its fitness is what a Gaussian process
       on the normal scores of the archive's fitness says, with ``optimism`` times its deviation. What is isomorphic to a
       member that costs no more can gain nothing.

    Fitness enters through ranks alone, costs as they are. Where costs take time (a network has to be built, or timed),
    a second process predicts them for the pool, and only the ``shortlist`` that looks best is really asked for; once enough
    latencies were measured, a model of them predicts the others, and only what is evaluated is measured.

    Args:
        initial: unscreened uniform architectures at the start.
        optimism: factor on the predicted deviation, > 0.
        shortlist: proposals per round whose cost is really asked for where it takes time, >= 1.
        surrogate: the model of fitness; by default one with little noise, whose features weigh more than the genes.
        options: further settings of :class:`ArchiveDiffusion`. There are no epochs here, as a front has no single optimum
            to be stuck at, and no climbs.

    Examples:
        >>> from ednag.samplers import Problem
        >>> from ednag.spaces import NASBench201
        >>> class Convolutions:  # a cost: how many 3x3 convolutions
        ...     quick = True
        ...     def __call__(self, genes):
        ...         return (genes == 3).sum(-1).double()
        >>> def fitness(genes, valid):
        ...     return genes.sum(-1).double().where(valid, -torch.inf)
        >>> problem = Problem(NASBench201(), cost=Convolutions())
        >>> ParetoDiffusion().sample(problem, fitness, evaluations=20).archive.count
        tensor([20])
    """

    def __init__(
        self,
        initial: int = 10,
        optimism: float = 1.5,
        shortlist: int = 16,
        surrogate: GaussianProcess | None = None,
        **options: Any,
    ) -> None:
        if optimism <= 0 or shortlist < 1:
            raise ValueError(f"need optimism > 0 and shortlist >= 1, got {optimism} and {shortlist}")
        model = surrogate or GaussianProcess(gene_scale=0.25, feature_scale=0.42, nugget=0.005, kernels=((1, 1),))
        super().__init__(initial=initial, patience=0, surrogate=model, climbs=0, **options)
        self.optimism, self.shortlist = optimism, shortlist

    def start(self, state: State) -> State:
        """See :meth:`ArchiveDiffusion.start`.

        Raises:
            ValueError: if the problem names no cost.
        """
        self._ask_cost(state.problem, state.archive.genes[:0, 0], state.archive.filled[:0, 0])
        return super().start(state)

    def _members(self, state: State) -> FrontMembers:
        """Look back over the archive, at most ``window`` members; what violated a limit has no fitness and is left out."""
        count = state.known[:, None]
        place = torch.arange(max(int(count.max()), 1), device=count.device).expand(len(count), -1)
        fitness = state.archive.fitness[:, : place.shape[1]]
        real = (place < count) & (feasible(fitness) | ((fitness == -torch.inf) & (not state.problem.partial)))
        genes = state.archive.genes[:, : place.shape[1]]
        cost = self._ask_cost(state.problem, genes, real)
        if (confirm := getattr(state.problem.cost, "confirm", None)) is not None and real.any():
            front = non_dominated(cost.flatten(), fitness.flatten(), real.flatten() & cost.flatten().isfinite())
            confirm(genes.flatten(0, 1)[front], int(state.archive.paid.sum()))
            cost = self._ask_cost(state.problem, genes, real)
        if place.shape[1] > self.window:
            worth = -gap_to_front(cost, -average_rank(fitness, real), real)
            worth = worth.where(place < count - self.window // 2, torch.inf).where(real, -torch.inf)
            keep = worth.argsort(dim=1, descending=True, stable=True)[:, : self.window].sort(1).values
            real, fitness, cost = (one.gather(1, keep) for one in (real, fitness, cost))
            genes = genes.gather(1, keep[..., None].expand(-1, -1, genes.shape[-1]))
        rank = average_rank(fitness, real)
        by_gap = average_rank(-gap_to_front(cost, -rank, real), real)
        return FrontMembers(genes, real, by_gap, -by_gap, normal_scores(rank, real), cost)

    def _scoring(self, state: State, members: Members) -> Callable[[Tensor], Tensor]:
        """Score proposals ``(R, N, L)`` by the log of the expected gain, ``(R, N)``; ``-inf`` for what can gain nothing."""
        if self.surrogate is None or not isinstance(members, FrontMembers):
            return super()._scoring(state, members)
        problem, opening = state.problem, state.memory["opening"] > 0
        kernel, pending = self.surrogate.kernel, self._pending(state)
        known = kernel.embed(problem.space, members.genes)
        fitted = self.surrogate.fit(problem.space, known, members.target, members.real)
        fitted = fitted if pending is None else fitted.expecting(problem.space, pending)

        def score(pool: Tensor) -> Tensor:
            asked = kernel.embed(problem.space, pool)
            mean, deviation, _ = fitted.predict(asked)
            valid = problem.space.valid(pool)
            predicted = self._predicted(problem, pool, valid)
            if problem.cost is not None and not problem.cost.quick and predicted is None:
                guess = self._predicted_cost(problem.space, members, known, asked)
                likely = self._gain(members, mean, deviation, guess).where(valid, -torch.inf)
                worst = likely.sort(1, descending=True).values[:, min(self.shortlist, pool.shape[1]) - 1, None]
                valid = valid & (likely >= worst) & ~opening[:, None]
            cost = self._ask_cost(problem, pool, valid) if predicted is None else predicted
            hopeful = valid & cost.isfinite() & ~self._known_cheaper(problem.space, members, pool, valid, cost)
            return self._gain(members, mean, deviation, cost).where(hopeful, -torch.inf)

        return score

    def _known_cheaper(
        self, space: SearchSpace, members: FrontMembers, pool: Tensor, valid: Tensor, cost: Tensor
    ) -> Tensor:
        """Mark which proposals are isomorphic to a member that costs no more, ``(R, N)``: their fitness is known."""
        asked = space.identity(pool.where(valid[..., None], 0))
        known = space.identity(members.genes.where(members.real[..., None], 0))
        same = (asked[..., None] == known[:, None]) & members.real[:, None]
        return (same & (members.cost[:, None] <= cost[..., None])).any(-1) & valid

    def _gain(self, members: FrontMembers, mean: Tensor, deviation: Tensor, cost: Tensor) -> Tensor:
        """Log of the expected gain, ``(R, N)``, rounded to 2^-20 (see :meth:`GaussianProcess.bound`).

        Area counts up to the largest cost of members and proposals, and from the least fitness of members.
        """
        usual = members.cost.where(members.real, 0.0)
        top = torch.maximum(usual.amax(1), cost.where(cost.isfinite(), 0.0).amax(1))
        low = members.target.where(members.real, torch.inf).amin(1).clamp(max=0)
        scale = top.clamp(min=1e-9)[:, None]
        gain = expected_gain(
            mean,
            self.optimism * deviation,
            cost / scale,
            (usual / scale, members.target, members.real),
            (torch.ones_like(top), low),
        )
        return (gain.clamp(min=1e-99).log() * 2**20).round() / 2**20

    def _predicted_cost(self, space: SearchSpace, members: FrontMembers, known: Tensor, asked: Tensor) -> Tensor:
        """Cost of proposals as a Gaussian process sees it, ``(R, N)``, not below the cheapest member's."""
        process, real = self.surrogate or GaussianProcess(), members.real
        number = real.sum(1, keepdim=True).clamp(min=1)
        centre = members.cost.sum(1, keepdim=True) / number
        target = (members.cost - centre).where(real, 0.0)
        spread = (target.square().sum(1, keepdim=True) / number).sqrt().clamp(min=1e-9)
        mean = process.predict(space, known, target / spread, real, asked)[0]
        return (centre + spread * mean).maximum(members.cost.where(real, torch.inf).amin(1, keepdim=True))

    def _predicted(self, problem: Problem, pool: Tensor, valid: Tensor) -> Tensor | None:
        """Cost of proposals by the cost's own model of what it measured, ``(R, N)``, if it has one by now."""
        model = getattr(problem.cost, "predicted", None)
        found = model(pool[valid]) if model is not None and valid.any() else None
        if found is None:
            return None
        return torch.zeros(valid.shape, dtype=torch.float64, device=pool.device).masked_scatter(valid, found)

    def _ask_cost(self, problem: Problem, genes: Tensor, wanted: Tensor) -> Tensor:
        """Cost where wanted, 0 elsewhere, float64, the shape of ``wanted``."""
        if problem.cost is None:
            raise ValueError(
                f"{type(self).__name__} trades fitness off against a cost; say which: "
                "--objective params, flops or latency_ms"
            )
        out = torch.zeros(wanted.shape, dtype=torch.float64, device=genes.device)
        if wanted.any():
            out[wanted] = problem.cost(genes[wanted]).to(out)
        return out
