"""Fitness from benchmark tables, whole or partial, with sealed test metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.benchmarks.dense import load_table
from ednag.benchmarks.nasbench101 import load_nasbench101
from ednag.fitness.base import Fitness, Measured
from ednag.spaces.base import SearchSpace
from ednag.spaces.nasbench101 import NASBench101


class BenchmarkFitness(Fitness):
    """Score architectures by a benchmark table: no training, one gather for the whole batch.

    An architecture has the value of its own row; isomorphic ones are counted once in ``evaluations``, over all runs.

    Args:
        table: path of an ``.npz`` table, or a name of the catalogue (``nasbench201``).
        dataset: ``cifar10``, ``cifar100`` or another data set of the table; a task (``class_object``, ``class_scene``,
            ``room_layout``, ``segmentsemantic``, ...) of TransNAS-Bench-101.
        epochs: how long the benchmark trained, as far as the table has it (12 or 200 in NAS-Bench-201); by default
            the longest. Tables that keep the best epoch only, as TransNAS-Bench-101's do, need none.
        oracle: which split is the fitness. ``valid`` is the honest choice. ``test`` searches on test accuracy, as the
            released EDNAG program does on NAS-Bench-201, and ``train`` on a training measure, as the EDNAG paper does
            on room layout; their results must not stand beside honest ones.

    Raises:
        FileNotFoundError: if the table is absent.
        ValueError: if the table is damaged, or lacks the data set or the number of epochs.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> fitness = BenchmarkFitness("nasbench201", "cifar10", epochs=200)
        >>> fitness.setup(NASBench201())
        >>> fitness.score(torch.tensor([[3] * 6]))
        tensor([90.1987], dtype=torch.float64)
        >>> fitness.name
        'nasbench201 cifar10 valid accuracy after 200 epochs, %'
    """

    def __init__(
        self,
        table: str | Path = "nasbench201",
        dataset: str = "cifar10",
        epochs: int | None = None,
        oracle: Literal["valid", "test", "train"] = "valid",
    ) -> None:
        super().__init__()
        if oracle not in ("valid", "test", "train"):
            raise ValueError(f"oracle must be 'valid', 'test' or 'train', got {oracle!r}")
        self.table = load_table(table)
        self.metric = self.table.results(dataset, oracle, epochs)
        self.dataset = self.metric.split("/")[0]
        self.name = self._title(oracle)
        self._seen: Tensor | None = None

    def _title(self, oracle: str) -> str:
        """Say what the scores are: ``nasbench201 cifar10 valid accuracy after 200 epochs, %``."""
        measure, *unit = self.table.measures.get(self.dataset, "accuracy, %").split(",")
        length = self.metric.rsplit("/", 1)[1]
        when = "at its best epoch" if length == "best" else f"after {length} epochs"
        marked = oracle if oracle == "valid" else f"{oracle} (oracle)"
        return ",".join([f"{self.table.space} {self.dataset} {marked} {measure} {when}", *unit])

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Put the table on the device; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if the table is of another space.
        """
        super().setup(space, data, device)
        if space.name != self.table.space or tuple(space.cardinalities) != self.table.cardinalities:
            raise ValueError(
                f"the benchmark table is of {self.table.space}, the search space is {space.name}; "
                "name a table of that space, or search the space of the table"
            )
        values = self.table.metric(self.metric)
        values = torch.where(values.isfinite(), values, -torch.inf)
        classes = torch.unique(space.identity(self.table.genes), return_inverse=True)[1]
        # one place more than there are codes (classes): where invalid architectures are sent
        self._values = torch.cat([values, values.new_tensor([-torch.inf])]).to(self.device)
        self._class = torch.cat([classes, classes.max()[None] + 1]).to(self.device)
        fresh = torch.zeros(int(classes.max()) + 2, dtype=torch.bool)
        if self._seen is not None and self._seen.shape != fresh.shape:
            raise ValueError("the saved counts are of another benchmark table; resume with the table of that run")
        self._seen = (fresh if self._seen is None else self._seen).to(self.device)

    def score(self, genes: Tensor) -> Tensor:
        """Look values up without counting; see :meth:`Fitness.score`."""
        return self._values[self.space.code(genes)]

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score a batch of architectures with one gather, and count them.

        Args:
            genes: int64 ``(*B, L)``, in range where valid.
            valid: bool ``(*B,)``.

        Returns:
            float64 ``(*B,)``: percent, or what else the table measures; ``-inf`` if invalid or not in the benchmark.
        """
        if self._seen is None:
            raise RuntimeError("call setup(space) before scoring")
        code = self.space.code(genes).where(valid, self._values.shape[0] - 1).flatten()
        self._seen = self._seen.index_fill(0, self._class.index_select(0, code), True)
        self.lookups += int(valid.sum())
        self.evaluations = int(self._seen[:-1].sum())
        return self._values.index_select(0, code).view(valid.shape)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up every accuracy on the data set, test included; see :meth:`Fitness.reveal`.

        Returns:
            ``(n,)`` values by name: ``cifar10/test/200``, ``cifar10/valid/12``, ``class_object/test/best``, ...

        Raises:
            RuntimeError: if generation is under way.
            ValueError: if a gene is out of range.
        """
        super().reveal(genes)
        code = self.space.code(self.space.check(genes)).cpu()
        return {name: self.table.metrics[name][code] for name in self._accuracies()}

    def measured(self) -> Measured:
        """Return every accuracy on the data set; see :meth:`Fitness.measured`."""
        values = {name: self.table.metrics[name] for name in self._accuracies()}
        return Measured(self.dataset, self.table.space, values)

    def _accuracies(self) -> list[str]:
        """Names of what the table measured on the data set, costs apart."""
        return [n for n in sorted(self.table.metrics) if n.startswith(f"{self.dataset}/") and n.count("/") == 2]

    @property
    def optimum(self) -> float:
        """Largest fitness in the table: regret is what a run's best lacks of it."""
        return self.table.best(self.metric)

    def optimum_keys(self) -> Tensor:
        """Identities of the architectures with the largest fitness, int64 ``(k,)``; needs :meth:`setup`."""
        return self.table.optimum_keys(self.metric, self.space)

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, and which classes were evaluated."""
        seen = None if self._seen is None else self._seen.cpu()
        return {"seen": seen, "lookups": self.lookups, "evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved, before or after :meth:`setup`.

        Raises:
            ValueError: if the counts are of another table.
        """
        seen: Tensor | None = state["seen"]
        if self._seen is not None:
            seen = torch.zeros_like(self._seen) if seen is None else seen.to(self._seen.device)
            if seen.shape != self._seen.shape:
                raise ValueError("the saved counts are of another benchmark table; resume with the table of that run")
        self._seen = seen
        self.lookups, self.evaluations = state["lookups"], state["evaluations"]


class PartialTableFitness(Fitness):
    """Score architectures by a table that may lack most of the space.

    An architecture that the table lacks is unknown: its fitness is ``-inf``, below every known one, so that it is never
    reported; it counts as an evaluation, and in :attr:`unknown`. Samplers are told (:attr:`Fitness.partial`) that this says
    nothing about its neighbours.

    Args:
        keys: identities of the architectures in the table, int64 ``(rows,)``, ascending and distinct.
        metrics: float64 ``(rows,)`` by name, NaN if not measured; ``dataset/split/epochs`` for accuracies.
        metric: the name of the one that is the fitness.

    Attributes:
        unknown: distinct architectures asked for that the table lacks.
    """

    partial = True

    def __init__(self, keys: Tensor, metrics: Mapping[str, Tensor], metric: str) -> None:
        super().__init__()
        self.metrics, self.metric = dict(metrics), metric
        self.unknown = 0
        self._keys = keys

    @property
    def revealed(self) -> list[str]:
        """Names of the metrics that :meth:`reveal` looks up: all accuracies."""
        return [name for name in sorted(self.metrics) if name.count("/") == 2]

    def score(self, genes: Tensor) -> Tensor:
        """Look values up, ``-inf`` if unknown; see :meth:`Fitness.score`."""
        values = self._look_up(genes, self.metric)
        self.unknown += int(values.isnan().sum())
        return values.nan_to_num(nan=-torch.inf).to(genes.device)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up every accuracy, test included where the table has it; see :meth:`Fitness.reveal`.

        Returns:
            ``(n,)`` percentages by name (``cifar10/test/108``), NaN if unknown.

        Raises:
            RuntimeError: if generation is under way.
        """
        super().reveal(genes)
        return {name: self._look_up(genes, name) for name in self.revealed}

    @property
    def optimum(self) -> float:
        """Largest fitness in the table: regret is what a run's best lacks of it."""
        return float(self.metrics[self.metric].nan_to_num(-torch.inf).max())

    def optimum_keys(self) -> Tensor:
        """Identities of the architectures with the largest fitness, int64 ``(k,)``."""
        return self._keys[self.metrics[self.metric] == self.optimum]

    def state_dict(self) -> dict[str, Any]:
        """Scores and counts so far; see :meth:`Fitness.state_dict`."""
        return {**super().state_dict(), "unknown": self.unknown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        super().load_state_dict(state)
        self.unknown = state["unknown"]

    def _look_up(self, genes: Tensor, name: str) -> Tensor:
        """Values of a metric, float64 ``(n,)`` on the CPU; NaN if unknown."""
        keys = self.space.identity(genes).cpu()
        place = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return self.metrics[name][place].where(self._keys[place] == keys, torch.nan)


class NASBench101Fitness(PartialTableFitness):
    """Score NAS-Bench-101 cells by a table that may hold a part of the space only; see :class:`PartialTableFitness`.

    Args:
        table: path of an ``.npz`` table, or its name in the catalogue.
        epochs: how long the benchmark trained: 4, 12, 36 or 108, as far as the table has it.
        oracle: which accuracy is the fitness. ``valid`` is the honest choice; ``test`` searches on test accuracy, and
            its results must not stand beside honest ones.

    Attributes:
        known_cells: number of cells in the table.

    Raises:
        FileNotFoundError: if the table is absent.
        ValueError: if the table is damaged or of another benchmark, or lacks the number of epochs.

    Examples:
        >>> fitness = NASBench101Fitness(epochs=108)
        >>> fitness.setup(NASBench101())
        >>> fitness.known_cells > 30_000  # a sample of 423,624 ships with the package
        True
    """

    def __init__(
        self, table: str | Path = "nasbench101", epochs: int = 108, oracle: Literal["valid", "test"] = "valid"
    ) -> None:
        if oracle not in ("valid", "test"):
            raise ValueError(f"oracle must be 'valid' or 'test', got {oracle!r}")
        file, keys, metrics = load_nasbench101(table)
        metric = f"cifar10/{oracle}/{epochs}"
        if metric not in metrics:
            have = ", ".join(name for name in metrics if name.count("/") == 2)
            raise ValueError(f"the table has no {oracle} accuracy after {epochs} epochs; it has {have}")
        super().__init__(keys, metrics, metric)
        self.file = file
        marked = "valid" if oracle == "valid" else "test (oracle)"
        self.name = f"nasbench101 cifar10 {marked} accuracy after {epochs} epochs, %"
        self.known_cells = len(keys)

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Prepare for scoring; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if the space is not NAS-Bench-101.
        """
        super().setup(space, data, device)
        if space.name != NASBench101.name:
            raise ValueError(f"the benchmark table is of nasbench101, the search space is {space.name}")
