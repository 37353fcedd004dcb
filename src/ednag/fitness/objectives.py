"""Limits on what a network may cost, put around any fitness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.fitness.base import Fitness
from ednag.fitness.cost import Costs, count_costs, measure_latency
from ednag.fitness.latency import load_latencies
from ednag.fitness.networks import build_network, check_options, image_shape
from ednag.population import INFEASIBLE
from ednag.spaces import SearchSpace

LIMITED = {"max_params": "params", "max_flops": "macs", "max_latency_ms": "latency_ms"}
"""Which of :class:`Costs` each limit is of."""


@dataclass(frozen=True)
class Limits:
    """Upper limits of a network's costs; ``None`` for no limit.

    Attributes:
        max_params: parameters.
        max_flops: multiply-accumulates for one image, as the field counts FLOPs.
        max_latency_ms: milliseconds a batch.

    Raises:
        ValueError: for a limit that is not positive.
    """

    max_params: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}; leave it out for no limit")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(value is not None for value in vars(self).values())

    def violation(self, costs: Costs) -> float:
        """Sum of relative excesses, ``sum max(0, cost / limit - 1)``: 0 if every limit is met.

        Raises:
            ValueError: if latency is limited and unknown.
        """
        if self.max_latency_ms is not None and costs.latency_ms is None:
            raise ValueError("max_latency_ms needs a latency; give the cost model a latency_device")
        pairs = ((getattr(costs, LIMITED[name]), limit) for name, limit in vars(self).items())
        excess: float = sum(
            max(0.0, cost / limit - 1) for cost, limit in pairs if cost is not None and limit is not None
        )
        return excess


class CostModel:
    """Costs of the network that an architecture is built into.

    Args:
        network: options of that network (``{"channels": 16, "cells": 5}``); the space's defaults for what is left out.
        latency_device: where latency comes from: a torch device (``cpu``, ``cuda``) to measure on or, with a
            ``latency_table``, one of the table's devices; ``None`` for no latency.
        latency_table: an ``.npz`` of latencies, or its name in the catalogue: ``nasbench201_latency``, see
            :class:`LatencyTable`, or ``ofa_mobilenetv3``, see :class:`LatencyModel`.
        batch_size: images a batch of a measured latency.
        warmup: batches before measurement.
        repeats: measured batches, of which the median counts.
        input_shape: channels, height and width of the images; where ``None``, the data's, or 3 x 32 x 32.
        num_classes: where ``None``, the data's, or 10.

    Raises:
        ValueError: for a device that the table or this machine doesn't have, or a table without a device.
    """

    def __init__(
        self,
        network: dict[str, int] | None = None,
        latency_device: str | None = None,
        latency_table: Path | None = None,
        batch_size: int = 1,
        warmup: int = 5,
        repeats: int = 20,
        input_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.network = dict(network or {})
        self.latency_device = latency_device
        self.timing = {"batch_size": batch_size, "warmup": warmup, "repeats": repeats}
        self.input_shape = input_shape
        self.num_classes = num_classes
        self._table = None if latency_table is None else load_latencies(latency_table)
        if self._table is not None:
            if latency_device is None:
                raise ValueError(f"latency_table needs a latency_device; it has {', '.join(self._table.devices)}")
            self._table.column(latency_device)
        elif latency_device is not None:
            _check_device(latency_device)

    def setup(self, space: SearchSpace, data: pl.LightningDataModule | None = None) -> None:
        """Settle the space, the image size and the number of classes.

        Raises:
            ValueError: for an option that the space's networks don't have, or a latency table of another space.
        """
        check_options(space, self.network)
        self.space = space
        shape, classes = self.input_shape, self.num_classes
        if data is not None and (shape is None or classes is None):
            found = image_shape(data)
            shape, classes = shape or found[0], classes or found[1]
        self._shape = shape or (3, 32, 32)
        self._classes = classes or 10
        if self._table is not None:
            self._table.setup(space, self.network.get("resolution") or max(self._shape[1:]))

    def costs(self, genes: Tensor) -> Costs:
        """Build one architecture, int64 ``(L,)``, and count or measure."""
        with torch.inference_mode():
            network = build_network(self.space, genes, self._classes, self._shape[0], self.network)
            counted = count_costs(network, self._shape)
            if self.latency_device is None:
                return counted
            if self._table is not None:
                latency = float(self._table.latency(genes, self.latency_device))
            else:
                latency = measure_latency(network, self._shape, self.latency_device, **self.timing)
        return Costs(counted.params, counted.macs, latency)

    def count(self, genes: Tensor) -> Costs:
        """Build one architecture, int64 ``(L,)``, and count only: no latency."""
        with torch.inference_mode():
            network = build_network(self.space, genes, self._classes, self._shape[0], self.network)
            return count_costs(network, self._shape)

    @property
    def tabled(self) -> bool:
        """Whether latencies come from a table, without a network."""
        return self._table is not None

    def look_up(self, genes: Tensor) -> Tensor:
        """Latencies of architectures, int64 ``(*B, L)``, from the table: float64 ``(*B,)``, milliseconds.

        Raises:
            ValueError: if there is no table.
        """
        if self._table is None or self.latency_device is None:
            raise ValueError("the cost model has no latency table")
        return self._table.latency(genes, self.latency_device)


class ConstrainedFitness(Fitness):
    """Another fitness under limits: violators rank below every feasible architecture and are never scored.

    They cost no evaluation of a sampler's budget (:meth:`violates` tells them beforehand).

    A violator's fitness is ``INFEASIBLE * (1 + violation)``, so that among violators less violation ranks higher.
    Costs are those of the very network that would be built: isomorphic architectures can differ in layers that
    nothing flows through, and such layers are parameters too. Counters, ``generating`` and everything else about the
    scores are the wrapped fitness's; cost checks are no look-ups.

    Args:
        fitness: what is maximised among feasible architectures.
        limits: what is allowed.
        cost_model: how costs are found; networks of the space's default size where ``None``.

    Raises:
        ValueError: if latency is limited and the cost model has none.
    """

    def __init__(self, fitness: Fitness, limits: Limits, cost_model: CostModel | None = None) -> None:
        # The base class's counters and cache stay unused: those of the wrapped fitness count.
        self.fitness = fitness
        self.limits = limits
        self.cost_model = CostModel() if cost_model is None else cost_model
        self.name = fitness.name
        self.partial = fitness.partial
        self._costs: dict[tuple[int, ...], Costs] = {}
        if limits.max_latency_ms is not None and self.cost_model.latency_device is None:
            raise ValueError("max_latency_ms needs a latency; give the cost model a latency_device (e.g. cpu)")

    @property
    def lookups(self) -> int:
        """Feasible architectures asked for, repeats included."""
        return self.fitness.lookups

    @lookups.setter
    def lookups(self, value: int) -> None:
        self.fitness.lookups = value

    @property
    def evaluations(self) -> int:
        """Feasible architectures that were scored."""
        return self.fitness.evaluations

    @evaluations.setter
    def evaluations(self, value: int) -> None:
        self.fitness.evaluations = value

    @property
    def generating(self) -> bool:
        """Whether generation is under way."""
        return self.fitness.generating

    @generating.setter
    def generating(self, value: bool) -> None:
        self.fitness.generating = value

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Set up the wrapped fitness and the cost model; see :meth:`Fitness.setup`."""
        super().setup(space, data, device)
        self.fitness.setup(space, data, device)
        self.cost_model.setup(space, data)

    def costs(self, genes: Tensor) -> list[Costs]:
        """Costs of architectures, each distinct one found once.

        Args:
            genes: int64 ``(n, L)``.

        Returns:
            ``n`` costs.
        """
        rows = [tuple(row) for row in genes.tolist()]
        for row, one in zip(rows, genes.cpu(), strict=True):
            if row not in self._costs:
                self._costs[row] = self.cost_model.costs(one)
        return [self._costs[row] for row in rows]

    def explain(self) -> str:
        """Say what the limits are, and the least of each cost that any architecture had so far."""
        seen = self._costs.values()
        parts = []
        for name, limit in vars(self.limits).items():
            if limit is not None:
                least = min((getattr(costs, LIMITED[name]) for costs in seen), default=float("nan"))
                parts.append(f"{name} {limit:g}; the least that was seen is {least:g}")
        return ", ".join(parts) or "none"

    def violation(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Sum of relative excesses, float64 ``(*B,)``: 0 where every limit is met or the architecture is invalid."""
        violation = torch.zeros(valid.shape, dtype=torch.float64, device=genes.device)
        if self.limits.any and valid.any():
            found = [self.limits.violation(costs) for costs in self.costs(genes[valid])]
            violation[valid] = torch.tensor(found, dtype=torch.float64, device=genes.device)
        return violation

    def violates(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Tell which valid architectures violate a limit, bool ``(*B,)``; nothing is scored."""
        return self.violation(genes, valid) > 0

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score a batch, see :meth:`Fitness.__call__`; at or below ``INFEASIBLE`` where a limit is violated."""
        violation = self.violation(genes, valid)
        scores = self.fitness(genes, valid & (violation == 0))
        return torch.where(violation > 0, INFEASIBLE * (1 + violation), scores)

    def score(self, genes: Tensor) -> Tensor:
        """Score architectures, int64 ``(n, L)``, under the limits."""
        return self(genes, torch.ones(len(genes), dtype=torch.bool, device=genes.device))

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Parts of the wrapped fitness's scores, see :meth:`Fitness.details`."""
        return self.fitness.details(genes)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up test metrics in the wrapped fitness, see :meth:`Fitness.reveal`."""
        return self.fitness.reveal(genes)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped fitness's state, and the costs found so far."""
        rows = [(list(genes), c.params, c.macs, c.latency_ms) for genes, c in self._costs.items()]
        return {"fitness": self.fitness.state_dict(), "costs": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        self.fitness.load_state_dict(state["fitness"])
        self._costs = {tuple(genes): Costs(*costs) for genes, *costs in state["costs"]}


def _check_device(name: str) -> None:
    """Refuse a latency device that this machine doesn't have."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"latency_device {name!r} is not a torch device of this machine ({error}); "
            "use cpu or cuda, or give a latency_table and one of its devices"
        ) from None
