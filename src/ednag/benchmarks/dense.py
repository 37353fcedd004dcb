"""Layouts of benchmark tables: ``.npz`` files turned into dense tensors over all architectures of a space.

A table of another space is one more loader in :data:`LOADERS`: a function from the arrays of an ``.npz`` file to a
:class:`BenchmarkTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ednag.benchmarks.arrays import Arrays, open_table
from ednag.benchmarks.layouts import recognise
from ednag.benchmarks.spelling import MEASURES, TASKS, dataset_name, rename_columns
from ednag.core.inputs import InputFile
from ednag.core.names import did_you_mean
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings
from ednag.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201
from ednag.spaces.transnas101 import TransNAS101Macro, TransNAS101Micro
from ednag.spaces.transnas101_cells import OPERATIONS as MICRO_OPERATIONS


@dataclass(frozen=True)
class BenchmarkTable:
    """Measurements of every architecture of a space, in the order of :meth:`SearchSpace.code`.

    There are ``P`` codes, the product of ``cardinalities``.

    Attributes:
        space: name of the search space.
        cardinalities: number of choices of each gene.
        metrics: float64 ``(P,)`` by name, NaN if unknown. Names are ``dataset/split/epochs`` for accuracies in
            percent (``cifar10/valid/200``; ``best`` instead of the epochs means the best epoch) and ``dataset/cost``
            for costs (``cifar10/params``). Accuracies and whatever else a split measures are higher-is-better,
            converted by the loader where needed.
        row: official index of each code, int64 ``(P,)``; -1 if the benchmark has no such architecture.
        measures: what is measured on a data set, with its unit, where it is not ``accuracy, %``.
        file: where it was read from; ``None`` for a table that was made in memory.
    """

    space: str
    cardinalities: tuple[int, ...]
    metrics: dict[str, Tensor]
    row: Tensor
    measures: Mapping[str, str] = field(default_factory=dict)
    file: InputFile | None = None

    @property
    def genes(self) -> Tensor:
        """Genes of every code, int64 ``(P, L)``."""
        return gene_strings(self.cardinalities)

    def metric(self, name: str) -> Tensor:
        """Return one metric, float64 ``(P,)``.

        Raises:
            ValueError: if the table has no such metric, listing what it has.
        """
        if name not in self.metrics:
            raise ValueError(
                f"the table has no {name!r}{did_you_mean(name, self.metrics)}; it has {', '.join(sorted(self.metrics))}"
            )
        return self.metrics[name]

    def results(self, dataset: str, split: str, epochs: int | None = None) -> str:
        """Name the accuracy (or other measure) of a data set.

        Args:
            dataset: data set, or task, in this project's spelling or the benchmark's.
            split: ``valid``, ``test`` or ``train``.
            epochs: how long the benchmark trained; ``None`` for the longest, or the best epoch if that is kept.

        Raises:
            ValueError: if the table lacks the data set, the split or the number of epochs, listing what it has.
        """
        dataset = dataset_name(dataset)
        if (dataset, split) == ("cifar10-valid", "valid"):
            dataset = "cifar10"  # what NATS-Bench calls the networks whose validation accuracy that is, see NATS
        lengths = [name.rsplit("/", 1)[1] for name in self.metrics if name.startswith(f"{dataset}/{split}/")]
        if epochs is None and lengths:
            return f"{dataset}/{split}/{max(lengths, key=lambda n: (n == 'best', int(n) if n.isdecimal() else 0))}"
        if str(epochs) in lengths:
            return f"{dataset}/{split}/{epochs}"
        place = f"the table {self.file.path}" if self.file else "the table"
        known: dict[str, list[str]] = {}
        for metric in sorted(self.metrics):
            known.setdefault(metric.split("/")[0], []).append(metric.split("/", 1)[1])
        if dataset in known and not any("/" in rest for rest in known[dataset]):
            problem = f"{place} holds no accuracy on {dataset}, only {' and '.join(known[dataset])}"
        else:
            after = f" after {epochs} epochs" if epochs is not None else ""
            near = "" if dataset in known else did_you_mean(dataset, known)
            problem = f"{place} has no {split} accuracy on {dataset!r}{near}{after}"
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
    file, arrays = open_table(table)
    layout = recognise(file.path, arrays, LOADERS)
    try:
        return replace(LOADERS[layout](rename_columns(arrays)), file=file)
    except ValueError as error:
        raise ValueError(f"{file.path} is not a complete table of {layout}: {error}") from None


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


def _load_transnas_micro(arrays: Arrays) -> BenchmarkTable:
    """Read TransNAS-Bench-101's cells (Duan et al. 2021): ``genes`` (4096, 6) gives the cell of each row."""
    names = [str(name) for name in arrays["op_names"]]
    if sorted(names) != sorted(MICRO_OPERATIONS):
        raise ValueError(f"its operations are {', '.join(names)}, expected {', '.join(MICRO_OPERATIONS)}")
    genes = _check_genes(arrays, 0, len(names) - 1)
    symbols = np.array([MICRO_OPERATIONS.index(name) for name in names])
    metrics, measures = _transnas_metrics(arrays)
    table = dense_table("transnas101_micro", TransNAS101Micro.cardinalities, symbols[genes], metrics, complete=True)
    return replace(table, measures=measures)


def _load_transnas_macro(arrays: Arrays) -> BenchmarkTable:
    """Read TransNAS-Bench-101's skeletons: ``genes`` (3256, 6) gives the types of modules 1..4, 0 if absent."""
    space = TransNAS101Macro()
    genes = torch.from_numpy(_check_genes(arrays, 0, 4)) - space.modules(torch.zeros(6, dtype=torch.int64))
    valid = space.valid(genes)
    if not valid.all():
        first = arrays["genes"][int((~valid).nonzero()[0])].tolist()
        raise ValueError(f"{int((~valid).sum())} rows are no skeletons of the benchmark, the first is {first}")
    metrics, measures = _transnas_metrics(arrays)
    table = dense_table("transnas101_macro", space.cardinalities, genes.numpy(), metrics, complete=False)
    missing = int((space.valid(table.genes) & (table.row < 0)).sum())
    if missing:
        raise ValueError(f"{missing} of {missing + len(genes)} skeletons are missing")
    return replace(table, measures=measures)


def _check_genes(arrays: Arrays, low: int, high: int) -> NDArray[np.int64]:
    """Return ``genes`` if they are ``(rows, 6)`` integers in a range."""
    genes = arrays["genes"]
    if genes.ndim != 2 or genes.shape[1] != 6 or genes.dtype.kind not in "iu":
        raise ValueError(f"genes must be (architectures, 6) integers, got {genes.shape} of {genes.dtype}")
    if genes.min(initial=low) < low or genes.max(initial=high) > high:
        raise ValueError(f"genes must be in {low}..{high}, got {genes.min()}..{genes.max()}")
    return genes.astype(np.int64)


def _transnas_metrics(arrays: Arrays) -> tuple[Arrays, dict[str, str]]:
    """Name the measures of each task ``task/split/best`` (they are bests over epochs), all of them higher is better."""
    metrics: Arrays = {}
    measures: dict[str, str] = {}
    for name, values in arrays.items():
        task, *rest = name.split("/")
        if task in TASKS and rest == ["train_seconds"]:
            metrics[name] = values
        elif task in TASKS and len(rest) == 2 and rest[1] == TASKS[task]:
            metrics[f"{task}/{rest[0]}/best"] = values
            measures[task] = MEASURES[rest[1]]
    if not measures:
        expected = ", ".join(f"{task}/valid/{measure}" for task, measure in TASKS.items())
        raise ValueError(f"it holds no measure of a task; expected some of {expected}")
    return metrics, measures


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


LOADERS: dict[str, Callable[[Arrays], BenchmarkTable]] = {
    "nasbench201": _load_nasbench201,
    "transnas101_micro": _load_transnas_micro,
    "transnas101_macro": _load_transnas_macro,
}
"""The loader of each layout that covers a whole space."""
