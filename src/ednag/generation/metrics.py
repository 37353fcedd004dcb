"""How good, how valid and how varied the architectures of a generation are."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.archive import Archive, feasible, first_occurrence
from ednag.evolution.pareto import non_dominated


def best_so_far(archive: Archive, evaluations: int | None = None) -> Tensor:
    """Best fitness after each distinct evaluation.

    Args:
        archive: of ``R`` runs.
        evaluations: length of the curve; the longest run's if omitted. A shorter run keeps its last value.

    Returns:
        float64 ``(R, evaluations)``.
    """
    length = int(archive.count.max()) if evaluations is None else evaluations
    fitness = archive.fitness[:, :length]
    if fitness.shape[1] < length:
        padding = fitness.new_full((fitness.shape[0], length - fitness.shape[1]), -torch.inf)
        fitness = torch.cat([fitness, padding], 1)
    return fitness.cummax(1).values


def success_rate(archive: Archive, keys: Tensor, evaluations: int) -> float:
    """Share of runs that evaluated any of the given architectures within a number of distinct evaluations.

    Args:
        archive: of ``R`` runs.
        keys: identities of the optimum (several where tied), ``(k,)``.
        evaluations: how many evaluations count.

    Returns:
        a number in ``[0, 1]``.
    """
    hits = torch.isin(archive.keys[:, :evaluations], keys) & archive.filled[:, :evaluations]
    return float(hits.any(1).double().mean())


def progress_rows(archive: Archive) -> list[dict[str, float]]:
    """Best fitness after each distinct evaluation, over runs: ``evaluations``, ``quartile_1``, ``median``, ``quartile_3``.

    Rows begin where every run has a score: the median of fewer could fall.
    """
    curves = best_so_far(archive).cpu()
    there = feasible(curves).all(0)
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=curves.dtype)
    quartiles = curves.where(there, 0.0).quantile(levels, 0)
    names = ("quartile_1", "median", "quartile_3")
    return [
        {"evaluations": i + 1.0, **dict(zip(names, quartiles[:, i].tolist(), strict=True))}
        for i in there.nonzero().flatten().tolist()
    ]


def unique_rate(keys: Tensor) -> Tensor:
    """Share of distinct architectures among the members of each run, ``(R, N)`` to ``(R,)``, in ``(0, 1]``."""
    return first_occurrence(keys).double().mean(-1)


def hypervolume(
    cost: Tensor, fitness: Tensor, member: Tensor, reference_cost: Tensor | float, reference_fitness: Tensor | float
) -> Tensor:
    """Area that the members dominate, up to a reference point: exact, for a cost to minimise and a fitness to maximise.

    Args:
        cost: ``(*B, M)``.
        fitness: same shape.
        member: which entries count, bool, same shape.
        reference_cost: members that cost as much or more add nothing; a number or ``(*B,)``.
        reference_fitness: members that are no fitter add nothing; a number or ``(*B,)``.

    Returns:
        float64 ``(*B,)``, >= 0.
    """
    limit = torch.as_tensor(reference_cost, dtype=torch.float64, device=cost.device).expand(cost.shape[:-1])[..., None]
    floor = torch.as_tensor(reference_fitness, dtype=torch.float64, device=cost.device).expand(cost.shape[:-1])[
        ..., None
    ]
    ordered, order = cost.double().where(member, torch.inf).minimum(limit).sort(dim=-1, stable=True)
    height = fitness.double().where(member, -torch.inf).maximum(floor).gather(-1, order).cummax(-1).values - floor
    return (torch.cat([ordered, limit], -1).diff(dim=-1) * height).sum(-1)


def front_places(archive: Archive, cost: Tensor) -> Tensor:
    """Find what no architecture evaluated by any run dominates.

    Args:
        archive: of ``R`` runs.
        cost: of its entries, ``(R, M)``.

    Returns:
        run and place of each distinct gene string of the joint front, int64 ``(n, 2)``, fittest first; of several runs
        that evaluated it, the earliest.
    """
    ok = archive.filled & feasible(archive.fitness) & cost.isfinite()
    front = non_dominated(cost.flatten(), archive.fitness.flatten(), ok.flatten()).view_as(ok).nonzero()
    front = front[front[:, 1].argsort(stable=True)]
    front = front[archive.fitness[front[:, 0], front[:, 1]].argsort(descending=True, stable=True)]
    genes = archive.genes[front[:, 0], front[:, 1]]
    first: dict[tuple[int, ...], int] = {}
    for row, one in enumerate(genes.tolist()):
        first.setdefault(tuple(one), row)
    return front[torch.tensor(list(first.values()), dtype=torch.int64, device=front.device)]
