"""Gaussian diffusion guided by fitness: equations 2 and 3 of the method (EDNAG, arXiv 2504.17827; DDIM, Song et al. 2021).

All functions take leading batch dimensions; ``alpha`` is the signal level of :mod:`ednag.diffusion.schedules`.
"""

from __future__ import annotations

import math

from torch import Tensor

from ednag.core.archive import squared_distance


def clean_estimate(x: Tensor, members: Tensor, log_g: Tensor, alpha: float) -> Tensor:
    """Estimate the clean sample behind each noisy one, without a trained denoiser.

    ``x0_hat(x) = sum_j g_j N(x; sqrt(alpha) x_j, (1 - alpha) I) x_j / Z``, computed in log space because the Gaussian
    underflows at the widths in use.

    Args:
        x: noisy genes, ``(*B, N, D)``.
        members: the population the estimate is made of, ``(*B, M, D)``.
        log_g: logarithm of the mapped fitness of the members, ``(*B, M)``; ``-inf`` leaves a member out.
        alpha: signal level of ``x``, in ``[0, 1)``.

    Returns:
        ``(*B, N, D)``.
    """
    distance = squared_distance(x, math.sqrt(alpha) * members)
    log_weight = log_g[..., None, :].to(x.dtype) - distance / (2 * (1 - alpha))
    return log_weight.softmax(-1) @ members


def ddim_step(x: Tensor, clean: Tensor, alpha: float, alpha_next: float, noise: Tensor, scale: float) -> Tensor:
    """Take one reverse step.

    ``eps = (x - sqrt(alpha) x0) / sqrt(1 - alpha)``, then
    ``x' = sqrt(alpha') x0 + sqrt(1 - alpha' - sigma^2) eps + sigma w`` with
    ``sigma = scale sqrt((1 - alpha') / (1 - alpha)) sqrt(1 - alpha / alpha')``.

    Args:
        x: noisy genes, ``(*B, N, D)``.
        clean: estimate of the clean sample, same shape.
        alpha: signal level of ``x``, in ``[0, 1)``.
        alpha_next: signal level to reach, in ``(alpha, 1]``.
        noise: standard normal, same shape as ``x``.
        scale: stochasticity in ``[0, 1]``: 0 is DDIM, 1 is DDPM.

    Returns:
        ``(*B, N, D)``.
    """
    eps = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
    sigma = scale * math.sqrt((1 - alpha_next) / (1 - alpha)) * math.sqrt(1 - alpha / alpha_next)
    direction = math.sqrt(max(1 - alpha_next - sigma**2, 0.0))
    return math.sqrt(alpha_next) * clean + direction * eps + sigma * noise
