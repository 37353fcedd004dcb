"""The costs of an architecture: counted, looked up or measured, under limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.costs.counting import Costs, count_costs
from ednag.costs.latency_tables import load_latencies
from ednag.costs.timing import measure_latency
from ednag.data.sampling import image_shape
from ednag.spaces import SearchSpace
from ednag.spaces.building import build_network, check_options

LIMITED = {"max_params": "params", "max_flops": "macs", "max_latency_ms": "latency_ms"}
"""Which of :class:`Costs` each limit is of."""


@dataclass(frozen=True)
class Limits:
    """Upper limits of a network's costs; ``None`` for no limit.

    Attributes:
        max_params: parameters.
        max_flops: multiply-accumulates for one image, as the field counts FLOPs.
        max_latency_ms: milliseconds per batch.

    Raises:
        ValueError: for a limit that is not positive.

    Examples:
        >>> from ednag.costs import Costs
        >>> Limits(max_params=50_000).violation(Costs(params=75_000, macs=1))
        0.5
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
        batch_size: images per batch of a measured latency.
        warmup: batches before measurement.
        repeats: measured batches, of which the median counts.
        input_shape: channels, height and width of the images; if omitted, the data's, or 3 x 32 x 32.
        num_classes: if omitted, the data's, or 10.

    Raises:
        ValueError: for a device that the table or this machine doesn't have, or a table without a device.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> model, space = CostModel(network={"channels": 16, "cells": 5}), NASBench201()
        >>> model.setup(space)
        >>> model.count(torch.tensor([3] * 6))
        Costs(params=1531546, macs=220119690, latency_ms=None)
    """

    def __init__(
        self,
        network: dict[str, int] | None = None,
        latency_device: str | None = None,
        latency_table: str | Path | None = None,
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
        self._known: dict[tuple[int, ...], Costs] = {}
        self._settled: tuple[str, tuple[int, int, int], int] | None = None
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
        settled = (space.name, shape or (3, 32, 32), classes or 10)
        if settled != self._settled:
            self._known = {}
        self._settled = settled
        _, self._shape, self._classes = settled
        if self._table is not None:
            self._table.setup(space, self.network.get("resolution") or max(self._shape[1:]))

    def costs(self, genes: Tensor) -> Costs:
        """Count one architecture, int64 ``(L,)``, and look its latency up, or build it to measure that."""
        if self.latency_device is None:
            return self.count(genes)
        if self.tabled:
            return replace(self.count(genes), latency_ms=float(self.look_up(genes)))
        with torch.inference_mode():
            network = build_network(self.space, genes, self._classes, self._shape[0], self.network)
            latency = measure_latency(network, self._shape, self.latency_device, **self.timing)
            return replace(count_costs(network, self._shape), latency_ms=latency)

    def of_each(self, genes: Tensor) -> list[Costs]:
        """Costs of architectures, int64 ``(n, L)``; each distinct one is counted or measured once."""
        rows = [tuple(row) for row in genes.tolist()]
        for row, one in zip(rows, genes.cpu(), strict=True):
            if row not in self._known:
                self._known[row] = self.costs(one)
        return [self._known[row] for row in rows]

    def least(self, name: str) -> float:
        """Least ``params``, ``macs`` or ``latency_ms`` of any architecture asked for so far; NaN before the first."""
        return min((getattr(costs, name) for costs in self._known.values()), default=float("nan"))

    def state_dict(self) -> list[tuple[list[int], int, int, float | None]]:
        """The costs found so far, so that a resumed run measures nothing twice."""
        return [(list(genes), c.params, c.macs, c.latency_ms) for genes, c in self._known.items()]

    def load_state_dict(self, rows: list[tuple[list[int], int, int, float | None]]) -> None:
        """Restore what :meth:`state_dict` saved; call after :meth:`setup`."""
        self._known = {tuple(genes): Costs(params, macs, latency) for genes, params, macs, latency in rows}

    def count(self, genes: Tensor) -> Costs:
        """Count one architecture, int64 ``(L,)``, without a latency: in closed form, or built."""
        closed = self.closed(genes)
        if closed is not None:
            return Costs(*closed.tolist())
        with torch.inference_mode():
            network = build_network(self.space, genes, self._classes, self._shape[0], self.network)
            return count_costs(network, self._shape)

    def closed(self, genes: Tensor) -> Tensor | None:
        """Parameters and multiply-accumulates of architectures, int64 ``(*B, 2)``, where the space counts in closed form."""
        return self.space.count(genes, self._classes, self._shape[0])

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


def _check_device(name: str) -> None:
    """Refuse a latency device that this machine doesn't have."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"latency_device {name!r} is not a torch device of this machine ({error}); "
            "use cpu or cuda, or give a latency_table and one of its devices"
        ) from None
