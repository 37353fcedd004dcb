"""Zero-cost fitness: architectures scored by proxies of untrained networks, alone or as an ensemble of ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ednag.core.noise import Noise
from ednag.data.sampling import image_batch
from ednag.fitness.base import Fitness
from ednag.fitness.proxies import DATA_PROXIES, PROXIES, measure
from ednag.spaces import SearchSpace
from ednag.spaces.building import (
    architecture_seed,
    build_network,
    check_options,
    count_in_closed_form,
    representative,
)
from ednag.spaces.memory_format import fast_layout

log = logging.getLogger(__name__)

COUNTED = ("params", "flops")
"""Proxies that are costs, in the order of :meth:`ednag.spaces.SearchSpace.count`."""


class ZeroCostFitness(Fitness):
    """Score networks without training them, by the functions of :mod:`ednag.fitness.proxies`.

    One proxy scores by its own value. Several score by the geometric mean over proxies of the architecture's rank among
    ``reference_size`` random architectures (:func:`rank_among`), which is a fixed number for an architecture, whatever
    else is in the population. The geometric mean punishes a low rank by any one proxy, as the sum of logarithms of AZ-NAS
    does (Lee & Ham, CVPR 2024, non-linear ranking aggregation). A score follows from the seed, the images and the
    architecture alone: not from what was evaluated before, nor from the global random state. An architecture for which any
    proxy is not finite (nothing reaches its output, an overflow) counts as failed.

    Args:
        proxies: one or more of ``params``, ``flops``, ``snip``, ``grad_norm``, ``zico``, ``naswot``, ``synflow``,
            ``zen``.
        batch_size: images of the task that gradients and activation codes come from, >= 4.
        network: options of the networks that are scored (``{"channels": 16, "cells": 1}``); the space's defaults,
            which are those of its benchmark, for what is left out.
        seed: of the initialisations and of the reference sample.
        reference_size: random architectures that the ensemble ranks against, >= 2. They are scored once, before the
            first score, and are not counted as evaluations of the run.
        input_shape: channels, height and width of the images where no data is given.
        num_classes: likewise.

    Raises:
        ValueError: for an unknown proxy, none at all, or a size out of range.

    Examples:
        >>> from ednag.data import Digits
        >>> from ednag.spaces import NASBench201
        >>> fitness = ZeroCostFitness(["naswot"], batch_size=16, network={"channels": 4, "cells": 1})
        >>> fitness.setup(NASBench201(), Digits(image_size=8))
        >>> scores = fitness.score(torch.tensor([[3] * 6, [1] * 6]))
        >>> bool(scores[0] > scores[1])
        True
    """

    def __init__(
        self,
        proxies: Sequence[str] = ("synflow", "naswot"),
        batch_size: int = 64,
        network: dict[str, int] | None = None,
        seed: int = 0,
        reference_size: int = 64,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        unknown = [name for name in proxies if name not in PROXIES]
        if unknown or not proxies or isinstance(proxies, str):
            raise ValueError(f"proxies must be one or more of {', '.join(PROXIES)}, got {proxies!r}")
        if batch_size < 4 or reference_size < 2:
            raise ValueError(f"batch_size must be >= 4 and reference_size >= 2, got {batch_size} and {reference_size}")
        self.proxies = tuple(dict.fromkeys(proxies))
        self.name = self.proxies[0] if len(self.proxies) == 1 else f"rank({', '.join(self.proxies)})"
        self.batch_size = batch_size
        self.network = dict(network or {})
        self.seed = seed
        self.reference_size = reference_size
        self.input_shape = input_shape
        self.num_classes = num_classes
        self._measured: dict[int, list[float]] = {}
        self._reference: Tensor | None = None

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Take a batch of images and check the network's options; see :meth:`Fitness.setup`."""
        super().setup(space, data, device)
        check_options(space, self.network)
        if data is None:
            needy = [name for name in self.proxies if name in DATA_PROXIES]
            if needy:
                raise ValueError(
                    f"{', '.join(needy)} need images of the task: give a data module (--data), or use only proxies "
                    f"that need none: {', '.join(name for name in PROXIES if name not in DATA_PROXIES)}"
                )
            with torch.inference_mode(False):
                self._images = torch.zeros(1, *self.input_shape, device=self.device)
                self._labels = torch.zeros(1, dtype=torch.int64, device=self.device)
            return
        batch = image_batch(data, self.batch_size, self.device)
        if len(batch.images) < 4:
            raise ValueError(f"zero-cost proxies need at least 4 images, {type(data).__name__} has {len(batch.images)}")
        with torch.inference_mode(False):
            self._images = batch.images.contiguous(memory_format=torch.channels_last)
        self._labels = batch.labels
        self.input_shape, self.num_classes = batch.shape, batch.num_classes

    def score(self, genes: Tensor) -> Tensor:
        """Score distinct, valid architectures, int64 ``(n, L)``; NaN if a proxy is not finite."""
        if len(self.proxies) > 1 and self._reference is None:
            rank_zero_info(f"measuring {self.reference_size} random architectures first, to rank among them")
            self._reference = self._measure(self._sample_reference())
        values = self._measure(genes)
        failed = ~values.isfinite().all(-1)
        if self._reference is None:
            scores = values[:, 0]
        else:
            columns = zip(self._reference.unbind(-1), values.unbind(-1), strict=True)
            ranks = torch.stack([rank_among(reference, column) for reference, column in columns])
            scores = ranks.log().mean(0).exp()
        return torch.where(failed, torch.nan, scores).to(genes.device)

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Raw value of each proxy for architectures that have been scored.

        Args:
            genes: int64 ``(n, L)``.

        Returns:
            float64 ``(n,)`` by name; NaN for an architecture that has not been scored.
        """
        blank = [float("nan")] * len(self.proxies)
        rows = [self._measured.get(key, blank) for key in self.space.identity(genes).tolist()]
        values = torch.tensor(rows, dtype=torch.float64, device=genes.device).reshape(len(rows), len(self.proxies))
        return dict(zip(self.proxies, values.unbind(-1), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Scores, the raw values behind them, and the reference sample's."""
        return {
            **super().state_dict(),
            "proxies": list(self.proxies),
            "measured": self._measured,
            "reference": self._reference,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved.

        Raises:
            ValueError: if it was saved with other proxies.
        """
        if tuple(state["proxies"]) != self.proxies:
            raise ValueError(
                f"the saved scores are of {', '.join(state['proxies'])}, this run's of {', '.join(self.proxies)}; "
                "resume with the same proxies or start a new run"
            )
        super().load_state_dict(state)
        self._measured = dict(state["measured"])
        reference = state["reference"]
        self._reference = None if reference is None else reference.cpu()

    def _measure(self, genes: Tensor) -> Tensor:
        """Measure what has not been measured; float64 ``(n, proxies)`` on the CPU."""
        keys, members = self.space.identity(genes).tolist(), representative(self.space, genes).cpu()
        if (values := self._count(members)) is not None:
            self._measured.update(zip(keys, values.tolist(), strict=True))
            return values
        for key, row in zip(keys, members, strict=True):
            if key not in self._measured:
                self._measured[key] = self._measure_one(key, row)
        return torch.tensor([self._measured[key] for key in keys], dtype=torch.float64)

    def _count(self, genes: Tensor) -> Tensor | None:
        """Costs without building networks, float64 ``(n, proxies)``; ``None`` for other proxies, and without a closed form."""
        if not set(self.proxies) <= set(COUNTED):
            return None
        costs = count_in_closed_form(self.space, genes, self.num_classes, self.input_shape, self.network)
        return None if costs is None else costs[:, [COUNTED.index(name) for name in self.proxies]].double()

    def _measure_one(self, key: int, genes: Tensor) -> list[float]:
        """Build one network and measure it; works inside inference mode, where generation runs."""
        seed = architecture_seed(self.seed, key)
        with torch.inference_mode(False), torch.enable_grad():
            network = build_network(self.space, genes, self.num_classes, self.input_shape[0], self.network, seed)
            layout = fast_layout(network)
            network = network.to(self.device).to(memory_format=layout)
            images = self._images if layout is torch.channels_last else self._images.clone(memory_format=layout)
            generator = torch.Generator().manual_seed(seed)
            scores = measure(network, self.proxies, images, self._labels, generator)
        return [scores[name] for name in self.proxies]

    def _sample_reference(self) -> Tensor:
        """Draw the distinct, valid architectures that ranks are taken among, int64 ``(m, L)``."""
        log.info("scoring %d random architectures to rank against", self.reference_size)
        noise, found = Noise([self.seed]), dict[int, Tensor]()
        for _ in range(20):
            drawn = self.space.random(noise, self.reference_size)[0]
            drawn = drawn[self.space.valid(drawn)]
            for key, row in zip(self.space.identity(drawn).tolist(), drawn, strict=True):
                found.setdefault(key, row)
            if len(found) >= self.reference_size:
                return torch.stack(list(found.values())[: self.reference_size])
        raise ValueError(
            f"could not draw {self.reference_size} distinct architectures of {self.space.name} to rank against; "
            "lower reference_size"
        )


def rank_among(reference: Tensor, values: Tensor) -> Tensor:
    """Rank values among a reference sample: its empirical distribution function, interpolated and extrapolated.

    With ``m`` reference values, the ``i``-th smallest (from 1; ties share their mean place) has rank ``i / (m + 1)``;
    between them ranks are linear, and beyond the ends they go to 0 and 1 like ``1 / (1 + distance)``, in units of the
    sample's range over ``m``, so that values better than all of the sample still differ.

    Args:
        reference: ``(m,)``; values that are not finite take the lowest places.
        values: ``(n,)``.

    Returns:
        float64 ``(n,)``, strictly increasing in the value, in (0, 1); 0 at ``-inf``, NaN if a value is NaN.

    Raises:
        ValueError: if no reference value is finite.
    """
    reference, values = reference.double(), values.double()
    finite = reference[reference.isfinite()]
    if len(finite) == 0:
        raise ValueError("no architecture of the reference sample has a finite score; the networks may be too small")
    knots, counts = finite.unique(return_counts=True)  # type: ignore[no-untyped-call]
    size = len(reference)
    counts = counts.double()
    places = (size - len(finite)) + counts.cumsum(0) - (counts - 1) / 2
    ranks = places / (size + 1)
    unit = (knots[-1] - knots[0]) / size
    unit = unit if unit > 0 else knots[-1].abs().clamp_min(1e-12)
    right = torch.searchsorted(knots, values.contiguous()).clamp(1, max(len(knots) - 1, 1))
    left, right = right - 1, right.clamp_max(len(knots) - 1)
    share = (values - knots[left]) / (knots[right] - knots[left]).clamp_min(torch.finfo(torch.float64).tiny)
    inside = ranks[left] + share * (ranks[right] - ranks[left])
    above = 1 - (1 - ranks[-1]) / (1 + (values - knots[-1]) / unit)
    below = ranks[0] / (1 + (knots[0] - values) / unit)
    return torch.where(values > knots[-1], above, torch.where(values < knots[0], below, inside))
