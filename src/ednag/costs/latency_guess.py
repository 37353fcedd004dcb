"""A small model of measured latencies that knows how far it can be wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

FIRST = 8
"""Measurements before the first prediction."""

SURE = 0.95
"""Share of measurements, each predicted from the others, that lie within the bounds."""

_SHARES = (0.0, 0.1, 1.0)
"""Variances that each part of a description may have, relative to each other: the likeliest are taken."""

_NOISES = (1e-4, 1e-3, 1e-2, 0.05)
"""Variances that the noise may have."""

_LEVEL = 0.3
"""Variance of the level."""


class LatencyGuess:
    """Bayesian linear regression of latency on layers, counts, and genes, the variances by marginal likelihood.

    Layers run one after the other, so that times add up: the latency itself is the target, not its logarithm, and its
    error grows with it. Deviations are stretched until :data:`SURE` of the measurements lie within them when each is
    predicted from the others (leave-one-out residuals in closed form, Rasmussen & Williams 2006, eq. 5.12), and at least
    2.5 times, as of a Student t distribution more for few: the variances were chosen by the same measurements.

    Args:
        parts: what is known of measured architectures, float64 ``(n, F)`` each, ``F`` may be 0; a part's columns have one
            unit. Each part gets a variance of its own, so that what says nothing of a device is left out.
        latencies: milliseconds, float64 ``(n,)``, positive.

    Examples:
        >>> layers = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).double()
        >>> guess = LatencyGuess([layers], 1 + layers @ torch.ones(3).double())
        >>> low, high = guess.bounds([layers[:1]])
        >>> bool(low < 1 + layers[0].sum() < high)
        True
    """

    def __init__(self, parts: Sequence[Tensor], latencies: Tensor) -> None:
        self._centre, self._spread = latencies.mean(), latencies.std().clamp(min=1e-6 * latencies.mean())
        self._least = 0.3 * latencies.min()
        self._means = [part.mean(0) for part in parts]
        self._scales = [
            (part - mean).square().sum(1).mean().sqrt().clamp(min=1e-6)
            for part, mean in zip(parts, self._means, strict=True)
        ]
        self._known = list(self._scaled(parts))
        target = ((latencies - self._centre) / self._spread)[:, None]
        noisy = self._noise(latencies)
        best = -math.inf
        for shares, covariance in self._covariances():
            for noise in _NOISES:
                factor = torch.linalg.cholesky_ex(covariance + (noise * noisy).diag()).L
                solved = torch.cholesky_solve(target, factor)
                signal = float((target * solved).sum().clamp(min=1e-12)) / len(target)
                likelihood = -len(target) / 2 * math.log(signal) - float(factor.diagonal().log().sum())
                if likelihood > best:
                    best, self._factor, self._solved = likelihood, factor, solved
                    self._shares, self._nugget, self._signal = shares, noise, signal
        left = torch.cholesky_inverse(self._factor).diagonal()
        residuals = (self._solved[:, 0].abs() / (self._signal * left).sqrt()).sort().values
        place = min(math.ceil((len(target) + 1) * SURE), len(target)) - 1
        self._stretch = max(float(residuals[place]), 2.5 + 4.5 / max(len(target) - 4, 1))

    def bounds(self, parts: Sequence[Tensor], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Least and most that the latencies of architectures may be, float64 ``(n,)`` each, milliseconds.

        The most is as many times the predicted one as that is the least.
        """
        triples = [*zip(self._shares, self._scaled(parts), self._known, strict=True)]
        level = torch.full((len(parts[0]), 1), _LEVEL, dtype=torch.float64)
        covariance = sum((share * asked @ known.mT for share, asked, known in triples), level)
        own = sum((share * asked.square().sum(1) for share, asked, _ in triples), level[:, 0])
        mean = (self._centre + self._spread * (covariance @ self._solved)[:, 0]).clamp(min=self._least)
        seen = torch.linalg.solve_triangular(self._factor, covariance.mT, upper=False).square().sum(0)
        variance = self._signal * (own + self._nugget * self._noise(mean) - seen).clamp(min=1e-9)
        factor = (self._stretch * self._spread * variance.sqrt() / mean).clamp(max=10).exp()
        return (mean / factor).to(device), (mean * factor).to(device)

    def _noise(self, latency: Tensor) -> Tensor:
        """Variances of the noise relative to each other: nearly in proportion to the latency's square."""
        return 0.25 + 0.75 * (latency / self._centre).square()

    def _covariances(self) -> Iterator[tuple[tuple[float, ...], Tensor]]:
        """Possible variances of the parts, and the covariance of the measurements without noise."""
        grams = [part @ part.mT for part in self._known]
        for shares in product(*(_SHARES if part.shape[1] else _SHARES[:1] for part in self._known)):
            level = torch.full_like(grams[0], _LEVEL)
            yield shares, sum((share * gram for share, gram in zip(shares, grams, strict=True)), level)

    def _scaled(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        for part, mean, scale in zip(parts, self._means, self._scales, strict=True):
            yield (part - mean) / scale


def middle(bounds: tuple[Tensor, Tensor]) -> Tensor:
    """What latencies most likely are, of which :meth:`LatencyGuess.bounds` are the least and the most, ``(n,)``."""
    return (bounds[0] * bounds[1]).sqrt()
