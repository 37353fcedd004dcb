"""Pareto fronts of a fitness (higher is better) against a cost (lower is better), in two dimensions and batched.

One architecture dominates another if it costs no more, is no less fit, and differs in one of the two. Everything is made
of sorts, cumulative maxima and look-ups: ``O(M log M)`` for ``M`` members.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def best_upto(cost: Tensor, fitness: Tensor, member: Tensor, at: Tensor, strictly: bool = False) -> Tensor:
    """Return the largest fitness among members that cost no more than a given cost.

    Args:
        cost: ``(*B, M)``.
        fitness: same shape.
        member: which entries count, bool, same shape.
        at: costs to ask for, ``(*B, N)``.
        strictly: whether only members that cost less count.

    Returns:
        float64 ``(*B, N)``, ``-inf`` if no member is that cheap.
    """
    ordered, order = cost.double().where(member, torch.inf).sort(dim=-1, stable=True)
    best = fitness.double().where(member, -torch.inf).gather(-1, order).cummax(-1).values
    best = torch.cat([torch.full_like(best[..., :1], -torch.inf), best], -1)
    return best.gather(-1, torch.searchsorted(ordered, at.double().contiguous(), right=not strictly))


def non_dominated(cost: Tensor, fitness: Tensor, member: Tensor) -> Tensor:
    """Mark members that no other member dominates; equal members are all kept.

    Args:
        cost: finite where a member, ``(*B, M)``.
        fitness: finite where a member, same shape.
        member: which entries count, bool, same shape.

    Returns:
        bool ``(*B, M)``.
    """
    cheaper = best_upto(cost, fitness, member, cost, strictly=True)
    return member & (fitness > cheaper) & (fitness >= best_upto(cost, fitness, member, cost))


def gap_to_front(cost: Tensor, fitness: Tensor, member: Tensor) -> Tensor:
    """Return how far each member's fitness is below the best at no greater cost, float64 ``(*B, M)``; 0 on the front.

    Args:
        cost: see :func:`non_dominated`.
        fitness: see :func:`non_dominated`.
        member: see :func:`non_dominated`; 0 if not a member.
    """
    return (best_upto(cost, fitness, member, cost) - fitness).where(member, 0.0)


def expected_gain(
    mean: Tensor,
    deviation: Tensor,
    cost: Tensor,
    front: tuple[Tensor, Tensor, Tensor],
    reference: tuple[Tensor, Tensor],
) -> Tensor:
    """Expected gain of hypervolume from architectures whose cost is known and whose fitness is a normal prediction.

    At cost ``c``, fitness ``y`` adds the area between ``y`` and the front's staircase ``s`` right of ``c``,
    ``int_c^r max(0, y - s(c')) dc'``: a sum over steps of width times excess, whose expectation is the expected
    improvement over each step (Emmerich et al. 2011, with one objective certain).

    Args:
        mean: predicted fitness, ``(*B, N)``.
        deviation: its standard deviation, > 0, same shape.
        cost: known, same shape.
        front: cost, fitness and mask of what is evaluated, ``(*B, M)`` each; dominated members change nothing.
        reference: cost and fitness from which area counts, ``(*B,)`` each.

    Returns:
        float64 ``(*B, N)``, >= 0; 0 if the cost is beyond the reference.
    """
    known_cost, known_fitness, member = front
    steps = non_dominated(known_cost, known_fitness, member)
    ordered, order = known_cost.double().where(steps, torch.inf).sort(dim=-1, stable=True)
    most = int(steps.sum(-1).max())
    height = known_fitness.double().where(steps, -torch.inf).gather(-1, order)[..., :most].cummax(-1).values
    limit, floor = (value.double()[..., None] for value in reference)
    left = torch.cat([torch.full_like(limit, -torch.inf), ordered[..., :most]], -1)
    right = torch.cat([left[..., 1:], torch.full_like(limit, torch.inf)], -1).minimum(limit)
    height = torch.cat([floor, height.maximum(floor)], -1)
    width = (right[..., None, :] - left[..., None, :].maximum(cost.double()[..., None])).clamp(min=0)
    z = (mean[..., None] - height[..., None, :]) / deviation[..., None]
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    excess = deviation[..., None] * (z * torch.special.ndtr(z) + density)
    gain: Tensor = (width * excess.clamp(min=0)).sum(-1)
    return gain
