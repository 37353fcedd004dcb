"""Whether limits can be met at all, found out before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs.model import COUNTED, LIMITED, CostModel, Limits

STARTS = 8
"""Architectures from which the cheapest one is looked for."""


def refuse_hopeless(limits: Limits, model: CostModel) -> None:
    """Refuse limits that no architecture is found within; nothing is looked for where counting takes long.

    For spaces in which changes of one gene at a time lead to the cheapest architecture, as of sub-networks of a parent. In
    spaces with invalid gene strings (TransNAS-Bench-101's skeletons) they may end before it.

    Args:
        limits: what is allowed; latencies are left out.
        model: set up.

    Raises:
        ValueError: with the least of each cost.
    """
    if not (limits.counted and model.counts_at_once()):
        return
    least = {name: cheapest(model, COUNTED.index(LIMITED[name])) for name in limits.counted}
    over = {name: cost for name, cost in least.items() if cost > limits.counted[name]}
    if over:
        told = ", ".join(f"{name} is {limits.counted[name]:,.0f}, the least is {cost:,}" for name, cost in over.items())
        raise ValueError(f"no network of {model.space.name} is within the limits: {told}; relax them")


def cheapest(model: CostModel, column: int) -> int:
    """Find the least of a counted cost by changing one gene at a time, from a few random architectures.

    Args:
        model: set up.
        column: which of :data:`~ednag.costs.model.COUNTED`.
    """
    genes = model.space.random(Noise([0], torch.device("cpu")), 256)[0]
    genes = genes[model.space.valid(genes)]
    costs = model.counts(genes)[:, column]
    return min(_descend(model, column, genes[place]) for place in costs.argsort()[:STARTS].tolist())


def _descend(model: CostModel, column: int, genes: Tensor) -> int:
    """Take the cheapest change of one gene until none is cheaper."""
    cost = int(model.counts(genes[None])[0, column])
    while True:
        around = genes.repeat(sum(model.space.cardinalities), 1)
        row = 0
        for place, cardinality in enumerate(model.space.cardinalities):
            around[row : row + cardinality, place] = torch.arange(cardinality)
            row += cardinality
        around = around[model.space.valid(around)]
        costs = model.counts(around)[:, column]
        if int(costs.min()) >= cost:
            return cost
        genes, cost = around[int(costs.argmin())], int(costs.min())
