"""Benchmark tables as fitness: dense tensors over all architectures of a space, one gather a look-up.

How files become tables is in :mod:`ednag.fitness.layouts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.fitness.base import Fitness
from ednag.fitness.layouts import LOADERS, Arrays, BenchmarkTable, dense_table, load_table
from ednag.spaces import SearchSpace

__all__ = ["LOADERS", "Arrays", "BenchmarkFitness", "BenchmarkTable", "dense_table", "load_table"]


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
        self.dataset = dataset
        self.metric = self.table.results(dataset, oracle, epochs)
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
            float64 ``(*B,)``: percent, or what else the table measures; ``-inf`` where invalid or not in the benchmark.
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
        names = [name for name in sorted(self.table.metrics) if name.startswith(f"{self.dataset}/")]
        return {name: self.table.metrics[name][code] for name in names if name.count("/") == 2}

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
