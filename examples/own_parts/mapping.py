"""A mapping of one's own: from fitness to weights in the denoising step."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.samplers import Mapping


class TopShare(Mapping):
    """The best share of the population counts, each member the same; the others don't.

    Args:
        share: in (0, 1].
    """

    def __init__(self, share: float = 0.2) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self.share = share

    def log_weight(self, fitness: Tensor) -> Tensor:
        """Return 0 for the best, and minus infinity for the rest, ``(*B, N)``."""
        count = max(1, round(self.share * fitness.shape[-1]))
        least = fitness.topk(count, -1).values[..., -1:]
        return torch.zeros_like(fitness).where(fitness >= least, -torch.inf)
