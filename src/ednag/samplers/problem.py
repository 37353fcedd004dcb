"""What the runs of a sampler work on: a space, what counts as one architecture, and what may be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from ednag.core.archive import Archive
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings

T = TypeVar("T")

ENUMERABLE = 2**17
"""Spaces of up to this many gene strings are looked through whole where that helps."""

VIOLATORS = 10
"""Violators of a constraint that a run may look at for each evaluation of its budget."""


class FitnessFunction(Protocol):
    """Anything that scores architectures, such as :class:`ednag.fitness.Fitness`.

    It may also have a method ``violates(genes, valid)``, which tells, before anything is scored, which architectures
    violate a constraint: these are looked at, remembered and told to the sampler, and cost no evaluation. And it may
    have a flag ``partial``: what it scores ``-inf`` is then unknown rather than bad, which says nothing about others.

    Examples:
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> fitness(torch.tensor([[[3, 3, 0]]]), torch.tensor([[True]]))
        tensor([[2.]], dtype=torch.float64)
    """

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)`` where ``valid`` ``(R, N)``; float64 ``(R, N)``, ``-inf`` elsewhere."""


class CostFunction(Protocol):
    """A cost of architectures that needs no evaluation, such as :class:`ednag.costs.objective.CostObjective`."""

    @property
    def quick(self) -> bool:
        """Whether thousands of architectures can be asked for at once."""

    def __call__(self, genes: Tensor) -> Tensor:
        """Cost of valid architectures, int64 ``(n, L)``: float64 ``(n,)``, ``inf`` if a limit is violated."""


class Screen(Protocol):
    """What limits say of architectures before one is evaluated, such as :class:`ednag.costs.screening.Screening`."""

    dismissed: int
    """Proposals dropped so far."""

    @property
    def quick(self) -> bool:
        """Whether thousands of architectures can be asked for at once, and there is something to say."""

    def excess(self, genes: Tensor, sure: bool = False) -> Tensor:
        """How far architectures, int64 ``(n, L)``, are beyond limits, most likely or surely, float64 ``(n,)``: 0 for not."""

    def key(self, genes: Tensor, identity: Tensor) -> Tensor:
        """Number architectures so that those of one number are within limits together, or beyond them together."""


@dataclass(frozen=True)
class Problem:
    """What a set of runs searches, apart from how: a sampler keeps none of it.

    Attributes:
        space: where architectures come from.
        distinct: what counts as one architecture, and is evaluated once in a run: ``isomorphism`` (classes of the space's
            ``identity``) or ``genes`` (every gene string by itself).
        partial: whether a fitness of ``-inf`` means that an architecture is unknown rather than bad.
        cost: what fitness is traded off against, for samplers that look for a front; ``None`` for nothing.
        error: the standard error of scores, by genes and scores, if the fitness declares one.
        screen: what limits say of architectures, if there are any.

    Raises:
        ValueError: for another ``distinct``.

    Example:
        >>> from ednag.spaces import NASBench201
        >>> problem = Problem(NASBench201())
        >>> genes = problem.space.parse("|skip_connect~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
        >>> bool(problem.key(genes) == problem.space.identity(genes))
        True

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> genes = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 3, 0, 0, 0]])  # both compute nothing
        >>> Problem(NASBench201()).key(genes)
        tensor([0, 0])
        >>> Problem(NASBench201(), distinct="genes").key(genes)
        tensor([  0, 375])
    """

    space: SearchSpace
    distinct: Literal["isomorphism", "genes"] = "isomorphism"
    partial: bool = False
    cost: CostFunction | None = None
    error: Callable[[Tensor, Tensor], Tensor | None] | None = field(default=None, compare=False)
    screen: Screen | None = field(default=None, compare=False)
    _derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.distinct not in ("isomorphism", "genes"):
            raise ValueError(f"distinct must be 'isomorphism' or 'genes', got {self.distinct!r}")

    def told_by(self, fitness: FitnessFunction) -> Problem:
        """Learn from a fitness what its scores mean, and what limits it knows."""
        own: dict[str, Any] = {
            "partial": bool(getattr(fitness, "partial", False)),
            "error": getattr(fitness, "standard_error", None),
            "screen": getattr(fitness, "screen", self.screen),
        }
        return self if all(getattr(self, name) == value for name, value in own.items()) else replace(self, **own)

    def derive(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, made once for these runs: a calibrated prior, a count of the space."""
        if name not in self._derived:
            self._derived[name] = make()
        made: T = self._derived[name]
        return made

    def key(self, genes: Tensor) -> Tensor:
        """Number that tells architectures apart, int64 ``(*B,)``; see ``distinct``."""
        if self.distinct == "genes":
            return self.space.code(genes)
        identity = self.space.identity(genes)
        return identity if self.screen is None else self.screen.key(genes, identity)

    def keys(self, genes: Tensor, valid: Tensor) -> Tensor:
        """:meth:`key` of architectures ``(*B, L)`` where they are ``valid``, -1 elsewhere."""
        return self.key(genes.where(valid[..., None], 0)).where(valid, -1)

    def excess(self, genes: Tensor, sure: bool = False) -> Tensor:
        """How far architectures, int64 ``(*B, L)``, are beyond limits, float64 ``(*B,)``; ``inf`` if not valid.

        Where a limit's cost is only predicted, ``sure`` asks for what is beyond it in any case.
        """
        valid = self.space.valid(genes)
        out = torch.full(valid.shape, torch.inf, dtype=torch.float64, device=genes.device)
        if self.screen is None or not self.screen.quick:
            return out.masked_fill(valid, 0.0)
        out[valid] = self.screen.excess(genes[valid], sure)
        return out

    @property
    def screened(self) -> bool:
        """Whether limits can be asked of thousands of architectures at once."""
        return self.screen is not None and self.screen.quick

    def every_architecture(self, device: torch.device | str = "cpu") -> Tensor:
        """Enumerate all valid gene strings, int64 ``(n, L)``; the space must be small."""
        genes = gene_strings(self.space.cardinalities, device)
        return genes[self.space.valid(genes)]

    def exhausted(self, archive: Archive, pending: int = 0) -> Tensor:
        """Mark which runs have looked at every distinct architecture of the space, bool ``(R,)``; see :meth:`running`.

        Distinct architectures are counted in spaces of up to :data:`ENUMERABLE` gene strings, once a run has met a
        sixteenth of those (under limits that are known at once, those within); otherwise every gene string is taken for an
        architecture of its own.
        """
        if self.screened and self.space.size <= ENUMERABLE:
            within = self.derive("distinct architectures within limits", lambda: self._distinct(archive))
            return archive.paid >= within - pending
        if self.space.size > ENUMERABLE or (int(archive.count.max()) + pending) * 16 < self.space.size:
            return archive.count >= min(self.space.size, torch.iinfo(torch.int64).max) - pending
        return archive.count >= self.derive("distinct architectures", lambda: self._distinct(archive)) - pending

    def _distinct(self, archive: Archive) -> int:
        """Count the distinct architectures within limits, on the device of an archive."""
        genes = self.every_architecture(archive.genes.device)
        return int(torch.unique(self.key(genes[self.excess(genes) == 0])).numel())

    def running(self, archive: Archive, evaluations: int | None = None, pending: int = 0) -> Tensor:
        """Mark which runs may still evaluate something, bool ``(R,)``, if ``pending`` new ones of each are under way."""
        running = ~self.exhausted(archive, pending)
        if evaluations is None:
            return running
        return running & (archive.paid < evaluations - pending) & (archive.violators < VIOLATORS * evaluations)

    def evaluate(
        self, archive: Archive, genes: Tensor, fitness: FitnessFunction, evaluations: int | None
    ) -> tuple[Archive, Tensor]:
        """Evaluate what a run has not evaluated yet, within its budget; look the rest up.

        Look-ups are counted until a run's budget is spent, so that they don't depend on the runs beside it.

        Returns:
            the archive with the new entries, and the fitness of all, float64 ``(R, N)``: ``-inf`` if invalid or
            beyond the budget.
        """
        valid = self.space.valid(genes)
        keys = self.keys(genes, valid)
        running = valid & self.running(archive, evaluations)[:, None]
        affordable = archive.unseen(keys) & running
        free = violators(fitness, genes, affordable)
        if evaluations is not None:
            paid = affordable if free is None else affordable & ~free
            affordable = paid & (archive.paid[:, None] + paid.cumsum(1) <= evaluations)
            if free is not None:
                affordable |= free & (archive.violators[:, None] + free.cumsum(1) <= VIOLATORS * evaluations)
        archive = archive.add(keys, genes, fitness(genes, affordable), affordable, running.sum(1))
        known, position = archive.find(keys)
        values = archive.fitness.gather(1, position)
        return archive, values.where(known & valid, -torch.inf)


def violators(fitness: FitnessFunction, genes: Tensor, asked: Tensor) -> Tensor | None:
    """Mark which of the architectures ``(R, N, L)`` that are ``asked`` for, bool ``(R, N)``, violate a constraint of a fitness.

    Returns:
        bool ``(R, N)``; ``None`` if the fitness knows of no constraint.
    """
    violates: Callable[[Tensor, Tensor], Tensor] | None = getattr(fitness, "violates", None)
    return None if violates is None else violates(genes, asked) & asked
