"""Search with evaluations under way: the sampler goes on with what is known, and slow evaluations hold up nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from ednag.core.archive import Archive
from ednag.samplers.base import PATIENCE, Sampler, State, log_end
from ednag.samplers.problem import FitnessFunction, violators


class Measure(Protocol):
    """Scores architectures somewhere, several at a time."""

    def __call__(self, proposals: Iterator[Tensor | None]) -> Iterator[Tensor]:
        """Take architectures, int64 ``(L,)``, when there is room; yield each once the fitness knows its score.

        ``None`` among them says that there is none until another one has been yielded.
        """


class Asynchronous:
    """One run of a sampler, with evaluations under way.

    When the sampler is asked, pending evaluations are the latest of its archive, without a score, and
    :attr:`~ednag.samplers.base.State.pending` says how many, so that it proposes something else. What it remembers is of
    evaluations that have ended, told one after the other in the order in which they end. A sampler says by
    :attr:`~ednag.samplers.base.Sampler.asynchronous` whether it can work so.

    Args:
        sampler: proposes.
        state: of one run; new, or to be continued.
        fitness: knows the score of what has been measured, and which architectures violate a constraint.
        evaluations: distinct architectures that the run may evaluate; ``None`` for no limit but the space.
        pending: architectures under way when the run was interrupted, int64 ``(L,)``.
        after_round: called whenever the sampler has learned something, with the state, genes ``(1, N, L)`` and their fitness.

    Attributes:
        state: where the run stands.

    Raises:
        ValueError: if the sampler can't work so, or the state is of several runs.
    """

    def __init__(
        self,
        sampler: Sampler,
        state: State,
        fitness: FitnessFunction,
        evaluations: int | None = None,
        pending: Sequence[Tensor] = (),
        after_round: Callable[[State, Tensor, Tensor], None] | None = None,
    ) -> None:
        if not sampler.asynchronous or len(state.noise) != 1:
            raise ValueError(
                f"{type(sampler).__name__} can't go on with evaluations under way, or not for several runs"
            )
        self.sampler, self.fitness, self.evaluations = sampler, fitness, evaluations
        self.state = replace(state, problem=state.problem.told_by(fitness))
        self.after_round = after_round
        self._pending: dict[int, Tensor] = {}
        self._queue: deque[Tensor] = deque()
        for genes in pending:
            self._propose(genes)

    @property
    def pending(self) -> list[Tensor]:
        """Architectures that have been proposed and whose score is not known, int64 ``(L,)``."""
        return [*self._pending.values()]

    def run(self, measure: Measure) -> State:
        """Search until the budget is spent or nothing is left; returns the last state."""
        measured = measure(self.proposals())
        with closing(measured):  # type: ignore[type-var]  # generators can be closed
            for genes in measured:
                del self._pending[self._key(genes)]
                self._settle(genes[None, None])
        archive = self.state.archive
        log_end(archive, self.evaluations, self.state.problem.exhausted(archive))
        return self.state

    def proposals(self) -> Iterator[Tensor | None]:
        """Propose whenever something is asked for, until the budget is spent; see :class:`Measure`."""
        idle = 0
        while idle < PATIENCE:
            if self._queue:
                yield self._queue.popleft()
            elif not self._affordable():
                return
            else:
                idle = 0 if self._ask() else idle + 1
                if idle and self._pending:
                    yield None

    def _affordable(self) -> bool:
        """Whether the budget, or the space, allows for another evaluation beside the pending ones."""
        return bool(self.state.problem.running(self.state.archive, self.evaluations, len(self._pending)))

    def _with_pending(self) -> Archive:
        """The archive, with the pending evaluations at its end."""
        archive = self.state.archive
        if not self._pending:
            return archive
        genes = torch.stack(self.pending)[None]
        keys = self.state.problem.key(genes)
        unknown = torch.full(keys.shape, -torch.inf, dtype=torch.float64, device=genes.device)
        return archive.add(
            keys,
            genes,
            unknown,
            torch.ones_like(keys, dtype=torch.bool),
            torch.zeros_like(archive.lookups),
            passing=True,
        )

    def _ask(self) -> bool:
        """Ask the sampler, keep what is new, and tell it about the rest; returns whether anything was new."""
        known = self.state
        if self._pending and self.sampler.heeds_pending:
            known = replace(known, archive=self._with_pending(), pending=len(self._pending))
        asked, genes = self.sampler.ask(known)
        changed = {name: value for name, value in asked.memory.items() if value is not known.memory.get(name)}
        archive = self.state.archive.looked_up(asked.archive.lookups - known.archive.lookups)
        self.state = replace(self.state, archive=archive, memory={**self.state.memory, **changed})
        problem = self.state.problem
        valid = problem.space.valid(genes)
        keys = problem.keys(genes, valid)
        pending = torch.tensor([[key in self._pending for key in keys[0].tolist()]], device=keys.device)
        new = self.state.archive.unseen(keys) & valid & ~pending
        free = violators(self.fitness, genes, new)
        free = torch.zeros_like(new) if free is None else free
        for one in genes[new & ~free]:
            if self._affordable():
                self._propose(one)
        known_already = ~valid | free | self.state.archive.find(keys)[0]
        if bool(known_already.any()):
            self._settle(genes[known_already][None])
        return bool(new.any())

    def _propose(self, genes: Tensor) -> None:
        self._pending[self._key(genes)] = genes
        self._queue.append(genes)

    def _key(self, genes: Tensor) -> int:
        return int(self.state.problem.key(genes[None]))

    def _settle(self, genes: Tensor) -> None:
        """Record scores that are known by now, and let the sampler learn from them."""
        state = self.state
        archive, values = state.problem.evaluate(state.archive, genes, self.fitness, self.evaluations)
        state = self.sampler.tell(replace(state, archive=archive), genes, values)
        self.state = replace(state, step=state.step + 1)
        if self.after_round is not None:
            self.after_round(self.state, genes, values)
