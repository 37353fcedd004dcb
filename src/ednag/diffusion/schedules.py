"""Noise schedules: how much of the clean sample remains at each step.

A schedule does not depend on what is diffused. ``alpha[t]`` is the cumulative signal level of the DDPM literature
(there often written with a bar): 1 at ``t = 0`` (clean), near 0 at ``t = T`` (noise).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Schedule(ABC):
    """A noise schedule.

    Examples:
        >>> class Root(Schedule):
        ...     def level(self, time):
        ...         return 1 - time.sqrt()
        >>> Root().alphas(4)
        tensor([1.0000, 0.5000, 0.2929, 0.1340, 0.0000], dtype=torch.float64)
    """

    @abstractmethod
    def level(self, time: Tensor) -> Tensor:
        """Return the signal level at a time.

        Args:
            time: ``t / T`` in ``[0, 1]``, float64, any shape.

        Returns:
            values in ``[0, 1]``, decreasing in time, same shape.
        """

    def alphas(self, steps: int) -> Tensor:
        """Return the signal levels of all steps.

        Args:
            steps: ``T`` >= 1.

        Returns:
            float64 ``(T + 1,)``; index is ``t``.

        Raises:
            ValueError: if ``steps`` is below 1.
        """
        if steps < 1:
            raise ValueError(f"a schedule needs at least 1 step, got {steps}")
        return self.level(torch.linspace(0, 1, steps + 1, dtype=torch.float64)).clamp(0, 1)


class Cosine(Schedule):
    """``cos^2``, equation 17 of Nichol & Dhariwal (2021).

    Args:
        offset: their ``s``, >= 0. At 0 this is ``(1 + cos(pi t / T)) / 2``.

    Examples:
        >>> Cosine(offset=0.0).alphas(4).round(decimals=2)
        tensor([1.0000, 0.8500, 0.5000, 0.1500, 0.0000], dtype=torch.float64)
    """

    def __init__(self, offset: float = 0.008) -> None:
        if offset < 0:
            raise ValueError(f"offset must be >= 0, got {offset}")
        self.offset = offset

    def level(self, time: Tensor) -> Tensor:
        """See :meth:`Schedule.level`."""
        angle = (time + self.offset) / (1 + self.offset) * math.pi / 2
        start = math.cos(self.offset / (1 + self.offset) * math.pi / 2)
        return (angle.cos() / start).square()


class Linear(Schedule):
    """Signal level falls linearly: ``1 - t / T``.

    Examples:
        >>> Linear().alphas(4)
        tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """

    def level(self, time: Tensor) -> Tensor:
        """See :meth:`Schedule.level`."""
        return 1 - time


class Levels(Schedule):
    """Signal levels given one by one, and straight lines between them.

    Args:
        levels: from noisy to clean, increasing, in ``(0, 1]``: those of ``t = T - 1, ..., 0`` if there are ``T`` of them;
            ``t = T`` is pure noise, at level 0.

    Examples:
        >>> Levels([0.2, 0.7, 1.0]).alphas(3)
        tensor([1.0000, 0.7000, 0.2000, 0.0000], dtype=torch.float64)
    """

    def __init__(self, levels: Sequence[float]) -> None:
        if len(levels) == 0 or not all(a < b for a, b in pairwise((0.0, *levels))) or levels[-1] > 1:
            raise ValueError(f"levels must increase within (0, 1], got {list(levels)}")
        self.levels = tuple(levels)

    def level(self, time: Tensor) -> Tensor:
        """See :meth:`Schedule.level`."""
        known = torch.tensor((0.0, *self.levels), dtype=time.dtype, device=time.device).flip(0)
        place = time * len(self.levels)
        below = place.floor().long().clamp(max=len(self.levels) - 1)
        return known[below] + (place - below) * (known[below + 1] - known[below])


class DDPM(Schedule):
    """The variance schedule of Ho et al. (2020): ``beta`` rises linearly; here in the limit of small steps.

    With ``beta`` from ``first`` to ``last`` over 1,000 steps, ``log alpha = -1000 (first time + (last - first)
    time^2 / 2)``, which any number of steps can sample.

    Args:
        first: ``beta`` of the first of 1,000 steps.
        last: ``beta`` of the last.

    Examples:
        >>> DDPM().alphas(2)
        tensor([1.0000e+00, 7.9064e-02, 4.3186e-05], dtype=torch.float64)
    """

    def __init__(self, first: float = 1e-4, last: float = 0.02) -> None:
        if not 0 < first <= last < 1:
            raise ValueError(f"need 0 < first <= last < 1, got first={first}, last={last}")
        self.first, self.last = first, last

    def level(self, time: Tensor) -> Tensor:
        """See :meth:`Schedule.level`."""
        return (-1000 * (self.first * time + (self.last - self.first) * time.square() / 2)).exp()
