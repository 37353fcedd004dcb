"""Rows of accuracies, task by task, as a predictor's training reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ednag.core.reading import read_npz, reading
from ednag.predictor.table_tasks import TableTask
from ednag.spaces.base import find_space


class TaskBatch(NamedTuple):
    """Tasks with all their rows, padded to the longest.

    Attributes:
        features: of the images of each class, ``(T, K, m, F)``.
        present: which classes a task has, bool ``(T, K)``; none if there are no images of it.
        budget: of its trainings, see :meth:`~ednag.predictor.budgets.TrainingBudget.encode`, ``(T, 5)``.
        genes: architectures, int64 ``(T, N, L)``.
        accuracy: percent, float32 ``(T, N)``.
        measured: which rows a task has, bool ``(T, N)``.
        row: number of each row in the meta data, int64 ``(T, N)``.
    """

    features: Tensor
    present: Tensor
    budget: Tensor
    genes: Tensor
    accuracy: Tensor
    measured: Tensor
    row: Tensor


@dataclass(frozen=True)
class Rows:
    """Trained architectures.

    Attributes:
        genes: int64 ``(n, L)``.
        task: index into the list of tasks, int64 ``(n,)``.
        accuracy: percent, float32 ``(n,)``.
        space: short name of the search space.
        budget: what the file says of their trainings.
    """

    genes: Tensor
    task: Tensor
    accuracy: Tensor
    space: str
    budget: Mapping[str, Any] = field(default_factory=dict)


def read_rows(path: Path, target: Literal["mean", "valid", "test"] = "mean") -> Rows:
    """Read the rows that ``ednag collect`` wrote, without those whose training failed.

    Args:
        path: the ``.npz``.
        target: which accuracy to learn; the mean of both has the least noise.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no meta data at {path}; make them with `ednag collect`")
    kind, remedy = "rows of meta data", "`ednag collect` writes them"
    content = read_npz(Path(path), kind, remedy)
    with reading(path, kind, remedy):
        genes, task = torch.from_numpy(content["genes"]).long(), torch.from_numpy(content["task"]).long()
        valid, test = (torch.from_numpy(content[name]).float() for name in ("valid", "test"))
        space = str(content["space"])
        budget = dict(json.loads(str(content["budget"]))) if "budget" in content else {}
        if genes.ndim != 2 or not task.shape == valid.shape == test.shape == genes.shape[:1]:
            raise ValueError("its arrays have different lengths")
        if {content[name].dtype.kind for name in ("genes", "task")} - {"i", "u"} or bool(
            (task < 0).any() or (genes < 0).any()
        ):
            raise ValueError("genes and task must be whole numbers, 0 or more")
        if bool(((valid < 0) | (valid > 100) | (test < 0) | (test > 100)).any()):
            raise ValueError("accuracies must be percent, or NaN where a training failed")
        _check_genes(genes, space)
    accuracy = {"mean": (valid + test) / 2, "valid": valid, "test": test}[target]
    kept = accuracy.isfinite()
    return Rows(genes[kept], task[kept], accuracy[kept], space, budget)


def _check_genes(genes: Tensor, space: str) -> None:
    """Refuse genes that a space of this package doesn't have; of others nothing is known.

    Raises:
        ValueError: then.
    """
    try:
        choices = torch.tensor(find_space(space).cardinalities)
    except ValueError:
        return
    if genes.shape[1] != len(choices) or bool((genes >= choices).any()):
        raise ValueError(f"its genes are not of {space}")


class TaskRows(Dataset[int]):
    """Some of the tasks; a batch is made of all rows of each.

    Args:
        rows: all rows.
        features: of each task, ``(K, m, F)``, by its index.
        chosen: indices of the tasks.
        budgets: of each task, encoded, by its index.
        tables: columns of benchmark tables, added to each batch.
        table_rows: architectures of each of them in a batch, drawn anew.
    """

    def __init__(
        self,
        rows: Rows,
        features: dict[int, Tensor],
        chosen: Sequence[int],
        budgets: Mapping[int, Tensor],
        tables: Sequence[TableTask] = (),
        table_rows: int = 128,
    ) -> None:
        self.rows, self.features, self.chosen, self.budgets = rows, features, list(chosen), budgets
        self.tables, self.table_rows = list(tables), table_rows
        self.members = {task: (rows.task == task).nonzero().flatten() for task in self.chosen}

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> int:
        return self.chosen[index]

    def collate(self, tasks: Sequence[int]) -> TaskBatch:
        """Pad tasks, given by their indices, and some rows of each table into one batch."""
        rows, drawn = self.rows, [torch.randint(len(one.accuracy), (self.table_rows,)) for one in self.tables]
        members, offset = [self.members[task] for task in tasks], len(rows.task)
        genes = [rows.genes[index] for index in members]
        accuracy = [rows.accuracy[index] for index in members]
        for table, index in zip(self.tables, drawn, strict=True):
            genes.append(table.genes[index])
            accuracy.append(table.accuracy[index])
            members.append(offset + index)
            offset += len(table.accuracy)
        features = [self.features[task] for task in tasks]
        classes = max(1, *map(len, features))
        shown = torch.zeros(len(members), classes, *features[0].shape[1:])
        present = torch.zeros(len(members), classes, dtype=torch.bool)
        for i, some in enumerate(features):
            shown[i, : len(some)], present[i, : len(some)] = some, True
        budget = torch.stack([*(self.budgets[task] for task in tasks), *(one.budget.encode() for one in self.tables)])
        measured = padded([torch.ones_like(index, dtype=torch.bool) for index in members])
        return TaskBatch(shown, present, budget, padded(genes), padded(accuracy), measured, padded(members))


def padded(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors ``(n_i, ...)`` with zeros up to the longest, ``(T, N, ...)``."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
