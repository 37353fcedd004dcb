"""Categorical diffusion guided by an archive: genes are noised and denoised as integers.

The forward kernel keeps each gene with probability ``alpha`` (the signal level of :mod:`ednag.diffusion.schedules`) and
redraws it uniformly otherwise (uniform transitions of D3PM, Austin et al. 2021):

    q(x_t^l | x_0^l) = alpha 1(x_t^l = x_0^l) + (1 - alpha) / C_l.

The clean distribution is the archive, weighted by fitness, so that the posterior over it is exact and nothing is
trained: the categorical counterpart of :func:`ednag.diffusion.gaussian.clean_estimate`.

All functions take leading batch dimensions. Sums over members and genes add integers (or multiples of a power of two),
which float32 does exactly in any order, so the draws of a run don't depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def forward(clean: Tensor, alpha: float, cardinalities: Tensor, u: Tensor) -> Tensor:
    """Draw ``x_t`` from the forward kernel.

    Args:
        clean: genes, int64 ``(*B, L)``.
        alpha: signal level, in ``[0, 1]``.
        cardinalities: ``C``, int64 ``(L,)``.
        u: uniform numbers in ``[0, 1)``, ``(*B, L)``; one decides both whether a gene is kept and its new value.

    Returns:
        int64 ``(*B, L)``.
    """
    return torch.where(u < alpha, clean, uniform_genes((u - alpha) / max(1 - alpha, 1e-9), cardinalities))


def uniform_genes(u: Tensor, cardinalities: Tensor) -> Tensor:
    """Turn uniform numbers ``(*B, L)`` into uniform genes, int64 ``(*B, L)``; numbers out of ``[0, 1)`` are clamped."""
    return torch.minimum((u.clamp(min=0) * cardinalities).long(), cardinalities - 1)


def one_hot(genes: Tensor, cardinalities: Tensor) -> Tensor:
    """Write genes, int64 ``(*B, L)``, as float32 ``(*B, L max C)``, each gene in a block of the largest cardinality."""
    values = torch.arange(int(cardinalities.max()), device=genes.device)
    return (genes[..., None] == values).flatten(-2).float()


def posterior(x: Tensor, members: Tensor, log_g: Tensor, alpha: float, cardinalities: Tensor) -> Tensor:
    """Return how likely each member of the archive is the clean version of ``x``.

    ``w_i(x) = g_i q(x | x_i) / Z``: relative to a disagreement, each gene on which ``x`` and ``x_i`` agree multiplies
    the weight by ``1 + C_l alpha / (1 - alpha)`` (whose logarithm is rounded to 2^-10, see above).

    Args:
        x: noisy genes, int64 ``(*B, N, L)``.
        members: the archive, :func:`one_hot`, ``(*B, M, L max C)``.
        log_g: log weights of the members, ``(*B, M)``; ``-inf`` leaves a member out. Some member must be in.
        alpha: signal level of ``x``, in ``[0, 1)``.
        cardinalities: int64 ``(L,)``.

    Returns:
        float32 ``(*B, N, M)``, each row sums to 1.
    """
    bonus = _bonus(alpha, tuple(cardinalities.tolist()), x.device)
    agreed = one_hot(x, cardinalities).mul_(bonus) @ members.mT
    return agreed.add_(log_g[..., None, :].to(agreed.dtype)).softmax(-1)


@lru_cache(maxsize=256)
def _bonus(alpha: float, cardinalities: tuple[int, ...], device: torch.device) -> Tensor:
    """What each column of :func:`one_hot` adds to a log weight where it agrees, float32 ``(L max C,)``."""
    bonus = ((torch.tensor(cardinalities) * (alpha / (1 - alpha))).log1p() * 1024).round() / 1024
    return bonus.repeat_interleave(max(cardinalities)).to(device)


def clean_counts(weights: Tensor, members: Tensor, cardinalities: Tensor) -> Tensor:
    """Distribution of each gene of the clean estimate: ``P(x_0^l = v) = sum_i w_i 1(x_i^l = v)``.

    Args:
        weights: posterior, ``(*B, N, M)``.
        members: :func:`one_hot`, ``(*B, M, L max C)``.
        cardinalities: int64 ``(L,)``.

    Returns:
        float32 ``(*B, N, L, max C)`` in units of 2^-20, integers; 0 beyond a gene's own cardinality.
    """
    counts = (weights * 2**20).round_() @ members
    return counts.view(*counts.shape[:-1], len(cardinalities), -1)


def draw(counts: Tensor, cardinalities: Tensor, u: Tensor) -> Tensor:
    """Draw each gene independently from its distribution, so that a draw recombines members.

    Args:
        counts: see :func:`clean_counts`, ``(*B, N or 1, L, max C)``.
        cardinalities: int64 ``(L,)``.
        u: uniform numbers in ``[0, 1)``, ``(*B, N, L)``.

    Returns:
        int64 ``(*B, N, L)``.
    """
    cumulative = counts.cumsum(-1)
    gene = (u[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]).sum(-1)
    return torch.minimum(gene, cardinalities - 1)


def reverse_step(
    x: Tensor, members: Tensor, log_g: Tensor, alpha: float, alpha_next: float, cardinalities: Tensor, u: Tensor
) -> Tensor:
    """Take one reverse step: draw the clean estimate from the archive's posterior, and noise it to the next level.

    Args:
        x: noisy genes, int64 ``(*B, N, L)``.
        members: the archive, :func:`one_hot`, ``(*B, M, L max C)``.
        log_g: log weights of the members, ``(*B, M)``.
        alpha: signal level of ``x``, in ``[0, 1)``; at 0, ``x`` carries no information.
        alpha_next: signal level to reach, in ``(alpha, 1]``.
        cardinalities: int64 ``(L,)``.
        u: uniform numbers in ``[0, 1)``, ``(2, *B, N, L)``.

    Returns:
        int64 ``(*B, N, L)``.
    """
    told = x if alpha > 0 else x[..., :1, :]  # one posterior serves all
    counts = clean_counts(posterior(told, members, log_g, alpha, cardinalities), members, cardinalities)
    return forward(draw(counts, cardinalities, u[0]), alpha_next, cardinalities, u[1])


def denoise(members: Tensor, log_g: Tensor, alphas: Sequence[float], cardinalities: Tensor, u: Tensor) -> Tensor:
    """Walk from pure noise through all signal levels.

    Args:
        members: the archive, int64 ``(*B, M, L)``.
        log_g: log weights of the members, ``(*B, M)``.
        alphas: ``S`` signal levels, increasing, in ``(0, 1]``; a last one below 1 leaves mutation in the outcome.
        cardinalities: int64 ``(L,)``.
        u: uniform numbers in ``[0, 1)``, ``(1 + 2 S, *B, N, L)``.

    Returns:
        int64 ``(*B, N, L)``.
    """
    hot = one_hot(members, cardinalities)
    x, alpha = uniform_genes(u[0], cardinalities), 0.0
    for step, alpha_next in enumerate(alphas):
        x = reverse_step(x, hot, log_g, alpha, alpha_next, cardinalities, u[1 + 2 * step : 3 + 2 * step])
        alpha = alpha_next
    return x
