"""Plain search methods behind the same interface, to compare with at the same number of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ednag.samplers.base import Sampler, State


class RandomSearch(Sampler):
    """Uniformly random genes.

    Args:
        batch: architectures proposed at once.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> RandomSearch().sample(NASBench201(), fitness, seeds=[0, 1], evaluations=20).archive.count
        tensor([20, 20])
    """

    asynchronous, heeds_pending = True, False

    def __init__(self, batch: int = 10) -> None:
        if batch < 1:
            raise ValueError(f"batch must be >= 1, got {batch}")
        self.batch = batch

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose ``batch`` random architectures."""
        return state, state.space.random(state.noise, self.batch)

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Learn nothing."""
        return state


class LocalSearch(Sampler):
    """First-improvement hill climbing over one-gene changes, restarted at random when no neighbour is better.

    The neighbours of the current architecture are tried in a random order; the first better one becomes current.
    (White et al. 2021 show how strong this baseline is.)

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> LocalSearch().sample(NASBench201(), fitness, evaluations=60).archive.fitness.max()
        tensor(6., dtype=torch.float64)
    """

    def start(self, state: State) -> State:
        """Begin with a restart."""
        runs, device = len(state.noise), state.noise.device
        moves = sum(k - 1 for k in state.space.cardinalities)
        return replace(
            state,
            memory={
                "current": torch.zeros((runs, state.space.num_genes), dtype=torch.int64, device=device),
                "value": torch.full((runs,), -torch.inf, dtype=torch.float64, device=device),
                "order": torch.zeros((runs, moves), dtype=torch.int64, device=device),
                "next": torch.full((runs,), moves, dtype=torch.int64, device=device),
            },
        )

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose the next neighbour of each run, or a random architecture where none is left."""
        memory = state.memory
        restart = memory["next"] >= memory["order"].shape[1]
        move = memory["order"].gather(1, memory["next"].clamp(max=memory["order"].shape[1] - 1)[:, None]).squeeze(1)
        neighbour = self._apply(state.space.cardinalities, memory["current"], move)
        fresh = state.space.random(state.noise, 1)[:, 0]
        return state, torch.where(restart[:, None], fresh, neighbour)[:, None]

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Move where the neighbour is better or the run restarted; else go on to the next neighbour."""
        memory = state.memory
        restart = memory["next"] >= memory["order"].shape[1]
        moved = restart | (fitness[:, 0] > memory["value"])
        order = state.noise.uniform(memory["order"].shape[1]).argsort(-1)
        return replace(
            state,
            memory={
                "current": torch.where(moved[:, None], genes[:, 0], memory["current"]),
                "value": torch.where(moved, fitness[:, 0], memory["value"]),
                "order": torch.where(moved[:, None], order, memory["order"]),
                "next": torch.where(moved, 0, memory["next"] + 1),
            },
        )

    def _apply(self, cardinalities: Sequence[int], genes: Tensor, move: Tensor) -> Tensor:
        """Change one gene: moves number the other values of gene 0, then of gene 1, and so on."""
        table = [(gene, shift) for gene, k in enumerate(cardinalities) for shift in range(1, k)]
        position, shift = torch.tensor(table, device=genes.device)[move].unbind(-1)
        high = torch.tensor(cardinalities, device=genes.device)[position]
        old = genes.gather(1, position[:, None]).squeeze(1)
        return genes.scatter(1, position[:, None], ((old + shift) % high)[:, None])
