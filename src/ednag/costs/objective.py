"""Costs as a second objective: they are known without evaluating an architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs.counting import Costs
from ednag.costs.latency_guess import FIRST, middle
from ednag.costs.model import COUNTED, LIMITED, CostModel, Limits
from ednag.spaces import SearchSpace

Objective = Literal["params", "flops", "latency_ms"]
"""Costs that fitness can be traded off against."""

EVERY = 8
"""Evaluations for each of which one latency more is measured during a search for a front."""

TITLES: dict[str, str] = {
    "params": "parameters",
    "flops": "FLOPs (multiply-accumulates)",
    "latency_ms": "latency, ms",
}
"""Names for axes and headings."""

FIELDS: dict[str, str] = {limit.removeprefix("max_"): field for limit, field in LIMITED.items()}
"""Attribute of :class:`Costs` of each objective."""


class CostObjective:
    """One cost of the network that an architecture is built into, lower is better.

    Latencies of a table are looked up. Measured ones are predicted once enough was measured, see :meth:`confirm`. Parameters
    and multiply-accumulates come from a space's closed form, or from a sum over genes in the spaces where one gives them
    exactly (:func:`sum_over_genes`). Otherwise each network is built, and counted or timed, once.

    Args:
        name: ``params``, ``flops`` (multiply-accumulates) or ``latency_ms``.
        limits: architectures beyond them cost infinitely much.
        model: how costs are counted or measured, already set up when :meth:`setup` is called.

    Raises:
        ValueError: for another name, or for latency where the cost model has none.
    """

    def __init__(self, name: str, limits: Limits, model: CostModel) -> None:
        if name not in FIELDS:
            raise ValueError(f"objective must be one of {', '.join(FIELDS)}, got {name!r}")
        if name == "latency_ms" and model.latency_device is None:
            raise ValueError(
                "the objective latency_ms needs a latency: --cost.latency_device cpu (or cuda) measures it; with "
                "--cost.latency_table nasbench201_latency it is looked up for one of the table's devices"
            )
        self.name, self.title = name, TITLES[name]
        self.limits, self.model = limits, model
        self._sums: tuple[Costs, Tensor] | None = None

    def setup(self) -> None:
        """Find out which costs need no network; call after the cost model was set up."""
        limits, model = self.limits, self.model
        self._timed = self.name == "latency_ms" or limits.max_latency_ms is not None
        self._counted = self.name != "latency_ms" or bool(limits.counted)
        quick = not self._counted or model.counts_at_once()
        self._sums = None if quick else sum_over_genes(model.space, model.count)
        self._quick = (quick or self._sums is not None) and (model.tabled or not self._timed)

    @property
    def quick(self) -> bool:
        """Whether no network has to be built, so that thousands of architectures can be asked for at once."""
        return self._quick

    def confirm(self, genes: Tensor, evaluated: int) -> None:
        """Measure one of the architectures that seem to be on a front, the least certain, if it is time to.

        Args:
            genes: int64 ``(n, L)``.
            evaluated: how many architectures were evaluated so far: one in :data:`EVERY` is measured on the way.
        """
        if self.predicts and FIRST <= self.model.measured < FIRST + evaluated // EVERY:
            self._measure_one(genes)

    def _measure_one(self, genes: Tensor) -> bool:
        """Measure the least certain of architectures, int64 ``(n, L)``, if there is one that wasn't measured."""
        unknown = genes[~self.model.known(genes)]
        if not len(unknown):
            return False
        bounds = self.model.bounds(unknown)
        place = 0 if bounds is None else int((bounds[1] / bounds[0]).argmax())
        self.model.latencies(unknown[place : place + 1])
        return True

    def settle(self, genes: Tensor) -> bool:
        """Measure one of the architectures that are reported, int64 ``(n, L)``; tells whether there was one to measure."""
        return self.predicts and self._measure_one(genes)

    @property
    def predicts(self) -> bool:
        """Whether the cost is a latency that is measured on a device."""
        return self.name == "latency_ms" and not self.model.tabled

    def __call__(self, genes: Tensor) -> Tensor:
        """Cost of valid architectures, int64 ``(n, L)``: float64 ``(n,)``, ``inf`` if a limit is violated.

        What violates a counted limit is not timed.
        """
        within = torch.ones(len(genes), dtype=torch.bool, device=genes.device)
        cost = torch.full(within.shape, torch.inf, dtype=torch.float64, device=genes.device)
        if self._counted:
            counts = self._counts(genes).double()
            for name, limit in self.limits.counted.items():
                within &= counts[:, COUNTED.index(LIMITED[name])] <= limit
            if self.name != "latency_ms":
                cost = counts[:, COUNTED.index(FIELDS[self.name])]
        if self._timed and within.any():
            latency = torch.full_like(cost, torch.inf)
            latency[within] = self._latencies(genes[within])
            most = self.limits.max_latency_ms
            within = within if most is None else within & (latency <= most)
            cost = latency if self.name == "latency_ms" else cost
        return cost.where(within, torch.inf)

    def predicted(self, genes: Tensor) -> Tensor | None:
        """Latencies of valid architectures as predicted from those measured so far; ``inf`` if a limit is surely violated.

        Returns:
            float64 ``(n,)``; ``None`` if latency is not measured or not the objective, or before enough were measured.
        """
        bounds = self.model.bounds(genes) if self.predicts else None
        if bounds is None:
            return None
        most = self.limits.max_latency_ms
        if most is None:
            return middle(bounds)
        return middle(bounds).masked_fill(self.model.least(bounds, most) > most, torch.inf)

    def _latencies(self, genes: Tensor) -> Tensor:
        """Latencies, float64 ``(n,)``: those of an objective on a device are measured one by one until they can be predicted."""
        if not self.predicts:
            return self.model.latencies(genes)
        for i in range(len(genes)):
            if (expected := self.model.expected(genes)) is not None:
                return expected
            self.model.latencies(genes[i : i + 1])
        return self.model.latencies(genes)

    def _counts(self, genes: Tensor) -> Tensor:
        """Parameters and multiply-accumulates, int64 ``(n, 2)``."""
        if self._sums is None:
            return self.model.counts(genes)
        base, changes = self._sums
        place = torch.arange(genes.shape[-1], device=genes.device)
        total: Tensor = changes.to(genes.device)[place, genes].sum(-2)
        return total + torch.tensor([base.params, base.macs], device=genes.device)


def sum_over_genes(
    space: SearchSpace, count: Callable[[Tensor], Costs], checks: int = 16
) -> tuple[Costs, Tensor] | None:
    """Write parameters and multiply-accumulates as a sum over genes, where they are one.

    Each gene's contribution comes from changing it alone; the sum is then compared with the counts of ``checks`` random
    architectures, always the same, and refused unless all of them are met exactly. NAS-Bench-201 and the micro cells of
    TransNAS-Bench-101 are such spaces.

    Args:
        space: where architectures come from.
        count: costs of one architecture, int64 ``(L,)``.
        checks: architectures to compare with.

    Returns:
        costs of the architecture of zeros, and what each choice of each gene adds, int64 ``(L, max C, 2)`` (parameters
        and multiply-accumulates); ``None`` if it is no sum, or the space is not made of independent genes.
    """
    some = space.random(Noise([0]), checks)[0]
    zeros = torch.zeros(space.num_genes, dtype=torch.int64)
    alone = [(gene, choice) for gene, k in enumerate(space.cardinalities) for choice in range(1, k)]
    changed = zeros.repeat(len(alone), 1)
    for row, (gene, choice) in enumerate(alone):
        changed[row, gene] = choice
    if not bool(space.valid(torch.cat([zeros[None], changed, some])).all()) or len(alone) > MOST_CHANGES:
        return None
    base = count(zeros)
    changes = torch.zeros(space.num_genes, max(space.cardinalities), 2, dtype=torch.int64)
    place = torch.arange(space.num_genes)
    for (gene, choice), genes in zip(alone, changed, strict=True):
        costs = count(genes)
        changes[gene, choice] = torch.tensor([costs.params - base.params, costs.macs - base.macs])
    for genes in some:
        costs, total = count(genes), changes[place, genes].sum(0)
        if [base.params + int(total[0]), base.macs + int(total[1])] != [costs.params, costs.macs]:
            return None
    return base, changes


MOST_CHANGES = 64
"""Single changes of a gene that are counted to look for a sum; in longer spaces none is looked for."""
