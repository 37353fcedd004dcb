"""What a generation run holds: random streams, the archive of everything evaluated, and the legend of shapes.

Legend, used in every docstring of the package:

======  =============================================================================
symbol  meaning
======  =============================================================================
``R``   independent runs (seeds) that advance together
``N``   members of a population
``L``   genes of an architecture (integers; gene ``l`` is in ``0 .. cardinalities[l]-1``)
``D``   continuous genes: the one-hot width, ``sum(cardinalities)`` unless a space says otherwise
``M``   places in an archive
``*B``  any leading batch dimensions
======  =============================================================================

Fitness is a float64 tensor, higher is better. ``-inf`` marks an architecture that is invalid or whose evaluation
failed; values at or below :data:`INFEASIBLE` mark one that violates a constraint (the further below, the worse).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

INFEASIBLE = -(2.0**40)
"""Fitness at or below this belongs to an architecture that violates a constraint (or is invalid, at ``-inf``)."""


def feasible(fitness: Tensor) -> Tensor:
    """Mark which fitness values belong to architectures that are valid and meet every constraint.

    Args:
        fitness: any shape.

    Returns:
        boolean tensor of the same shape.
    """
    return fitness > INFEASIBLE


@dataclass(frozen=True)
class Archive:
    """Every distinct architecture that each run has evaluated, in order of evaluation.

    Rows beyond ``count`` are padding: key ``-1``, fitness ``-inf``.

    An archive never changes. The next one shares its memory where it can, so that adding one architecture after the other
    takes linear time in all.

    Attributes:
        keys: canonical identity of each architecture, int64 ``(R, M)``, non-negative.
        genes: int64 ``(R, M, L)``.
        fitness: float64 ``(R, M)``.
        count: distinct architectures evaluated, int64 ``(R,)``.
        lookups: architectures asked for in all, repeats included, int64 ``(R,)``.

    Examples:
        >>> archive = Archive.empty(runs=1, num_genes=3)
        >>> keys, genes, fitness = torch.tensor([[5, 7]]), torch.zeros(1, 2, 3, dtype=torch.int64), torch.tensor([[0.1, 0.2]])
        >>> archive = archive.add(keys, genes, fitness, archive.unseen(keys), torch.tensor([2]))
        >>> archive.count
        tensor([2])
        >>> archive.find(torch.tensor([[7, 8]]))[0]
        tensor([[ True, False]])
    """

    keys: Tensor
    genes: Tensor
    fitness: Tensor
    count: Tensor
    lookups: Tensor
    _room: Room | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def empty(cls, runs: int, num_genes: int, device: torch.device | str = "cpu", capacity: int = 64) -> Archive:
        """Create an empty archive for ``runs`` runs."""
        zeros = torch.zeros(runs, dtype=torch.int64, device=device)
        return cls(
            keys=torch.full((runs, capacity), -1, dtype=torch.int64, device=device),
            genes=torch.zeros((runs, capacity, num_genes), dtype=torch.int64, device=device),
            fitness=torch.full((runs, capacity), -torch.inf, dtype=torch.float64, device=device),
            count=zeros,
            lookups=zeros.clone(),
        )

    @classmethod
    def join(cls, parts: Sequence[Archive]) -> Archive:
        """Concatenate the archives of several sets of runs on one device."""
        if len(parts) == 1:
            return parts[0]
        most = max(part.keys.shape[1] for part in parts)
        grown = [part._reserve(most).state_dict() for part in parts]
        return cls(**{name: torch.cat([part[name] for part in grown]) for name in grown[0]})

    def to(self, device: torch.device | str) -> Archive:
        """Move everything to a device."""
        return Archive(**{name: value.to(device) for name, value in self.state_dict().items()})

    def of(self, runs: Tensor) -> Archive:
        """The archive of some of the runs, int64 ``(r,)``."""
        return Archive(**{name: value[runs] for name, value in self.state_dict().items()})

    def updated(self, runs: Tensor, part: Archive) -> Archive:
        """The archive with that of some of the runs, int64 ``(r,)``, in the place of what was there."""
        most = max(self.keys.shape[1], part.keys.shape[1])
        old, new = self._reserve(most).state_dict(), part._reserve(most).state_dict()
        return Archive(**{name: value.index_copy(0, runs, new[name]) for name, value in old.items()})

    @property
    def filled(self) -> Tensor:
        """Mask of the rows that hold an architecture, ``(R, M)``."""
        return torch.arange(self.keys.shape[1], device=self.keys.device) < self.count[:, None]

    @cached_property
    def violates(self) -> Tensor:
        """Mask of the rows whose architecture violates a constraint, and was never evaluated for that, ``(R, M)``."""
        return self.filled & ~feasible(self.fitness) & (self.fitness > -torch.inf)

    @cached_property
    def violators(self) -> Tensor:
        """Number of architectures that violate a constraint, int64 ``(R,)``."""
        return self.violates.sum(1)

    @property
    def paid(self) -> Tensor:
        """Number of evaluated entries, including failed ones, int64 ``(R,)``."""
        return self.count - self.violators

    def evaluated(self) -> Archive:
        """The archive without violators, which cost no evaluation; the others in their order."""
        if not bool(self.violators.any()):
            return self
        order = self.violates.int().argsort(dim=1, stable=True)
        filled = torch.arange(order.shape[1], device=order.device) < self.paid[:, None]
        return Archive(
            keys=self.keys.gather(1, order).where(filled, -1),
            genes=self.genes.gather(1, order[..., None].expand_as(self.genes)),
            fitness=self.fitness.gather(1, order).where(filled, -torch.inf),
            count=self.paid,
            lookups=self.lookups,
        )

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Look architectures up.

        Args:
            keys: identities, ``(R, N)``, non-negative.

        Returns:
            ``known`` (bool) and ``position`` (int64; 0 if unknown), both ``(R, N)``.
        """
        ordered, order = self._index
        place = torch.searchsorted(ordered, keys.contiguous()).clamp(max=ordered.shape[1] - 1)
        known = ordered.gather(1, place) == keys
        position = order.gather(1, place).where(known, 0)
        latest = self.keys[:, order.shape[1] :] if order.shape[1] < int(self.count.max()) else None
        if latest is None:
            return known, position
        same = keys[..., None] == latest[:, None, :]
        recent = same.any(-1)
        return known | recent, position.where(~recent, order.shape[1] + same.int().argmax(-1))

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor]:
        """Keys in ascending order, padding last, and the row each comes from; both ``(R, m)``, of the first ``m`` rows."""
        most = max(int(self.count.max()), 1)
        keys = self.keys[:, :most].where(self.filled[:, :most], torch.iinfo(torch.int64).max)
        ordered, order = keys.sort(1)
        return ordered, order

    def unseen(self, keys: Tensor) -> Tensor:
        """Mark the members that are neither in the archive nor earlier in the batch, bool ``(R, N)``."""
        return ~self.find(keys)[0] & first_occurrence(keys)

    def add(
        self, keys: Tensor, genes: Tensor, fitness: Tensor, new: Tensor, lookups: Tensor, passing: bool = False
    ) -> Archive:
        """Record evaluated architectures.

        Args:
            keys: ``(R, N)``.
            genes: ``(R, N, L)``.
            fitness: ``(R, N)``.
            new: which members to record, bool ``(R, N)``; see :meth:`unseen`.
            lookups: how many architectures were asked for, int64 ``(R,)``.
            passing: whether what is returned is used no longer than until something else is added to this archive.

        Returns:
            a new archive.
        """
        row, member = new.nonzero(as_tuple=True)
        place = (row, (self.count[:, None] + new.cumsum(1) - 1)[row, member])
        count = self.count + new.sum(1)
        rows = int(count.max())
        room = self._fitting(place[1], rows if rows > LEAST else int(self.count.max()) + keys.shape[1])
        for buffer, values in zip(room.buffers, (keys, genes, fitness.double()), strict=True):
            buffer.index_put_(place, values[row, member])
        if not passing:
            room.newest = count
        known = [buffer[:, :rows] if rows > LEAST else buffer for buffer in room.buffers]
        grown = Archive(known[0], known[1], known[2], count, self.lookups + lookups)
        violate = new & ~feasible(fitness) & (fitness > -torch.inf)
        told: dict[str, Any] = {"_room": room, "violators": self.violators + violate.sum(1)}
        if "_index" in vars(self) and room is self._room and rows - self._index[0].shape[1] <= LATEST < rows // 8:
            told["_index"] = self._index
        for name, value in told.items():
            object.__setattr__(grown, name, value)
        return grown

    def looked_up(self, number: Tensor) -> Archive:
        """The archive after further look-ups, int64 ``(R,)``, of what it has."""
        grown = copy.copy(self)
        object.__setattr__(grown, "lookups", self.lookups + number)
        return grown

    def _fitting(self, place: Tensor, rows: int) -> Room:
        """Find room for ``rows``: the own, if it has more and nobody sees the places to be filled; else a new one."""
        room, seen = self._room, self.keys.shape[1]
        if (
            room is not None
            and room.newest is self.count
            and rows <= room.buffers[0].shape[1]
            and bool((place >= seen).all())
        ):
            return room
        capacity = seen
        while capacity < rows:
            capacity *= 2  # so that growth costs linear time in all
        grown = self._reserve(capacity)
        if grown is self:
            return Room((self.keys.clone(), self.genes.clone(), self.fitness.clone()), self.count)
        return Room((grown.keys, grown.genes, grown.fitness), self.count)

    def _reserve(self, capacity: int) -> Archive:
        """Return an archive with at least ``capacity`` places."""
        extra = capacity - self.keys.shape[1]
        if extra <= 0:
            return self
        blank = Archive.empty(self.keys.shape[0], self.genes.shape[-1], self.keys.device, extra)
        return replace(
            self,
            keys=torch.cat([self.keys, blank.keys], 1),
            genes=torch.cat([self.genes, blank.genes], 1),
            fitness=torch.cat([self.fitness, blank.fitness], 1),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name, for a checkpoint."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}


@dataclass
class Room:
    """Memory that archives share, each seeing the rows that were filled when it was made.

    Attributes:
        buffers: keys, genes and fitness, ``(R, C)``, ``(R, C, L)`` and ``(R, C)``.
        newest: the count of the archive that may fill further rows; told apart by being the same object.
    """

    buffers: tuple[Tensor, Tensor, Tensor]
    newest: Tensor


LEAST = 4096
"""Rows from which on archives share memory; smaller ones have a power of two of rows, each its own."""

LATEST = 512
"""Rows that may stand unsorted beside the index of a large archive."""


def first_occurrence(keys: Tensor) -> Tensor:
    """Mark the first member of each value within a batch.

    Args:
        keys: ``(*B, N)``, any type that sorts.

    Returns:
        bool ``(*B, N)``.
    """
    if keys.shape[-1] == 1:
        return torch.ones_like(keys, dtype=torch.bool)
    ordered, order = keys.sort(dim=-1, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return torch.zeros_like(first).scatter(-1, order, first)


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances, ``(*B, N, D)`` and ``(*B, M, D)`` to ``(*B, N, M)``, never negative.

    One batched matrix product: the same for a run alone and in a batch, and several times faster than
    :func:`torch.cdist` without one.
    """
    norms = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
    return (norms - 2 * a @ b.transpose(-2, -1)).clamp(min=0)


def average_rank(fitness: Tensor, member: Tensor) -> Tensor:
    """Rank members by fitness: the best has rank 0, ties share their mean rank.

    Args:
        fitness: float64 ``(*B, M)``. Invalid or failed members (``-inf``) tie for the last places, those that violate a
            constraint come before them in their own order (see :data:`INFEASIBLE`).
        member: which entries count, bool ``(*B, M)``.

    Returns:
        float64 ``(*B, M)``; meaningless where not a member.
    """
    lowest = torch.finfo(fitness.dtype).min  # a failed member is still above what is no member
    value = fitness.clamp(min=lowest).where(member, -torch.inf)
    ordered = value.sort(-1).values
    below = torch.searchsorted(ordered, value)
    upto = torch.searchsorted(ordered, value, right=True)
    return (fitness.shape[-1] - upto + (upto - below - 1) / 2).to(fitness.dtype)


def normal_quantiles(rank: Tensor, member: Tensor) -> Tensor:
    """Turn ranks into the quantiles of a normal distribution, ``Phi^-1(1 - (rank + 1/2) / m)`` (van der Waerden).

    Args:
        rank: 0 is best, see :func:`average_rank`, float64 ``(*B, M)``.
        member: which entries count, bool ``(*B, M)``; ``m`` in each row.

    Returns:
        float64 ``(*B, M)``; 0 where not a member.
    """
    m = member.sum(-1, keepdim=True).clamp(min=1)
    quantile: Tensor = torch.special.ndtri((1 - (rank + 0.5) / m).where(member, 0.5))
    return quantile
