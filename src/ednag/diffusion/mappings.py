"""Mappings from fitness to the logarithm of a denoising weight (the ``g`` of the method's equation 2).

Every mapping takes fitness ``(*B, N)`` and returns ``log g`` of the same shape, up to a constant for each batch row.
Architectures that are invalid or violate a constraint have weight 0; if a row has no others, all its members weigh the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor

from ednag.core.archive import average_rank, feasible


class FitnessMapping(ABC):
    """A fitness-to-weight mapping.

    Examples:
        >>> class Best(FitnessMapping):
        ...     def log_weight(self, fitness, counts):
        ...         return torch.zeros_like(fitness).where(fitness == fitness.amax(-1, keepdim=True), -torch.inf)
        >>> Best()(torch.tensor([1.0, 3.0, 2.0])).exp()
        tensor([0., 1., 0.])
    """

    @abstractmethod
    def log_weight(self, fitness: Tensor, counts: Tensor) -> Tensor:
        """``log g`` of feasible fitness values.

        Args:
            fitness: float64 ``(*B, N)``; entries that do not count hold the lowest value of those that do.
            counts: which entries are feasible members, bool ``(*B, N)``; what is returned elsewhere is not used.
        """

    def __call__(self, fitness: Tensor, member: Tensor | None = None) -> Tensor:
        """Map fitness to log weights.

        Args:
            fitness: float64 ``(*B, N)``.
            member: which entries are members at all, bool ``(*B, N)``; if omitted, all of them.

        Returns:
            ``log g``, float64 ``(*B, N)``.
        """
        member = torch.ones_like(fitness, dtype=torch.bool) if member is None else member
        ok = feasible(fitness) & member
        low = fitness.where(ok, torch.inf).amin(-1, keepdim=True)
        log_g = self.log_weight(fitness.where(ok, low.where(low.isfinite(), 0.0)), ok)
        alike = torch.zeros_like(log_g).where(member | ~member.any(-1, keepdim=True), -torch.inf)
        return torch.where(ok, log_g, -torch.inf).where(ok.any(-1, keepdim=True), alike)


class PiecewiseLinear:
    """Piecewise linear stretching of accuracies, as in the released program: continuous, 0 at 0, steeper near the top.

    Args:
        factor: multiplies the accuracy first (released: CIFAR-10 1.0, CIFAR-100 1.2, ImageNet16-120 2.0).
        knots: accuracies in percent at which the slope changes, increasing.
        slopes: one more than knots.

    Examples:
        >>> PiecewiseLinear()(torch.tensor([30.0, 94.0, 95.0]))
        tensor([  3., 463., 503.])
    """

    def __init__(
        self,
        factor: float = 1.0,
        knots: tuple[float, ...] = (30, 50, 70, 75, 80, 85, 90, 95),
        slopes: tuple[float, ...] = (0.1, 1, 2, 3, 5, 10, 30, 40, 50),
    ) -> None:
        if len(slopes) != len(knots) + 1 or any(a >= b for a, b in pairwise((0.0, *knots))):
            raise ValueError(f"need increasing knots > 0 and one more slope, got knots={knots}, slopes={slopes}")
        self.factor, self.knots, self.slopes = factor, tuple(knots), tuple(slopes)

    def __call__(self, value: Tensor) -> Tensor:
        """Stretch values in percent, any shape."""
        value = value * self.factor
        out = torch.zeros_like(value)
        for slope, (low, high) in zip(self.slopes, pairwise((0.0, *self.knots, torch.inf)), strict=True):
            out = out + slope * (value.clamp(low, high) - low)
        return out


class Energy(FitnessMapping):
    """``g = exp(f / temperature)``; only differences of fitness matter.

    Args:
        temperature: in units of fitness, > 0.
        stretch: applied to the fitness first.

    Examples:
        >>> Energy(temperature=2.0)(torch.tensor([90.0, 94.0]))
        tensor([-2.,  0.])
    """

    def __init__(self, temperature: float = 1.0, stretch: PiecewiseLinear | None = None) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature, self.stretch = temperature, stretch

    def log_weight(self, fitness: Tensor, counts: Tensor) -> Tensor:
        """See :meth:`FitnessMapping.log_weight`."""
        value = fitness if self.stretch is None else self.stretch(fitness)
        return (value - value.amax(-1, keepdim=True)) / self.temperature


class Power(FitnessMapping):
    """``g = (f / temperature)^power``; negative fitness has weight 0.

    Args:
        power: exponent, > 0.
        temperature: in units of fitness, > 0.

    Examples:
        >>> Power(power=2.0)(torch.tensor([1.0, 3.0])).exp()
        tensor([1., 9.])
    """

    def __init__(self, power: float = 1.0, temperature: float = 1.0) -> None:
        if power <= 0 or temperature <= 0:
            raise ValueError(f"power and temperature must be > 0, got {power} and {temperature}")
        self.power, self.temperature = power, temperature

    def log_weight(self, fitness: Tensor, counts: Tensor) -> Tensor:
        """See :meth:`FitnessMapping.log_weight`."""
        positive = (fitness > 0).any(-1, keepdim=True)
        return (self.power * (fitness / self.temperature).clamp(min=0).log()).where(positive, 0.0)


class Identity(Power):
    """``g = f``.

    Examples:
        >>> Identity()(torch.tensor([1.0, 3.0])).exp()
        tensor([1., 3.])
    """

    def __init__(self) -> None:
        super().__init__()


class Rank(FitnessMapping):
    """``g = exp(-rank / (scale n))`` with rank 0 the best of ``n``, ties sharing their mean rank: only the order matters.

    Args:
        scale: share of the population over which the weight falls by ``e``, > 0.

    Examples:
        >>> Rank(scale=0.5)(torch.tensor([90.0, 94.0, 92.0, 10.0], dtype=torch.float64))
        tensor([-1.0000, -0.0000, -0.5000, -1.5000], dtype=torch.float64)
    """

    def __init__(self, scale: float = 0.1) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be > 0, got {scale}")
        self.scale = scale

    def log_weight(self, fitness: Tensor, counts: Tensor) -> Tensor:
        """See :meth:`FitnessMapping.log_weight`."""
        return -average_rank(fitness, counts) / (self.scale * counts.sum(-1, keepdim=True).clamp(min=1))
