"""The costs of an architecture: counted, looked up or measured, under limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ednag.costs.counting import Costs, count_costs
from ednag.costs.latency_guess import FIRST, LatencyGuess, middle
from ednag.costs.latency_tables import load_latencies
from ednag.costs.timing import measure_latency
from ednag.data.sampling import image_shape
from ednag.spaces import SearchSpace
from ednag.spaces.building import build_network, check_options, count_in_closed_form

LIMITED = {"max_params": "params", "max_flops": "macs", "max_latency_ms": "latency_ms"}
"""Which of :class:`Costs` each limit is of."""

COUNTED = ("params", "macs")
"""Which of them are counted."""


PROMISING = 0.98
"""How much of the fastest measured latency is worth a measurement, if nothing was within the limit."""


@dataclass(frozen=True)
class Limits:
    """Upper limits of a network's costs; ``None`` for no limit.

    Attributes:
        max_params: parameters.
        max_flops: multiply-accumulates for one image, as the field counts FLOPs.
        max_latency_ms: milliseconds per batch.

    Raises:
        ValueError: for a limit that is not positive, or not finite.

    Examples:
        >>> Limits(max_params=50_000, max_latency_ms=3).counted
        {'max_params': 50000.0}
    """

    max_params: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and greater than 0, got {value}; leave it out for no limit")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(value is not None for value in vars(self).values())

    @property
    def counted(self) -> dict[str, float]:
        """The limits of what is counted, by name."""
        named = ((name, getattr(self, name)) for name, cost in LIMITED.items() if cost in COUNTED)
        return {name: float(limit) for name, limit in named if limit is not None}


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
        ValueError: for a device that the table or this machine doesn't have, a table without a device, or a number out
            of range.

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
        if min(batch_size, repeats, *(input_shape or ()), num_classes or 1) < 1 or warmup < 0:
            raise ValueError(
                f"batch_size, repeats, num_classes and sides of images must be >= 1 and warmup >= 0, got {batch_size}, "
                f"{repeats}, {num_classes}, {input_shape} and {warmup}"
            )
        self.network = dict(network or {})
        self.latency_device = latency_device
        self.timing = {"batch_size": batch_size, "warmup": warmup, "repeats": repeats}
        self.input_shape = input_shape
        self.num_classes = num_classes
        self._table = None if latency_table is None else load_latencies(latency_table)
        self._counted: dict[tuple[int, ...], tuple[int, int]] = {}
        self._timed: dict[tuple[int, int, int], tuple[float, list[int]]] = {}
        self._guess: tuple[int, LatencyGuess] | None = None
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
            self._counted, self._timed, self._guess = {}, {}, None
        self._settled = settled
        _, self._shape, self._classes = settled
        if self._table is not None:
            self._table.setup(space, self.network.get("resolution") or max(self._shape[1:]))

    def costs(self, genes: Tensor) -> Costs:
        """Costs of one architecture, int64 ``(L,)``, with its latency if there is a device."""
        return self.of_each(genes[None])[0]

    def of_each(self, genes: Tensor) -> list[Costs]:
        """Costs of architectures, int64 ``(n, L)``, with their latencies if there is a device."""
        counted = [Costs(params, macs) for params, macs in self.counts(genes).tolist()]
        if self.latency_device is None:
            return counted
        return [replace(one, latency_ms=ms) for one, ms in zip(counted, self.latencies(genes).tolist(), strict=True)]

    def counts(self, genes: Tensor) -> Tensor:
        """Parameters and multiply-accumulates of architectures, int64 ``(n, L)`` to int64 ``(n, 2)``.

        In closed form where the space has one; otherwise each distinct network is built once.
        """
        closed = self.closed(genes)
        if closed is not None:
            return closed
        rows = [tuple(row) for row in genes.tolist()]
        for row, one in zip(rows, genes.cpu(), strict=True):
            if row not in self._counted:
                costs = count_costs(self._build(one), self._shape)
                self._counted[row] = (costs.params, costs.macs)
        found = [self._counted[row] for row in rows]
        return torch.tensor(found, dtype=torch.int64, device=genes.device).view(-1, 2)

    def latencies(self, genes: Tensor) -> Tensor:
        """Latencies of architectures, int64 ``(n, L)``: float64 ``(n,)``, milliseconds.

        Looked up, or measured once for isomorphic architectures whose counts are equal: they are the same layers.

        Raises:
            ValueError: if there is no latency device.
        """
        if self.tabled:
            return self.look_up(genes)
        if self.latency_device is None:
            raise ValueError("the cost model has no latency_device")
        keys = self._keys(genes)
        for key, one in zip(keys, genes.cpu(), strict=True):
            if key not in self._timed:
                network = self._build(one)
                latency = measure_latency(network, self._shape, self.latency_device, **self.timing)
                self._timed[key] = latency, one.tolist()
        return torch.tensor([self._timed[key][0] for key in keys], dtype=torch.float64, device=genes.device)

    @property
    def measured(self) -> int:
        """How many latencies were measured."""
        return len(self._timed)

    def measurements(self) -> tuple[Tensor, Tensor]:
        """Architectures whose latency was measured, int64 ``(n, L)``, and the latencies, float64 ``(n,)``, milliseconds."""
        genes = torch.tensor([genes for _, genes in self._timed.values()]).view(-1, self.space.num_genes)
        return genes, torch.tensor([latency for latency, _ in self._timed.values()], dtype=torch.float64)

    def known(self, genes: Tensor) -> Tensor:
        """Which architectures' latencies were measured, bool ``(n,)``, for int64 ``(n, L)``."""
        return torch.tensor([key in self._timed for key in self._keys(genes)], dtype=torch.bool, device=genes.device)

    def expected(self, genes: Tensor) -> Tensor | None:
        """Latencies as measured, or predicted where they weren't, float64 ``(n,)``; ``None`` while nothing is predicted."""
        bounds = self.bounds(genes)
        if bounds is None:
            return None
        known, latency = self.known(genes), middle(bounds)
        latency[known] = self.latencies(genes[known])
        return latency

    def bounds(self, genes: Tensor) -> tuple[Tensor, Tensor] | None:
        """Least and most that latencies may be, as predicted from those measured so far (:class:`LatencyGuess`).

        Args:
            genes: int64 ``(n, L)``.

        Returns:
            float64 ``(n,)`` each, milliseconds; ``None`` before the first :data:`~ednag.costs.latency_guess.FIRST`
            measurements.
        """
        if self.measured < FIRST:
            return None
        enough = fitted_to(self.measured)
        if self._guess is None or self._guess[0] != enough:
            known, latencies = self.measurements()
            self._guess = enough, LatencyGuess(self._described(known[:enough]), latencies[:enough])
        return self._guess[1].bounds(self._described(genes.cpu()), genes.device)

    def least(self, bounds: tuple[Tensor, Tensor], limit: float) -> Tensor:
        """What latencies may be at least, float64 ``(n,)``, milliseconds, before a limit that they are held against.

        As long as nothing that was measured is within the limit, predictions near it are guesses from afar: what seems
        faster than all that was measured may be within, whatever its bounds.

        Args:
            bounds: of the latencies, see :meth:`bounds`.
            limit: milliseconds.
        """
        fastest = min(latency for latency, _ in self._timed.values())
        promising = (middle(bounds) < PROMISING * fastest) & (fastest > limit)
        return bounds[0].masked_fill(promising, 0.0)

    def _described(self, genes: Tensor) -> list[Tensor]:
        """Layers, counts where they take no time, and genes and features, float64 ``(n, F)`` each."""
        hot = (genes[..., None] == torch.arange(max(self.space.cardinalities))).flatten(-2)
        described = torch.cat([hot.double(), self.space.features(genes).double()], -1)
        counts = self.closed(genes)
        columns = [] if counts is None else counts.double()[:, :, None].unbind(1)
        return [self.space.layers(genes).double(), *columns, described]

    def state_dict(self) -> dict[str, Any]:
        """What was counted by building and what was measured, so that a resumed run does nothing twice."""
        return {"counted": dict(self._counted), "timed": dict(self._timed)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved; call after :meth:`setup`."""
        self._counted, self._timed, self._guess = dict(state["counted"]), dict(state["timed"]), None

    def count(self, genes: Tensor) -> Costs:
        """Count one architecture, int64 ``(L,)``, without a latency: in closed form, or built."""
        return Costs(*self.counts(genes[None])[0].tolist())

    def counts_at_once(self) -> bool:
        """Whether parameters and multiply-accumulates are counted without building networks."""
        return self.closed(torch.zeros(1, self.space.num_genes, dtype=torch.int64)) is not None

    def closed(self, genes: Tensor) -> Tensor | None:
        """Parameters and multiply-accumulates of architectures, int64 ``(*B, 2)``, where the space counts in closed form."""
        return count_in_closed_form(self.space, genes, self._classes, self._shape, self.network)

    def _build(self, genes: Tensor) -> nn.Module:
        """Build the network of one architecture, int64 ``(L,)``, on the CPU."""
        with torch.inference_mode():
            return build_network(self.space, genes, self._classes, self._shape[0], self.network)

    def _keys(self, genes: Tensor) -> list[tuple[int, int, int]]:
        """Identity and counts of architectures, int64 ``(n, L)``."""
        pairs = zip(self.space.identity(genes).tolist(), self.counts(genes).tolist(), strict=True)
        return [(identity, params, macs) for identity, (params, macs) in pairs]

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


def fitted_to(measured: int) -> int:
    """To how many of the measurements a model of latency is fitted: to all of the first 64, then in steps of an eighth.

    It depends on their number alone, so that a resumed run has the same model.
    """
    count = min(measured, 64)
    while count < measured and (more := count * 9 // 8) <= measured:
        count = more
    return count


def _check_device(name: str) -> None:
    """Refuse a latency device that this machine doesn't have."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"latency_device {name!r} is not a torch device of this machine ({error}); "
            "use cpu or cuda, or give a latency_table and one of its devices"
        ) from None
