"""A small model of measured latencies that knows how far it can be wrong."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

FIRST = 24
"""Measurements before the first prediction."""

SURE = 0.95
"""Share of measurements, each predicted from the others, that lie within the bounds."""

_SCALES = tuple(product((0.01, 0.1, 0.3, 1.0), (0.0, 0.1, 0.5, 1.0), (1e-2, 0.05, 0.2)))
"""Variances that genes, counts and noise may have: the likeliest are taken."""


class LatencyGuess:
    """Bayesian linear regression of log latency on genes and log counts, the variances by marginal likelihood.

    Its deviations are stretched until :data:`SURE` of the measurements lie within them when each is predicted from the
    others (leave-one-out residuals in closed form, Rasmussen & Williams 2006, eq. 5.12), and at least 2.5 times: the
    variances were chosen by the same few measurements.

    Args:
        described: genes and features of measured architectures, float64 ``(n, F)``.
        counts: their parameters and multiply-accumulates, float64 ``(n, C)``, positive; ``C`` may be 0.
        latencies: milliseconds, float64 ``(n,)``, positive.

    Examples:
        >>> genes = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).double()
        >>> guess = LatencyGuess(genes, genes[:, :0], (1 + genes @ torch.ones(3).double()).exp())
        >>> low, high = guess.bounds(genes[:1], genes[:1, :0])
        >>> bool(low < (1 + genes[0].sum()).exp() < high)
        True
    """

    def __init__(self, described: Tensor, counts: Tensor, latencies: Tensor) -> None:
        value, logs = latencies.log(), counts.log()
        self._centre, self._spread = value.mean(), value.std().clamp(min=1e-6)
        self._means = described.mean(0), logs.mean(0)
        scale = (described - self._means[0]).square().sum(1).mean().sqrt().clamp(min=1e-6)
        self._scales = scale, logs.std(0).clamp(min=1e-6) * math.sqrt(max(logs.shape[1], 1))
        self._known = self._scaled(described, counts)
        target = ((value - self._centre) / self._spread)[:, None]
        grams = [one @ one.mT for one in self._known]
        best = -torch.inf
        for variances in _SCALES:
            covariance = variances[0] * grams[0] + variances[1] * grams[1] + _CONSTANT
            covariance.diagonal().add_(variances[2])
            factor = torch.linalg.cholesky_ex(covariance).L
            solved = torch.cholesky_solve(target, factor)
            signal = float((target * solved).sum().clamp(min=1e-12)) / len(target)
            likelihood = -len(target) / 2 * math.log(signal) - float(factor.diagonal().log().sum())
            if likelihood > best:
                best, self._factor, self._solved, self._signal, self._variances = (
                    likelihood,
                    factor,
                    solved,
                    signal,
                    variances,
                )
        left = torch.cholesky_inverse(self._factor).diagonal()
        residuals = (self._solved[:, 0].abs() / (self._signal * left).sqrt()).sort().values
        place = min(math.ceil((len(target) + 1) * SURE), len(target)) - 1
        self._stretch = max(float(residuals[place]), 2.5)

    def bounds(self, described: Tensor, counts: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Least and most that the latencies of architectures may be, float64 ``(n,)`` each, milliseconds."""
        asked = self._scaled(described, counts)
        pairs = list(zip(asked, self._known, self._variances, strict=False))
        covariance = sum((v * a @ k.mT for a, k, v in pairs), torch.full((), _CONSTANT, dtype=torch.float64))
        own = sum((v * a.square().sum(1) for a, _, v in pairs), torch.full((), _CONSTANT, dtype=torch.float64))
        mean = (covariance @ self._solved)[:, 0]
        seen = torch.linalg.solve_triangular(self._factor, covariance.mT, upper=False).square().sum(0)
        deviation = (self._signal * (own + self._variances[2] - seen).clamp(min=1e-9)).sqrt() * self._stretch
        low, high = (self._centre + self._spread * (mean + side * deviation) for side in (-1, 1))
        return low.exp().to(device), high.exp().to(device)

    def _scaled(self, described: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip((described, counts.log()), self._means, self._scales, strict=True)
        first, second = ((part - mean) / scale for part, mean, scale in parts)
        return first, second


def middle(bounds: tuple[Tensor, Tensor]) -> Tensor:
    """What latencies most likely are, of which :meth:`LatencyGuess.bounds` are the least and the most, ``(n,)``."""
    return (bounds[0] * bounds[1]).sqrt()


_CONSTANT = 0.01
"""Variance of the level."""
