"""The interface of a sampler, and the loop that all of them share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ednag.core.archive import Archive
from ednag.core.noise import Noise
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings

log = logging.getLogger(__name__)


class FitnessFunction(Protocol):
    """Anything that scores architectures, such as :class:`ednag.fitness.Fitness`.

    It may also have a method ``violates(genes, valid)``, which tells, before anything is scored, which architectures
    violate a constraint: these are looked at, remembered and told to the sampler, and cost no evaluation. And it may
    have a flag ``partial``: what it scores ``-inf`` is then unknown rather than bad, which says nothing about others.
    """

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)`` where ``valid`` ``(R, N)``; float64 ``(R, N)``, ``-inf`` elsewhere."""


@dataclass(frozen=True)
class State:
    """Where a set of runs stands.

    Attributes:
        noise: the random streams; drawing from them moves them on.
        archive: everything evaluated so far.
        step: steps taken.
        memory: what the algorithm carries from step to step, tensors with leading dimension ``R``.
    """

    noise: Noise
    archive: Archive
    step: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and primitives."""
        return {
            "noise": self.noise.state_dict(),
            "archive": self.archive.state_dict(),
            "step": self.step,
            "memory": self.memory,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> State:
        """Rebuild a state; the runs continue exactly where they were."""
        return cls(
            noise=Noise.from_state_dict(state["noise"], device),
            archive=Archive(**{name: value.to(device) for name, value in state["archive"].items()}),
            step=state["step"],
            memory={name: value.to(device) for name, value in state["memory"].items()},
        )


class Sampler(ABC):
    """A method that proposes architectures and learns from their fitness, for ``R`` runs at once.

    A subclass implements :meth:`ask` and :meth:`tell`, and :meth:`start` where it carries memory. ``ask`` never sees
    fitness and ``tell`` never draws an architecture, so that a caller may evaluate in its own way.

    Args:
        distinct: what counts as one architecture, and is evaluated once in a run: ``isomorphism`` (classes of the
            space's ``identity``) or ``genes`` (every gene string by itself).
    """

    def __init__(self, distinct: Literal["isomorphism", "genes"] = "isomorphism") -> None:
        if distinct not in ("isomorphism", "genes"):
            raise ValueError(f"distinct must be 'isomorphism' or 'genes', got {distinct!r}")
        self.distinct = distinct
        self._partial = False
        self._whole: tuple[SearchSpace, str, int] | None = None

    def init(self, space: SearchSpace, seeds: Sequence[int], device: torch.device | str = "cpu") -> State:
        """Start one run a seed.

        Args:
            space: where architectures come from.
            seeds: non-negative, one a run.
            device: where everything is computed.
        """
        self.space = space
        noise = Noise(seeds, device)
        return self.start(State(noise, Archive.empty(len(noise), space.num_genes, device)))

    def resume(self, space: SearchSpace, state: dict[str, Any], device: torch.device | str = "cpu") -> State:
        """Continue from :meth:`State.state_dict`."""
        self.space = space
        return State.from_state_dict(state, device)

    def start(self, state: State) -> State:
        """Add the algorithm's own memory to a fresh state; nothing by default."""
        return state

    @property
    def steps(self) -> int | None:
        """Number of ask-tell rounds after which the algorithm ends by itself; ``None`` if only a budget ends it."""
        return None

    @abstractmethod
    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose architectures.

        Returns:
            the state to ``tell``, and genes int64 ``(R, N, L)``.
        """

    @abstractmethod
    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Learn from evaluations.

        Args:
            state: as returned by :meth:`ask`, with the archive brought up to date.
            genes: the architectures asked for, ``(R, N, L)``.
            fitness: float64 ``(R, N)``.
        """

    def sample(
        self,
        space: SearchSpace,
        fitness: FitnessFunction,
        seeds: Sequence[int] = (0,),
        evaluations: int | None = None,
        device: torch.device | str = "cpu",
        state: State | None = None,
        after_round: Callable[[State, Tensor, Tensor], None] | None = None,
        everyone: Callable[[bool], bool] = bool,
    ) -> State:
        """Run to the end: of the sampler's steps, of the budget, or of the space; why it stopped early is logged.

        Args:
            space: the search space.
            fitness: the score to maximise.
            seeds: one a run.
            evaluations: distinct architectures a run may evaluate; no limit where ``None``. Violators of a constraint
                that ``fitness`` recognises beforehand are not counted, but end a run too where there are
                :data:`VIOLATORS` times as many.
            device: where everything is computed.
            state: continue from here in place of starting.
            after_round: called after each round with the state, the genes asked for and their fitness.
            everyone: tells whether something holds here and in all processes that work on other seeds at the same time,
                so that all of them take the same number of rounds.

        Returns:
            the final state.

        Raises:
            ValueError: if neither the sampler nor ``evaluations`` bounds the run.
        """
        if evaluations is None and self.steps is None:
            raise ValueError(f"{type(self).__name__} has no last step; give it a number of evaluations")
        if evaluations is not None and evaluations < 1:
            raise ValueError(f"evaluations must be >= 1, got {evaluations}")
        self.space = space
        state = self.init(space, seeds, device) if state is None else state
        idle = 0
        while not everyone(self.finished(state, evaluations)) and idle < PATIENCE:
            before = int(state.archive.count.sum())
            state, genes, values = self.round(state, fitness, evaluations)
            stuck = int(state.archive.count.sum()) == before and self.steps is None
            idle = idle + 1 if everyone(stuck) else 0
            if after_round is not None:
                after_round(state, genes, values)
        if self.steps is None:
            log_end(state.archive, evaluations, self.exhausted(state.archive))
        return state

    def finished(self, state: State, evaluations: int | None = None) -> bool:
        """Tell whether every run has taken its steps, spent its evaluations, or seen the whole space."""
        if self.steps is not None and state.step >= self.steps:
            return True
        return not bool(self.running(state.archive, evaluations).any())

    def running(self, archive: Archive, evaluations: int | None = None) -> Tensor:
        """Tell which runs may still evaluate something, bool ``(R,)``."""
        running = ~self.exhausted(archive)
        if evaluations is None:
            return running
        return running & (archive.paid < evaluations) & (archive.violators < VIOLATORS * evaluations)

    def exhausted(self, archive: Archive) -> Tensor:
        """Tell which runs have looked at every distinct architecture of the space, bool ``(R,)``.

        Distinct architectures are counted in spaces of up to :data:`ENUMERABLE` gene strings, once a run has met a
        sixteenth of those; otherwise every gene string is taken for an architecture of its own.
        """
        if self.space.size > ENUMERABLE or int(archive.count.max()) * 16 < self.space.size:
            return archive.count >= min(self.space.size, torch.iinfo(torch.int64).max)
        if self._whole is None or self._whole[:2] != (self.space, self.distinct):
            genes = every_gene_string(self.space, archive.genes.device)
            keys = self.key(genes[self.space.valid(genes)])
            self._whole = (self.space, self.distinct, int(torch.unique(keys).numel()))
        return archive.count >= self._whole[2]

    def round(
        self, state: State, fitness: FitnessFunction, evaluations: int | None = None
    ) -> tuple[State, Tensor, Tensor]:
        """Ask, evaluate what is new and affordable, tell; see ``after_round`` for what is returned."""
        self._partial = getattr(fitness, "partial", False)
        state, genes = self.ask(state)
        archive, values = self.evaluate(state.archive, genes, fitness, evaluations)
        state = self.tell(replace(state, archive=archive), genes, values)
        return replace(state, step=state.step + 1), genes, values

    def key(self, genes: Tensor) -> Tensor:
        """Number that tells architectures apart, int64 ``(*B,)``; see ``distinct``."""
        return self.space.identity(genes) if self.distinct == "isomorphism" else self.space.code(genes)

    def evaluate(
        self, archive: Archive, genes: Tensor, fitness: FitnessFunction, evaluations: int | None
    ) -> tuple[Archive, Tensor]:
        """Evaluate what a run has not evaluated yet, within its budget; look the rest up.

        Look-ups are counted until a run's budget is spent, so that they don't depend on the runs beside it.

        Returns:
            the archive with the new entries, and the fitness of all, float64 ``(R, N)``: ``-inf`` where invalid or
            beyond the budget.
        """
        valid = self.space.valid(genes)
        keys = self.key(genes.where(valid[..., None], 0)).where(valid, -1)
        running = self.running(archive, evaluations)[:, None]
        fresh = archive.unseen(keys) & valid & running
        violates: Callable[[Tensor, Tensor], Tensor] | None = getattr(fitness, "violates", None)
        free = torch.zeros_like(fresh) if violates is None else violates(genes, fresh) & fresh
        budget = torch.iinfo(torch.int64).max if evaluations is None else evaluations
        most = budget if evaluations is None else VIOLATORS * evaluations
        paid = (fresh & ~free) & (archive.paid[:, None] + (fresh & ~free).cumsum(1) <= budget)
        free = free & (archive.violators[:, None] + free.cumsum(1) <= most)
        affordable = paid | free
        archive = archive.add(keys, genes, fitness(genes, affordable), affordable, (valid & running).sum(1))
        known, position = archive.find(keys)
        values = archive.fitness.gather(1, position)
        return archive, values.where(known & valid, -torch.inf)


def every_gene_string(space: SearchSpace, device: torch.device | str = "cpu") -> Tensor:
    """Enumerate a space, int64 ``(size, L)``; it must be small."""
    return gene_strings(space.cardinalities, device)


def log_end(archive: Archive, evaluations: int | None, exhausted: Tensor) -> None:
    """Say why runs ended before their budget was spent, if any did."""
    short = archive.paid < (torch.iinfo(torch.int64).max if evaluations is None else evaluations)
    reasons = {
        "every architecture of the space was looked at": short & exhausted,
        f"{VIOLATORS} violators of the limits for each evaluation of the budget": short
        & (archive.violators >= VIOLATORS * (evaluations or 1)),
    }
    reasons[f"{PATIENCE} rounds brought nothing new"] = short & ~torch.stack(list(reasons.values())).any(0)
    for reason, runs in reasons.items():
        if runs.any():
            least, most = int(archive.paid[runs].min()), int(archive.paid[runs].max())
            spent = f"{least}" if least == most else f"{least} to {most}"
            log.warning("%d run(s) ended after %s evaluations: %s", int(runs.sum()), spent, reason)


PATIENCE = 1000
"""Rounds without a new architecture after which a sampler without a last step gives up."""

ENUMERABLE = 2**17
"""Spaces of up to this many gene strings are looked through whole where that helps."""

VIOLATORS = 10
"""Violators of a constraint that a run may look at for each evaluation of its budget."""
