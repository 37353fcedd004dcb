"""The interface of a sampler, and the loop that all samplers share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ednag.core.archive import Archive
from ednag.core.noise import Noise
from ednag.samplers.problem import VIOLATORS, FitnessFunction, Problem
from ednag.spaces import SearchSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """The state of a set of runs.

    Attributes:
        problem: what the runs search; it is no part of :meth:`state_dict`.
        noise: the random streams; drawing from them moves them on.
        archive: everything evaluated so far.
        step: steps taken.
        memory: what the algorithm carries from step to step, tensors with leading dimension ``R``.
        pending: how many of the latest architectures in the archive of each run are still being evaluated: nobody knows
            their scores. Other than 0 only while an asynchronous sampler is asked; it is no part of :meth:`state_dict`.

    Examples:
        >>> from ednag.samplers import RandomSearch
        >>> from ednag.spaces import NASBench201
        >>> state = RandomSearch().init(NASBench201(), seeds=[0, 1, 2])
        >>> state.archive.count
        tensor([0, 0, 0])
        >>> sorted(state.state_dict())
        ['archive', 'memory', 'noise', 'step']
    """

    problem: Problem
    noise: Noise
    archive: Archive
    step: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)
    pending: int = 0

    @property
    def known(self) -> Tensor:
        """Number of architectures whose scores are known, int64 ``(R,)``."""
        return self.archive.count - self.pending

    @property
    def space(self) -> SearchSpace:
        """Where architectures come from."""
        return self.problem.space

    def state_dict(self) -> dict[str, Any]:
        """Everything but the problem, as tensors and primitives."""
        return {
            "noise": self.noise.state_dict(),
            "archive": self.archive.state_dict(),
            "step": self.step,
            "memory": self.memory,
        }

    def of(self, runs: Tensor) -> State:
        """The state of some of the runs, int64 ``(r,)``; their random streams are shared with this one."""
        memory = {name: value[runs] for name, value in self.memory.items()}
        return replace(self, noise=self.noise.of(runs.tolist()), archive=self.archive.of(runs), memory=memory)

    def updated(self, runs: Tensor, part: State) -> State:
        """Put what has become of some of the runs, int64 ``(r,)``, see :meth:`of`, in the place of what they were."""
        if len(runs) == len(self.noise):
            return replace(part, noise=self.noise)
        memory = {name: self.memory[name].index_copy(0, runs, value) for name, value in part.memory.items()}
        return replace(part, noise=self.noise, archive=self.archive.updated(runs, part.archive), memory=memory)

    @classmethod
    def from_state_dict(cls, problem: Problem, state: dict[str, Any], device: torch.device | str = "cpu") -> State:
        """Rebuild a state; the runs continue exactly where they were."""
        return cls(
            problem=problem,
            noise=Noise.from_state_dict(state["noise"], device),
            archive=Archive(**{name: value.to(device) for name, value in state["archive"].items()}),
            step=state["step"],
            memory={name: value.to(device) for name, value in state["memory"].items()},
        )


class Sampler(ABC):
    """A method that proposes architectures and learns from their fitness, for ``R`` runs at once.

    A subclass implements :meth:`ask` and :meth:`tell`, and :meth:`start` where it carries memory. ``ask`` never sees
    fitness and ``tell`` never draws an architecture, so that a caller may evaluate in its own way.
    A sampler holds settings only: what a run knows is in its :class:`State`, and what it searches in the :class:`Problem`.

    Examples:
        >>> from ednag.samplers import RandomSearch
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):  # how many 3x3 convolutions
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> state = RandomSearch().sample(NASBench201(), fitness, seeds=[0, 1], evaluations=20)
        >>> state.archive.fitness.amax(1)
        tensor([4., 4.], dtype=torch.float64)
    """

    asynchronous: bool = False
    """Whether :meth:`tell` may be given a part of what was asked for, in any order, and :meth:`ask` called before."""

    heeds_pending: bool = True
    """Whether an asynchronous sampler is to be told which evaluations are pending when it is asked for more."""

    leaves: bool = True
    """Whether a run that is over can leave the others; :meth:`sample` goes on with the rest then."""

    def init(self, problem: Problem | SearchSpace, seeds: Sequence[int], device: torch.device | str = "cpu") -> State:
        """Start one run per seed.

        Args:
            problem: what to search; a space alone counts isomorphic architectures as one.
            seeds: non-negative, one per run.
            device: where everything is computed.
        """
        problem, noise = as_problem(problem), Noise(seeds, device)
        return self.start(State(problem, noise, Archive.empty(len(noise), problem.space.num_genes, device)))

    def resume(
        self, problem: Problem | SearchSpace, state: dict[str, Any], device: torch.device | str = "cpu"
    ) -> State:
        """Continue from :meth:`State.state_dict`.

        Raises:
            KeyError: if the state lacks what this sampler remembers, as one of another version does.
        """
        found = State.from_state_dict(as_problem(problem), state, device)
        if lacking := sorted(self.init(problem, [0], device).memory.keys() - found.memory.keys()):
            raise KeyError(f"a state of {type(self).__name__} without {', '.join(lacking)}")
        return found

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
        problem: Problem | SearchSpace,
        fitness: FitnessFunction,
        seeds: Sequence[int] = (0,),
        evaluations: int | None = None,
        device: torch.device | str = "cpu",
        state: State | None = None,
        after_round: Callable[[State, Tensor, Tensor], None] | None = None,
        everyone: Callable[[bool], bool] = bool,
    ) -> State:
        """Run to the end: of the sampler's steps, of the budget, or of the space; why it stopped early is logged.

        A run that has spent its budget, or seen the whole space, costs nothing from then on.

        Args:
            problem: what to search; a space alone counts isomorphic architectures as one.
            fitness: the score to maximise.
            seeds: one per run.
            evaluations: distinct architectures that a run may evaluate; no limit if omitted. Violators of a constraint
                that ``fitness`` recognises beforehand are not counted, but end a run too if there are
                :data:`VIOLATORS` times as many.
            device: where everything is computed.
            state: continue from here instead of starting.
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
        if evaluations is not None and not 1 <= evaluations <= MOST_EVALUATIONS:
            raise ValueError(f"evaluations must be >= 1 (at most {MOST_EVALUATIONS:,}), got {evaluations}")
        state = self.init(problem, seeds, device) if state is None else state
        whole, runs = state, torch.arange(len(state.noise), device=state.noise.device)
        idle = 0
        while not everyone(self.finished(state, evaluations)) and idle < patience(state):
            whole, runs, state = self._without_those_over(whole, runs, state, evaluations)
            before = int(state.archive.count.sum())
            state, genes, values = self.round(state, fitness, evaluations)
            stuck = int(state.archive.count.sum()) == before and self.steps is None
            idle = idle + 1 if everyone(stuck) else 0
            if after_round is not None:
                whole = whole.updated(runs, state)
                after_round(whole, *_of_all(whole.archive, runs, genes, values))
        state = whole.updated(runs, state)
        if self.steps is None:
            log_end(state.archive, evaluations, state.problem.exhausted(state.archive))
        return state

    def _without_those_over(
        self, whole: State, runs: Tensor, state: State, evaluations: int | None
    ) -> tuple[State, Tensor, State]:
        """Put aside what is over: the state of all runs, which of them go on, int64 ``(r,)``, and the state of those."""
        if not self.leaves or self.steps is not None or len(runs) == 1:
            return whole, runs, state
        on = state.problem.running(state.archive, evaluations).nonzero().flatten()
        if len(on) in (0, len(runs)):
            return whole, runs, state
        return whole.updated(runs, state), runs[on], state.of(on)

    def finished(self, state: State, evaluations: int | None = None) -> bool:
        """Return whether every run has taken its steps, spent its evaluations, or seen the whole space."""
        if self.steps is not None and state.step >= self.steps:
            return True
        return not bool(state.problem.running(state.archive, evaluations).any())

    def round(
        self, state: State, fitness: FitnessFunction, evaluations: int | None = None
    ) -> tuple[State, Tensor, Tensor]:
        """Ask, evaluate what is new and affordable, tell; see ``after_round`` for what is returned."""
        state, genes = self.ask(replace(state, problem=state.problem.told_by(fitness)))
        archive, values = state.problem.evaluate(state.archive, genes, fitness, evaluations)
        state = self.tell(replace(state, archive=archive), genes, values)
        return replace(state, step=state.step + 1), genes, values


def _of_all(archive: Archive, runs: Tensor, genes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Genes and fitness of a round of some runs, ``(R, N, L)`` and ``(R, N)``; the others repeat their first one."""
    if len(runs) == len(archive.count):
        return genes, values
    every = archive.genes[:, :1].repeat(1, genes.shape[1], 1).index_copy(0, runs, genes)
    return every, archive.fitness[:, :1].repeat(1, genes.shape[1]).index_copy(0, runs, values)


def as_problem(problem: Problem | SearchSpace) -> Problem:
    """Make a problem of a space alone."""
    return problem if isinstance(problem, Problem) else Problem(problem)


def log_end(archive: Archive, evaluations: int | None, exhausted: Tensor) -> None:
    """Say why runs ended before their budget was spent, if any did."""
    short = archive.paid < (torch.iinfo(torch.int64).max if evaluations is None else evaluations)
    reasons = {
        "the whole space has been seen": short & exhausted,
        f"{VIOLATORS} x the budget of architectures violated the limits": short
        & (archive.violators >= VIOLATORS * (evaluations or 1)),
    }
    reasons["round after round proposed nothing new"] = short & ~torch.stack(list(reasons.values())).any(0)
    for reason, runs in reasons.items():
        if runs.any():
            least, most = int(archive.paid[runs].min()), int(archive.paid[runs].max())
            spent = f"{least}" if least == most else f"{least} to {most}"
            log.warning("%d run(s) ended after %s evaluations: %s", int(runs.sum()), spent, reason)


MOST_EVALUATIONS = 10**12
"""Evaluations that a run may have; more than any run will make, and few enough to be counted in 64 bits."""

PATIENCE = 1000
"""Give up after this many rounds without a new architecture (samplers without a last step)."""

HOPELESS = 50
"""The same where all that is proposed seems to be beyond a limit, and nothing was evaluated so far."""


def patience(state: State) -> int:
    """After how many rounds without a new architecture to give up."""
    return HOPELESS if state.problem.screened and not bool(state.archive.paid.any()) else PATIENCE
