"""What is chosen without training for image sets that nobody searched, trained for real beside random cells.

    python experiments/unseen.py --images waste=photos/waste signs=data/downloads/small/sign_digits_32.npz

For each set, a folder of one folder a class or an archive, four ways choose a cell of NAS-Bench-201 for the training that
follows: the tables of other data sets; those with the shipped predictor, told of the training (what `ednag generate` does if no
fitness is named); the predictor alone; and the most parameters. The choices and uniform cells are trained by `ednag
retrain`'s code, once for each seed, a cell that several chose once. Prints the percentile of each choice among the random
cells (the share that is worse, ties counted half), and its difference to their mean in points; then over all sets and seeds
the mean difference, with the p-value of Wilcoxon's signed-rank test, paired. A killed call goes on; `--executor` trains
several cells at a time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from ednag.core.noise import Noise
from ednag.data import ImageFolder, NumpyImages
from ednag.fitness import Fitness, KnowledgeFitness, MetaFitness, ZeroCostFitness
from ednag.generation.report import Candidate, Report
from ednag.predictor.budgets import PlannedTraining
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings
from executors import chosen as chosen_executor

SPACE = NASBench201()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, metavar="NAME=PATH")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/unseen"))
    parser.add_argument("--executor", default="in_process", choices=["in_process", "processes", "ray"])
    parser.add_argument("--workers", type=int, default=2, help="of the executor")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def images(path: Path, options: argparse.Namespace) -> pl.LightningDataModule:
    """Read a set: reduced, shifted and mirrored as the recipe has it."""
    if path.is_dir():
        return ImageFolder(path, image_size=options.image_size, batch_size=options.batch_size)
    return NumpyImages(path, image_size=options.image_size, batch_size=options.batch_size)


def choices(data: pl.LightningDataModule, options: argparse.Namespace) -> dict[str, Tensor]:
    """The first choice of each way, genes ``(L,)``, the first of equals."""
    planned = PlannedTraining(options.epochs, options.channels, options.cells)
    ways: dict[str, Fitness] = {
        "tables": KnowledgeFitness(),
        "tables and predictor": KnowledgeFitness(budget=planned),
        "predictor": MetaFitness(budget=planned),
        "most parameters": ZeroCostFitness(["params"]),
    }
    genes = gene_strings(SPACE.cardinalities)
    genes = genes[SPACE.valid(genes)]
    found = {}
    for name, fitness in ways.items():
        fitness.setup(SPACE, data)
        found[name] = genes[fitness(genes, torch.ones(len(genes), dtype=torch.bool)).argmax()]
    return found


def accuracies(
    name: str, data: pl.LightningDataModule, cells: list[Tensor], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Test accuracy after training, percent, a value for each seed, by cell; one that failed has 0."""
    distinct = {SPACE.describe(genes): genes for genes in cells}
    place = {"class_path": "ednag.spaces.NASBench201", "init_args": {}}
    report = Report(place, "a choice", [Candidate(text, genes.tolist(), 0.0) for text, genes in distinct.items()])
    network: dict[str, Any] = {"channels": options.channels, "cells": options.cells}
    found: dict[str, list[float]] = {text: [] for text in distinct}
    for seed in range(options.seeds):
        folder = options.folder / name / str(seed)
        where = chosen_executor(options.executor, options.workers)
        recipe = Recipe(options.epochs)
        summary = retrain(report, SPACE, data, recipe, folder, network=network, seed=seed, executor=where)
        for result in summary.results:
            found[result.architecture].append(float((result.test or {"top1": 0.0})["top1"]))
    return found


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    apart: dict[str, list[float]] = {}
    for place in options.images:
        name, path = place.split("=", 1)
        data = images(Path(path), options)
        chosen = choices(data, options)
        uniform = list(SPACE.random(Noise([0]), options.random)[0])
        found = accuracies(name, data, [*chosen.values(), *uniform], options)
        others = torch.tensor([found[SPACE.describe(genes)] for genes in uniform])
        print(
            f"{name}: random cells {others.mean():.2f} ± {others.mean(1).std():.2f} %, best {others.mean(1).max():.2f}"
        )
        for way, genes in chosen.items():
            mine = torch.tensor(found[SPACE.describe(genes)])
            share = ((others < mine).double() + (others == mine).double() / 2).mean()
            apart.setdefault(way, []).extend((mine - others.mean(0)).tolist())
            print(f"  {way}: {mine.mean():.2f} %, percentile {100 * share:.0f} ({SPACE.describe(genes)})", flush=True)
    print("over all sets and seeds, above the mean of random cells, and above the cell of most parameters:")
    largest = torch.tensor(apart["most parameters"])
    for way, values in apart.items():
        over = torch.tensor(values)
        line = f"  {way}: {over.mean():+.2f} points (p = {wilcoxon(over).pvalue:.3f})"
        if way != "most parameters":
            beside = over - largest
            p = wilcoxon(beside).pvalue if beside.abs().max() > 0 else 1.0
            line += f", {beside.mean():+.2f} (p = {p:.3f})"
        print(line)


if __name__ == "__main__":
    main()
