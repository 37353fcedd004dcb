"""From a pool of proposals to the few that are paid for: what is allowed, what is new, and where to look for more."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.archive import Archive, first_occurrence
from ednag.core.noise import Noise
from ednag.evolution.operators import mutate_some
from ednag.samplers.limits import permitted, within_limits
from ednag.samplers.problem import ENUMERABLE, Problem
from ednag.spaces import SearchSpace
from ednag.spaces.base import choices, gene_strings


def changed(space: SearchSpace, genes: Tensor, two_genes: float, u: Tensor) -> Tensor:
    """Change one gene of each architecture, or two.

    Args:
        space: what the genes mean.
        genes: int64 ``(*B, L)``.
        two_genes: probability of two.
        u: uniform numbers in ``[0, 1)``, ``(*B, 1 + 2 L)``.

    Returns:
        int64 ``(*B, L)``.
    """
    length = space.num_genes
    number = 1 + (u[..., 0] < two_genes).long()
    cardinalities = choices(space.cardinalities, genes.device)
    return mutate_some(genes, cardinalities, number, u[..., 1 : 1 + length], u[..., 1 + length :])


def in_turn(pool: Tensor, first: int = 0) -> Tensor:
    """Score proposals ``(R, N, L)`` by their place, ``(R, N)``: the ``first`` is the best, then those after it."""
    turn = (torch.arange(pool.shape[1], device=pool.device) - first) % pool.shape[1]
    return -turn.double().expand(pool.shape[:2])


def pick(
    problem: Problem, archive: Archive, pool: Tensor, score: Tensor, want: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best-scored architectures that are new and not isomorphic to each other.

    Args:
        problem: what counts as one architecture.
        archive: what is not new.
        pool: ``(R, N, L)``.
        score: float64 ``(R, N)``; ``-inf`` for what must not be taken.
        want: how many, int64 ``(R,)``, ``k`` at most.

    Returns:
        genes int64 ``(R, k, L)``, their keys ``(R, k)``, and which of them were wanted and found, bool ``(R, k)``.
    """
    keys = problem.key(pool.where((score > -torch.inf)[..., None], 0))
    score = score.masked_fill(archive.find(keys)[0], -torch.inf)
    picks, found = [], []
    for turn in range(int(want.max())):
        value, best = score.max(1, keepdim=True)
        picks.append(best)
        found.append((value > -torch.inf) & (turn < want[:, None]))
        score = score.masked_fill(keys == keys.gather(1, best), -torch.inf)
    chosen = torch.cat(picks, 1)
    return pool.gather(1, chosen[..., None].expand(-1, -1, pool.shape[-1])), keys.gather(1, chosen), torch.cat(found, 1)


def unseen(problem: Problem, known: Tensor, number: int, noise: Noise) -> Tensor:
    """Look for new architectures in the whole space if it is small, else among uniform ones, ``(n, L)``."""
    space = problem.space
    if space.size <= ENUMERABLE:
        genes = gene_strings(space.cardinalities, noise.device)
        genes = genes[noise.uniform(space.size)[0].argsort()]
    else:
        genes = within_limits(problem, space.random(noise, 4096 if not problem.screened else 256), noise)[0]
    genes = genes[permitted(problem, genes, sure=True)]
    keys = problem.key(genes)
    return genes[first_occurrence(keys) & ~torch.isin(keys, known)][:number]
