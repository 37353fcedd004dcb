"""What a meta predictor is trained for: standardised accuracies and their order, within each task."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FLOOR = -2.5
"""Standardised accuracies below this count as this: how much worse a useless architecture is doesn't matter."""


def standardise(accuracy: Tensor, measured: Tensor) -> Tensor:
    """Standardise accuracies within each task, and bound them from below by :data:`FLOOR`.

    Args:
        accuracy: ``(T, N)``.
        measured: rows that count, bool ``(T, N)``.

    Returns:
        ``(T, N)``; zero mean and unit variance over the rows of a task before the bound, 0 elsewhere.
    """
    count = measured.sum(-1, keepdim=True).clamp_min(1)
    mean = torch.where(measured, accuracy, 0.0).sum(-1, keepdim=True) / count
    centred = torch.where(measured, accuracy - mean, 0.0)
    deviation = (centred.square().sum(-1, keepdim=True) / count).sqrt().clamp_min(1e-3)
    return (centred / deviation).clamp_min(FLOOR)


def squared_loss(scores: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of every member, weighted by rows.

    Args:
        scores: ``(T, N, M)``.
        target: ``(T, N)``.
        weights: ``(T, N, M)``, >= 0.
    """
    return (weights * (scores - target[..., None]).square()).sum() / weights.sum().clamp_min(1e-9)


def ranking_loss(scores: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean logistic loss of all pairs within a task (RankNet; Burges et al. 2005), weighted by how far apart they are.

    Args:
        scores: ``(T, N, M)``.
        target: ``(T, N)``.
        weights: ``(T, N, M)``, >= 0.
    """
    apart = target[:, :, None] - target[:, None, :]
    better = scores[:, :, None] - scores[:, None, :]
    pair = weights[:, :, None] * weights[:, None, :] * apart.clamp_min(0)[..., None]
    return (pair * F.softplus(-better)).sum() / pair.sum().clamp_min(1e-9)


def bootstrap_weights(row: Tensor, members: int) -> Tensor:
    """Weights of rows in the Bayesian bootstrap (Rubin 1981) of each member: exponential, fixed for row and member.

    Args:
        row: number of each row, int64 ``(*B,)``.
        members: ``M``; with a single member all weights are 1.

    Returns:
        float32 ``(*B, M)``, of mean 1.
    """
    if members == 1:
        return torch.ones(*row.shape, 1, device=row.device)
    mixed = (row[..., None] * members + torch.arange(members, device=row.device)) * 0x9E3779B97F4A7C1 + 0x632BE59B
    mixed = (mixed ^ (mixed >> 31)) * 0x14D049BB133111E
    uniform = (((mixed ^ (mixed >> 29)) & 0xFFFFFF).float() + 0.5) / 2**24
    return -uniform.log()
