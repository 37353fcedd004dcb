"""Variation operators on continuous and on integer genes."""

from __future__ import annotations

import torch
from torch import Tensor


class PolynomialMutation:
    """Polynomial mutation (Deb & Goyal 1996).

    Args:
        rate: probability that a value is mutated, in ``[0, 1]``.
        index: distribution index, >= 0; the larger, the smaller the steps.
        span: width of the interval a value lives in; a step is at most that wide.

    Examples:
        >>> x, u = torch.zeros(1, 3), torch.tensor([[0.5, 0.1, 0.9]])
        >>> PolynomialMutation(rate=1.0)(x, choose=torch.zeros(1, 3), u=u)
        tensor([[ 0.0000, -0.4706,  0.4706]])
    """

    def __init__(self, rate: float = 0.6, index: float = 5.0, span: float = 2.0) -> None:
        if not 0 <= rate <= 1 or index < 0 or span <= 0:
            raise ValueError(f"need 0 <= rate <= 1, index >= 0, span > 0; got {rate}, {index}, {span}")
        self.rate, self.index, self.span = rate, index, span

    def __call__(self, x: Tensor, choose: Tensor, u: Tensor) -> Tensor:
        """Mutate.

        Args:
            x: ``(*B, N, D)``.
            choose: uniform numbers in ``[0, 1)``, same shape; below the rate, a value mutates.
            u: uniform numbers in ``[0, 1)``, same shape; they set the step.

        Returns:
            ``(*B, N, D)``, not clipped.
        """
        side = 1 - (2 * u - 1).abs()  # 2u below one half, 2(1 - u) above
        step = (side.pow(1 / (self.index + 1)) - 1) * (1 - 2 * (u >= 0.5).to(x.dtype))
        return torch.where(choose < self.rate, x + self.span * step, x)


def min_max(x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Scale each member, the last dimension of ``(*B, D)``, to ``[low, high]``; a constant one becomes ``low``."""
    least = x.amin(-1, keepdim=True)
    span = (x.amax(-1, keepdim=True) - least).clamp(min=torch.finfo(x.dtype).tiny)
    return low + (high - low) * (x - least) / span


def mutate_genes(genes: Tensor, cardinalities: Tensor, position: Tensor, shift: Tensor) -> Tensor:
    """Mutate one gene of each architecture to another value.

    Args:
        genes: int64 ``(*B, L)``.
        cardinalities: choices of each gene, int64 ``(L,)``, at least 2 where a position points.
        position: gene to change, int64 ``(*B,)``.
        shift: uniform numbers in ``[0, 1)``, ``(*B,)``; they pick among the other values.

    Returns:
        int64 ``(*B, L)``.
    """
    high = cardinalities[position]
    step = 1 + torch.minimum((shift * (high - 1)).long(), high - 2)
    old = genes.gather(-1, position[..., None]).squeeze(-1)
    return genes.scatter(-1, position[..., None], ((old + step) % high)[..., None])


def mutate_some(genes: Tensor, cardinalities: Tensor, number: Tensor, order: Tensor, shift: Tensor) -> Tensor:
    """Change some genes of each architecture, each to another value.

    Args:
        genes: int64 ``(*B, L)``.
        cardinalities: choices of each gene, int64 ``(L,)``; genes with a single choice stay.
        number: how many genes to change, int64 ``(*B,)``; or all that can change, if that is fewer.
        order: uniform numbers in ``[0, 1)``, ``(*B, L)``; the genes with the smallest change.
        shift: uniform numbers in ``[0, 1)``, ``(*B, L)``; they pick among the other values.

    Returns:
        int64 ``(*B, L)``.
    """
    free = cardinalities > 1
    order = order.where(free, 2.0)
    last = order.sort(dim=-1).values.gather(-1, number.clamp(1, order.shape[-1])[..., None] - 1)
    step = 1 + torch.minimum((shift * (cardinalities - 1)).long(), (cardinalities - 2).clamp(min=0))
    return torch.where((order <= last) & (number > 0)[..., None] & free, (genes + step) % cardinalities, genes)


def roulette(log_weight: Tensor, u: Tensor) -> Tensor:
    """Draw parents by roulette wheel, with replacement.

    Args:
        log_weight: ``(*B, M)``; ``-inf`` for a member that must not be drawn. At least one must be finite.
        u: uniform numbers in ``[0, 1)``, ``(*B, N)``.

    Returns:
        indices, int64 ``(*B, N)``.
    """
    weight = (log_weight - log_weight.amax(-1, keepdim=True)).double().exp()
    wheel = ((weight * 2**40).round() / 2**40).cumsum(-1)  # exact sums: the same alone and in a batch
    drawn = torch.searchsorted(wheel, u.double() * wheel[..., -1:], right=True)
    return drawn.clamp(max=log_weight.shape[-1] - 1)
