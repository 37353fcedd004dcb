"""Proposals within limits: what surely violates one is changed gene by gene, or dropped, before it is looked up."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.evolution.operators import mutate_genes
from ednag.samplers.problem import Problem

STEPS = 48
"""Changes after which an architecture that still violates a limit is given up."""

TRIES = 4
"""Random changes of one gene that are tried at each step."""


def within_limits(problem: Problem, genes: Tensor, noise: Noise) -> Tensor:
    """Change genes of violators, one at a time, until they are within limits.

    Of a few random changes the first that leads within limits is taken, else the one that leads nearest. What was good
    about an architecture is mostly kept, and ends close to the boundary of what is allowed, where the best ones are.

    Args:
        problem: whose limits.
        genes: proposals, int64 ``(R, N, L)``; those within limits, and invalid ones, stay as they are.
        noise: where changes are drawn; nothing is drawn without limits that are known at once.

    Returns:
        int64 ``(R, N, L)``; where limits are tight some may still violate them, see :func:`permitted`.
    """
    if not problem.screened:
        return genes
    u = noise.uniform(STEPS, genes.shape[1], 2, TRIES).transpose(0, 1).flatten(1, 2)
    cardinalities = torch.tensor(problem.space.cardinalities, device=genes.device)
    flat = genes.reshape(-1, genes.shape[-1]).clone()
    excess = problem.excess(flat)
    todo = ((excess > 0) & excess.isfinite()).nonzero().flatten()
    for chance in u:
        if len(todo) == 0:
            break
        where, shift = chance[todo].unbind(1)
        position = (where * len(cardinalities)).long().clamp(max=len(cardinalities) - 1)
        tried = mutate_genes(flat[todo, None].expand(-1, TRIES, -1), cardinalities, position, shift)
        found = problem.excess(tried)
        least = found.amin(1)
        choice = (found == least[:, None]).int().argmax(1)
        better = least < excess[todo]
        flat[todo[better]] = tried[better, choice[better]]
        excess[todo[better]] = least[better]
        todo = todo[excess[todo] > 0]
    return flat.view_as(genes)


def permitted(problem: Problem, genes: Tensor, sure: bool = False) -> Tensor:
    """Mark proposals that are valid and not beyond a limit, bool ``(*B,)``; the others are counted as dismissed.

    Args:
        problem: whose limits.
        genes: int64 ``(*B, L)``.
        sure: whether to let pass what is beyond a limit most likely, but not surely.
    """
    if not problem.screened or problem.screen is None:
        return problem.space.valid(genes)
    excess = problem.excess(genes, sure)
    problem.screen.dismissed += int(((excess > 0) & excess.isfinite()).sum())
    return excess == 0
