"""The method's equations as plain loops over numpy scalars: slow, obvious, and independent of the fast code."""

import math

import numpy as np


def clean_estimate(x: np.ndarray, members: np.ndarray, g: np.ndarray, alpha: float) -> np.ndarray:
    """Equation 2: sum_j g_j N(x; sqrt(alpha) x_j, (1 - alpha) I) x_j / Z, for one run; no log space."""
    out = np.zeros_like(x)
    for i, point in enumerate(x):
        total = 0.0
        for weight, member in zip(g, members, strict=True):
            square = sum((p - math.sqrt(alpha) * m) ** 2 for p, m in zip(point, member, strict=True))
            density = math.exp(-square / (2 * (1 - alpha))) / (2 * math.pi * (1 - alpha)) ** (len(point) / 2)
            out[i] += weight * density * member
            total += weight * density
        out[i] /= total
    return out


def ddim_step(
    x: np.ndarray, clean: np.ndarray, alpha: float, alpha_next: float, noise: np.ndarray, s: float
) -> np.ndarray:
    """Equation 3, entry by entry."""
    sigma = s * math.sqrt((1 - alpha_next) / (1 - alpha)) * math.sqrt(1 - alpha / alpha_next)
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        eps = (x[index] - math.sqrt(alpha) * clean[index]) / math.sqrt(1 - alpha)
        out[index] = (
            math.sqrt(alpha_next) * clean[index] + math.sqrt(1 - alpha_next - sigma**2) * eps + sigma * noise[index]
        )
    return out


def piecewise(accuracy: float) -> float:
    """The released program's stretching, walked in small steps of its slope."""
    edges = [0, 30, 50, 70, 75, 80, 85, 90, 95, math.inf]
    slopes = [0.1, 1, 2, 3, 5, 10, 30, 40, 50]
    total = 0.0
    for slope, low, high in zip(slopes, edges[:-1], edges[1:], strict=True):
        if accuracy > low:
            total += slope * (min(accuracy, high) - low)
    return total
