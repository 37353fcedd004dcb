"""Columns of benchmark tables as tasks for a meta predictor: thousands of architectures trained on one data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ednag.benchmarks.dense import load_table
from ednag.core.names import unknown
from ednag.predictor.budgets import TrainingBudget
from ednag.predictor.knowledge import plain
from ednag.predictor.smoothing import class_means, normal_scores
from ednag.spaces.base import SearchSpace, find_space

CAPACITY = 16 * 5
"""Of the networks of NAS-Bench-201: 16 channels after the stem, 5 cells a stage."""

IMAGES = {"cifar10": (25_000, 32, 10), "cifar100": (50_000, 32, 100), "imagenet16-120": (151_700, 16, 120)}
"""Training images behind the validation columns of NAS-Bench-201, their side in pixels, and classes (Dong & Yang 2020, 2.2)."""

BATCH = 256
"""Images a step there."""


@dataclass(frozen=True)
class TableTask:
    """One data set and length of training of a table.

    Attributes:
        dataset: its name.
        genes: one architecture of each isomorphism class, int64 ``(C, L)``.
        accuracy: normal scores of the class means of the validation measure, float32 ``(C,)``.
        budget: of the training.
    """

    dataset: str
    genes: Tensor
    accuracy: Tensor
    budget: TrainingBudget


def read_table_tasks(table: str, left_out: Sequence[str] = ()) -> list[TableTask]:
    """Read the validation columns of a shipped table.

    Args:
        table: ``nasbench201``, whose trainings are known in the numbers of a budget, or one data set of it, such as
            ``nasbench201/cifar100``.
        left_out: data sets that must not teach, if the table is not named with one.

    Raises:
        ValueError: for another table or data set.
    """
    name, _, only = table.partition("/")
    if name != "nasbench201" or (only and only not in IMAGES):
        allowed = ["nasbench201", *(f"nasbench201/{dataset}" for dataset in IMAGES)]
        raise ValueError(unknown("table that teaches a predictor", table, allowed))
    content, space = load_table(name), find_space(name)
    genes, codes, place = classes_of(space, content.genes, content.row)
    names = {plain(dataset) for dataset in left_out}
    found = []
    for metric, values in content.metrics.items():
        dataset, split, *epochs = metric.split("/")
        if split != "valid" or (dataset != only if only else plain(dataset) in names):
            continue
        images, side, classes = IMAGES[dataset]
        budget = TrainingBudget(int(epochs[0]) * -(-images // BATCH), images, side, classes, CAPACITY)
        scores = normal_scores(class_means(values[codes], place)).float()
        found.append(TableTask(dataset, genes, scores, budget))
    return found


def classes_of(space: SearchSpace, genes: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the isomorphism classes of a table.

    Args:
        space: of the table.
        genes: of every code, int64 ``(P, L)``.
        row: official index of each code, -1 if the benchmark lacks it, int64 ``(P,)``.

    Returns:
        the first architecture of each class, ``(C, L)``; the codes that the benchmark has, ``(n,)``; their classes, ``(n,)``.
    """
    codes = (row >= 0).nonzero().flatten()
    keys, place = torch.unique(space.identity(genes[codes]), return_inverse=True)
    first = torch.full((len(keys),), len(codes)).scatter_reduce(0, place, torch.arange(len(codes)), "amin")
    return genes[codes[first]], codes, place
