"""How good, how valid and how varied the architectures of a generation are."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.population import Archive, first_occurrence


def best_so_far(archive: Archive, evaluations: int | None = None) -> Tensor:
    """Best fitness after each distinct evaluation.

    Args:
        archive: of ``R`` runs.
        evaluations: length of the curve; the longest run's where ``None``. A shorter run keeps its last value.

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


def regret(archive: Archive, optimum: float, evaluations: int | None = None) -> Tensor:
    """Distance of the best so far from the optimum, ``(R, evaluations)``, >= 0 where the optimum is one."""
    return optimum - best_so_far(archive, evaluations)


def unique_rate(keys: Tensor) -> Tensor:
    """Share of distinct architectures among the members of each run, ``(R, N)`` to ``(R,)``, in ``(0, 1]``."""
    return first_occurrence(keys).double().mean(-1)


def diversity(genes: Tensor) -> Tensor:
    """Mean share of genes in which two members of a run differ, ``(R, N, L)`` to ``(R,)``, in ``[0, 1]``."""
    n = genes.shape[-2]
    if n < 2:
        return torch.zeros(genes.shape[:-2], dtype=torch.float64, device=genes.device)
    differ = (genes[..., :, None, :] != genes[..., None, :, :]).double().mean(-1)
    return differ.sum((-2, -1)) / (n * (n - 1))
