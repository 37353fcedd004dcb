"""Runs in parts small enough for a processor's cache, and their values on one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ednag.core.archive import normal_quantiles


def normal_scores(rank: Tensor, member: Tensor) -> Tensor:
    """Turn ranks into normal quantiles (:func:`ednag.core.archive.normal_quantiles`), standardised.

    Args:
        rank: 0 is best, float64 ``(R, M)``.
        member: which entries count, bool ``(R, M)``; ``m`` per run.

    Returns:
        float64 ``(R, M)``: zero mean and unit variance over the members of a run, 0 elsewhere (and where all tie).
    """
    return standardise(normal_quantiles(rank, member), member)


def standardise(values: Tensor, member: Tensor) -> Tensor:
    """Shift and scale the members of each run to zero mean and unit variance.

    Args:
        values: float64 ``(R, M)``; those of no member are not looked at.
        member: which entries count, bool ``(R, M)``.

    Returns:
        float64 ``(R, M)``, 0 if no member is (and everywhere if all members of a run tie).
    """
    m = member.sum(-1, keepdim=True).clamp(min=1)
    z = torch.where(member, values, 0.0)
    z = torch.where(member, z - z.sum(-1, keepdim=True) / m, 0.0)
    deviation = (z.square().sum(-1, keepdim=True) / m).sqrt()
    return z / deviation.clamp(min=1e-6)


def in_parts(function: Callable[..., Tensor], *of: Tensor) -> Tensor:
    """Apply a function to :data:`RUNS` runs at a time; each tensor, and the result, has a leading dimension ``R``."""
    return joined([function(*part) for part in split(*of)])


def split(*of: Tensor) -> list[tuple[Tensor, ...]]:
    """Split tensors with a leading dimension ``R`` into parts of :data:`RUNS` runs."""
    return [of] if len(of[0]) <= RUNS else list(zip(*(torch.split(one, RUNS) for one in of), strict=True))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Put together what :func:`split` split."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


RUNS = 32
"""Runs whose proposals are made and screened at once: what they need fits into a processor's cache."""
