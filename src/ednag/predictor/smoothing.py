"""What a benchmark table teaches about other data sets: its measurements, smoothed over similar architectures."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.archive import average_rank, normal_quantiles

NOISE = 0.3
"""Variance of one training, relative to that of the differences between architectures."""


def normal_scores(values: Tensor) -> Tensor:
    """Replace values by the normal quantiles of their ranks (van der Waerden), so that only the order matters.

    Args:
        values: float64 ``(n,)``; higher is better, ties share their mean rank.

    Returns:
        float64 ``(n,)``: mean 0, variance nearly 1.
    """
    everyone = torch.ones_like(values, dtype=torch.bool)
    return normal_quantiles(average_rank(values, everyone), everyone)


def class_means(values: Tensor, place: Tensor) -> Tensor:
    """Average values over classes: float64 ``(n,)`` and the class of each, int64 ``(n,)``, give ``(classes,)``."""
    count = torch.bincount(place)
    return torch.zeros(len(count), dtype=torch.float64).index_add_(0, place, values.double()) / count


class Smoother:
    """Half what was measured, half what similar architectures lead to expect.

    The second half is the posterior mean of a Gaussian process of unit variance whose noise is :data:`NOISE` for one
    training, less for a class of which several members were trained. The halves were chosen on held-out data sets:
    the measured half keeps what is particular to an architecture, the other one averages the luck of single trainings.

    Args:
        kernel: between isomorphism classes, float64 ``(C, C)``.
        trained: members of each class that were trained, ``(C,)``.
    """

    def __init__(self, kernel: Tensor, trained: Tensor) -> None:
        self.kernel = kernel
        noisy = kernel.clone()
        noisy.diagonal().add_(NOISE / trained)
        self._factor = torch.linalg.cholesky(noisy)

    def __call__(self, means: Tensor) -> Tensor:
        """Smooth the class means of a measure, float64 ``(C,)``, on the scale of :func:`normal_scores`."""
        scores = normal_scores(means)
        expected = self.kernel @ torch.cholesky_solve(scores[:, None], self._factor)
        return (scores + expected[:, 0]) / 2
