"""Ageing evolution, behind the same interface."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ednag.core.noise import Noise
from ednag.samplers.base import Sampler, State
from ednag.samplers.problem import ENUMERABLE, Problem
from ednag.spaces.base import gene_strings


class RegularisedEvolution(Sampler):
    """Ageing evolution (Real et al. 2019): mutate the winner of a tournament, let the oldest member die.

    A mutant that is known already, or invalid, is looked up and becomes a member at once, and the next is made, until one is
    new or :data:`TRIES` were made. So each round costs an evaluation, however many mutants it takes.

    Args:
        population: members kept.
        tournament: members that compete to be the parent.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> RegularisedEvolution(population=10, tournament=5).sample(NASBench201(), fitness, evaluations=20).archive.count
        tensor([20])
    """

    asynchronous, heeds_pending = True, False

    def __init__(
        self,
        population: int = 30,
        tournament: int = 10,
    ) -> None:
        if not 1 <= tournament <= population:
            raise ValueError(f"need 1 <= tournament <= population, got {tournament} and {population}")
        self.population, self.tournament = population, tournament

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose a random population at first, then one mutant a run; those looked up on the way become members."""
        if not state.memory or state.memory["genes"].shape[1] < self.population:
            return state, state.space.random(state.noise, self.population)
        archive, numbers = state.archive, Numbers(state.problem)
        members, values = (state.memory[name].numpy(force=True) for name in ("genes", "fitness"))
        keys, scores = (of.numpy(force=True) for of in (archive.keys, archive.fitness))
        herds, mutants = [], []
        for run, count in enumerate(archive.count.tolist()):
            herd = Herd(members[run].tolist(), values[run].tolist(), keys[run, :count], scores[run, :count])
            mutants.append(herd.mutant(state.noise.of([run]), numbers, self.tournament))
            herds.append(herd)
        device, looked_up = archive.genes.device, torch.tensor([herd.looked_up for herd in herds])
        memory = {
            "genes": torch.from_numpy(np.stack([h.after(old, h.genes) for h, old in zip(herds, members, strict=True)])),
            "fitness": torch.from_numpy(
                np.stack([h.after(old, h.fitness) for h, old in zip(herds, values, strict=True)])
            ),
        }
        memory = {name: value.to(device) for name, value in memory.items()}
        state = replace(state, archive=archive.looked_up(looked_up.to(device)), memory=memory)
        return state, torch.tensor(mutants, device=device)[:, None]

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Append the newest, drop the oldest."""
        if state.memory:
            genes = torch.cat([state.memory["genes"], genes], 1)[:, -self.population :]
            fitness = torch.cat([state.memory["fitness"], fitness], 1)[:, -self.population :]
        return replace(state, memory={"genes": genes, "fitness": fitness})


class Numbers:
    """Numbers that tell architectures apart (:meth:`Problem.key`), -1 for invalid ones, for one gene string at a time.

    Those of a small space are worked out at once, else those of all neighbours of a parent, and kept.

    Args:
        problem: what is searched.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.cardinalities = problem, problem.space.cardinalities
        self.small = problem.space.size <= ENUMERABLE and not problem.screened
        self._known: dict[tuple[int, ...], int] = problem.derive("numbers of mutants", dict)

    def __call__(self, genes: tuple[int, ...], parent: tuple[int, ...], device: torch.device) -> int:
        """Number a mutant of a parent."""
        if genes not in self._known:
            if len(self._known) > KEPT:
                self._known.clear()
            near = gene_strings(self.cardinalities, device) if self.small else self._neighbours(parent, device)
            keys = self.problem.keys(near, self.problem.space.valid(near))
            self._known.update(zip(map(tuple, near.tolist()), keys.tolist(), strict=True))
        return self._known[genes]

    def _neighbours(self, parent: tuple[int, ...], device: torch.device) -> Tensor:
        """Everything that differs from a parent in at most one gene, int64 ``(n, L)``."""
        own = [
            parent,
            *(
                (*parent[:place], value, *parent[place + 1 :])
                for place, choices in enumerate(self.cardinalities)
                for value in range(choices)
                if value != parent[place]
            ),
        ]
        return torch.tensor(own, device=device)


@dataclass
class Herd:
    """The population of one run while mutants are made.

    Attributes:
        genes: of the members, the oldest first.
        fitness: of the members.
        keys: numbers of what was evaluated, int64 ``(m,)``.
        scores: fitness of those, float64 ``(m,)``.
        looked_up: how many valid mutants were known.
        born: how many mutants became members.
    """

    genes: list[list[int]]
    fitness: list[float]
    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    looked_up: int = 0
    born: int = 0

    def mutant(self, noise: Noise, numbers: Numbers, tournament: int) -> list[int]:
        """Make mutants until one is new, or :data:`TRIES` were made; the last one is no member yet.

        Args:
            noise: of this run.
            numbers: tell what is known.
            tournament: members that compete to be the parent.
        """
        members, cardinalities = len(self.genes), numbers.cardinalities
        for turn in range(TRIES):
            u = noise.uniform(members + 2)[0].numpy(force=True)
            drawn = u[:members].argsort()[:tournament].tolist()
            parent = self.genes[max(drawn, key=self.fitness.__getitem__)]
            where, shift = u[members:]
            place = min(int(where * np.float32(len(parent))), len(parent) - 1)
            high = cardinalities[place]
            step = 1 + min(int(shift * np.float32(high - 1)), high - 2)
            child = [*parent[:place], (parent[place] + step) % high, *parent[place + 1 :]]
            key = numbers(tuple(child), tuple(parent), noise.device)
            value = self.known(key) if key >= 0 else -torch.inf
            if value is None or turn == TRIES - 1:
                break
            self.looked_up += key >= 0
            self.born += 1
            self.genes.append(child)
            self.fitness.append(value)
            del self.genes[0], self.fitness[0]
        return child

    def known(self, key: int) -> float | None:
        """Fitness of what has a number; ``None`` if it was not evaluated."""
        places = np.flatnonzero(self.keys == key)
        return float(self.scores[places[0]]) if len(places) else None

    def after(self, old: Any, new: list[Any]) -> Any:
        """What is known of the members, an array of which ``old`` is the one before mutants were made."""
        if self.born == 0:
            return old
        return np.concatenate([old[self.born :], np.array(new[-self.born :], dtype=old.dtype)])


TRIES = 100
"""Mutants that a run makes in a round at most."""

KEPT = 2**18
"""Numbers of gene strings that are kept at most."""
