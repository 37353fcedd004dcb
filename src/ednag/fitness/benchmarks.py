"""Benchmark tables as fitness: dense tensors over all architectures of a space, one gather a look-up.

A table of another space is one more loader in :data:`LOADERS`: a function from the arrays of an ``.npz`` file to a
:class:`BenchmarkTable`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ednag.catalogue import locate
from ednag.fitness.base import Fitness
from ednag.spaces import SearchSpace
from ednag.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201

Arrays = dict[str, NDArray[Any]]
"""Arrays of an ``.npz`` file, by name."""


@dataclass(frozen=True)
class BenchmarkTable:
    """Measurements of every architecture of a space, in the order of :meth:`SearchSpace.code`.

    There are ``P`` codes, the product of ``cardinalities``.

    Attributes:
        space: name of the search space.
        cardinalities: number of choices of each gene.
        metrics: float64 ``(P,)`` by name, NaN where unknown. Names are ``dataset/split/epochs`` for accuracies in
            percent (``cifar10/valid/200``) and ``dataset/cost`` for costs (``cifar10/params``). Accuracies and
            whatever else a split measures are higher-is-better, converted by the loader where needed.
        row: official index of each code, int64 ``(P,)``; -1 where the benchmark has no such architecture.
    """

    space: str
    cardinalities: tuple[int, ...]
    metrics: dict[str, Tensor]
    row: Tensor

    @property
    def genes(self) -> Tensor:
        """Genes of every code, int64 ``(P, L)``."""
        return torch.cartesian_prod(*(torch.arange(n) for n in self.cardinalities))

    def metric(self, name: str) -> Tensor:
        """Return one metric, float64 ``(P,)``.

        Raises:
            ValueError: if the table has no such metric, listing what it has.
        """
        if name not in self.metrics:
            raise ValueError(f"the table has no {name!r}; it has {', '.join(sorted(self.metrics))}")
        return self.metrics[name]

    def results(self, dataset: str, split: str, epochs: int) -> str:
        """Name the accuracy of a data set.

        Raises:
            ValueError: if the table lacks the data set, the split or the number of epochs, listing what it has.
        """
        name = f"{dataset}/{split}/{epochs}"
        if name in self.metrics:
            return name
        known: dict[str, list[str]] = {}
        for metric in sorted(self.metrics):
            known.setdefault(metric.split("/")[0], []).append(metric.split("/", 1)[1])
        if dataset in known and not any("/" in rest for rest in known[dataset]):
            problem = f"the table holds no accuracy on {dataset}, only {' and '.join(known[dataset])}"
        else:
            problem = f"the table has no {split} accuracy on {dataset!r} after {epochs} epochs"
        accuracies = {key: [rest for rest in rests if "/" in rest] for key, rests in known.items()}
        listed = "; ".join(f"{key}: {', '.join(rests)}" for key, rests in accuracies.items() if rests)
        raise ValueError(
            f"{problem}. It has (split/epochs) {listed}; `ednag data import` adds what official files hold"
        )

    def best(self, name: str) -> float:
        """Largest known value of a metric."""
        return float(self.metric(name).nan_to_num(-torch.inf).max())

    def best_codes(self, name: str) -> Tensor:
        """Codes of all architectures with the largest value of a metric, int64 ``(k,)``, ascending."""
        return (self.metric(name) == self.best(name)).nonzero().flatten()

    def optimum_keys(self, name: str, space: SearchSpace) -> Tensor:
        """Identities of the best architectures, to count successes with ``torch.isin(space.identity(genes), keys)``.

        Args:
            name: the metric that decides.
            space: the space of this table.

        Returns:
            distinct identities, int64 ``(k,)``.
        """
        keys: Tensor = torch.unique(space.identity(self.genes[self.best_codes(name)]))
        return keys


def load_table(table: str | Path) -> BenchmarkTable:
    """Read a benchmark table.

    Args:
        table: path of an ``.npz`` file, or a name of the catalogue (``nasbench201``).

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if the file is damaged, or its arrays are in no layout that is known here.
    """
    path = locate(table)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)[:100]  # some reasons quote half the file
        raise ValueError(f"{path} is damaged or not a benchmark table (.npz): {reason}") from None
    for layout, (needed, load) in LOADERS.items():
        if needed <= arrays.keys():
            try:
                return load(arrays)
            except ValueError as error:
                raise ValueError(f"{path} is not a complete table of {layout}: {error}") from None
    layouts = "; ".join(f"{layout}: {', '.join(sorted(needed))}" for layout, (needed, _) in LOADERS.items())
    raise ValueError(
        f"{path} holds {', '.join(sorted(arrays)[:6]) or 'nothing'}: the layout of no table known here ({layouts})"
    )


def _load_nasbench201(arrays: Arrays) -> BenchmarkTable:
    """Read NAS-Bench-201 (Dong & Yang 2020): ``ops`` (15625, 6) gives the cell of each row, in any order."""
    ops, names = arrays["ops"], [str(name) for name in arrays["op_names"]]
    if sorted(names) != sorted(OPERATIONS):
        raise ValueError(f"its operations are {', '.join(names)}, expected {', '.join(OPERATIONS)}")
    if "edges" in arrays and arrays["edges"].tolist() != [list(edge) for edge in EDGES]:
        raise ValueError(f"its edges are {arrays['edges'].tolist()}, expected {EDGES}")
    if ops.ndim != 2 or ops.shape[1] != len(EDGES) or ops.min(initial=0) < 0 or ops.max(initial=0) >= len(names):
        raise ValueError(f"ops must be (15625, 6) indices in 0..4, got shape {ops.shape}")
    symbols = np.array([OPERATIONS.index(name) for name in names])
    return dense_table("nasbench201", NASBench201.cardinalities, symbols[ops], arrays, complete=True)


def dense_table(
    space: str, cardinalities: tuple[int, ...], genes: NDArray[Any], arrays: Arrays, complete: bool
) -> BenchmarkTable:
    """Put the rows of a benchmark in the order of codes.

    Args:
        space: name of the search space.
        cardinalities: number of choices of each gene.
        genes: integers ``(rows, L)``, in range.
        arrays: those named ``dataset/...`` become metrics.
        complete: whether every code must have a row.

    Raises:
        ValueError: if an architecture occurs twice, one is missing from a complete table, or a metric is of the
            wrong length.
    """
    codes = np.ravel_multi_index(tuple(genes.T.astype(np.int64)), cardinalities)
    count = np.bincount(codes, minlength=int(np.prod(cardinalities)))
    if count.max() > 1:
        raise ValueError(f"{int((count > 1).sum())} of {len(count)} architectures occur more than once")
    if complete and count.min() == 0:
        raise ValueError(f"{int((count == 0).sum())} of {len(count)} architectures are missing")
    row = np.full(len(count), -1)
    row[codes] = np.arange(len(codes))
    metrics = {}
    for name, values in arrays.items():
        if "/" not in name:
            continue
        if values.shape != codes.shape:
            raise ValueError(f"{name} has shape {values.shape}, expected {codes.shape}")
        dense = np.full(len(count), np.nan)
        dense[codes] = values
        metrics[name] = torch.from_numpy(dense)
    return BenchmarkTable(space, tuple(cardinalities), metrics, torch.from_numpy(row))


LOADERS: dict[str, tuple[frozenset[str], Callable[[Arrays], BenchmarkTable]]] = {
    "nasbench201": (frozenset({"ops", "op_names", "unique_id"}), _load_nasbench201),
}
"""For each layout: the arrays by which it is recognised, and its loader."""


class BenchmarkFitness(Fitness):
    """Score architectures by a benchmark table: no training, one gather for the whole batch.

    An architecture has the value of its own row; isomorphic ones are counted once in ``evaluations``, over all runs.

    Args:
        table: path of an ``.npz`` table, or a name of the catalogue (``nasbench201``).
        dataset: ``cifar10``, ``cifar100`` or another data set of the table.
        epochs: how long the benchmark trained, as far as the table has it (12 or 200 in NAS-Bench-201).
        oracle: which accuracy is the fitness. ``valid`` is the honest choice; ``test`` searches on test accuracy,
            as the released EDNAG program does, and its results must not stand beside honest ones.

    Raises:
        FileNotFoundError: if the table is absent.
        ValueError: if the table is damaged, or lacks the data set or the number of epochs.
    """

    def __init__(
        self,
        table: str | Path = "nasbench201",
        dataset: str = "cifar10",
        epochs: int = 200,
        oracle: Literal["valid", "test"] = "valid",
    ) -> None:
        super().__init__()
        if oracle not in ("valid", "test"):
            raise ValueError(f"oracle must be 'valid' or 'test', got {oracle!r}")
        self.table = load_table(table)
        self.dataset = dataset
        self.metric = self.table.results(dataset, oracle, epochs)
        marked = "valid" if oracle == "valid" else "test (oracle)"
        self.name = f"{self.table.space} {dataset} {marked} accuracy after {epochs} epochs, %"
        self._seen: Tensor | None = None

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
            float64 ``(*B,)``: percent; ``-inf`` where invalid or not in the benchmark.
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
            ``(n,)`` percentages by name: ``cifar10/test/200``, ``cifar10/valid/12``, ...

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
