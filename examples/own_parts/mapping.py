"""A mapping of one's own: from fitness to weights in the denoising step."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.samplers import FitnessMapping


class TopShare(FitnessMapping):
    """The best share of the population counts, each member the same; the others don't.

    Args:
        share: in (0, 1].
    """

    def __init__(self, share: float = 0.2) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self.share = share

    def log_weight(self, fitness: Tensor, counts: Tensor) -> Tensor:
        """Return 0 for the best members and minus infinity for the rest, ``(*B, N)``; ``counts`` marks the members."""
        number = (self.share * counts.sum(-1, keepdim=True)).round().long().clamp(min=1)
        least = fitness.sort(-1, descending=True).values.gather(-1, number - 1)
        return torch.zeros_like(fitness).where(fitness >= least, -torch.inf)
