"""Scores that are known before any architecture is evaluated, put on the scale of the surrogate's targets."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.spaces import SearchSpace


class Score(Protocol):
    """A score of architectures known before any is evaluated, such as a fitness that costs nothing."""

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes, int64 ``(*B, L)``: ``(*B,)``, higher is better, ``-inf`` where ``valid``, bool, is false."""


class Prior:
    """A score known beforehand, put on the scale of ranks: only the order it gives matters.

    The score is ranked among those of random architectures, always the same. If a run is to be the same
    alone and in a batch, the score of an architecture must not depend on what else is scored with it.

    Args:
        score: such as a fitness that costs nothing; NaN is worst.
        space: what the genes mean.
        among: the architectures to rank among, on the device where genes arrive, int64 ``(n, L)``; :func:`random_valid` ones if
            omitted.
    """

    def __init__(self, score: Score, space: SearchSpace, among: Tensor | None = None) -> None:
        self.score, self.space = score, space
        some = random_valid(space) if among is None else among
        self._reference = self._scored(some[None], space.valid(some)[None])[0].sort().values.contiguous()
        shape = self._shape(self._reference)
        self._centre, self._spread = shape.mean(), shape.std(correction=0).clamp(min=1e-6)

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)``: float64 ``(R, N)``, zero mean and unit variance over random architectures."""
        return (self._shape(self._scored(genes, valid)) - self._centre) / self._spread

    def _scored(self, genes: Tensor, valid: Tensor) -> Tensor:
        return self.score(genes, valid).double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def _shape(self, score: Tensor) -> Tensor:
        """Normal quantile of the share of random architectures that are worse, ties counted half.

        As normal scores of evaluations: with the logarithm of the share that is better, the very top of a prior stood so far
        above the rest that tasks which are less alike were led astray.
        """
        n = len(self._reference)
        score = score.contiguous()
        upto = torch.searchsorted(self._reference, score, right=True)
        below = torch.searchsorted(self._reference, score)
        quantile: Tensor = torch.special.ndtri(((upto + below).double() / 2 + 0.5) / (n + 1))
        return quantile


def random_valid(space: SearchSpace) -> Tensor:
    """Random valid architectures of a space, up to 1,024, always the same, int64 ``(n, L)``."""
    genes = space.random(Noise([0]), 1024)[0]
    valid = space.valid(genes)
    return genes[valid] if int(valid.sum()) > 1 else genes
