"""What the meta predictor picks for a data set it never saw, trained for real beside random cells.

    python experiments/unseen.py --images data/downloads/small/sign_digits_32.npz

The shipped predictor looks at the training images (here photographs of ten signs of the hand, one of the sources held out
of its training) and `default` generates by its scores, 500 evaluations and no training. Its best cells, and 20 uniform
ones, are then trained by `ednag retrain`'s code with the same recipe, once for each seed. Prints the test accuracies, and
the percentile of each generated cell: the share of random cells that are worse, ties counted half.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from ednag.core.noise import Noise
from ednag.data.arrays import NumpyImages
from ednag.fitness import MetaFitness
from ednag.generation.report import Candidate, Report
from ednag.generation.run import Generation
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import NASBench201

SPACE = NASBench201()


def generated(data: NumpyImages, folder: Path, top: int) -> Report:
    """What the predictor finds for these images."""
    begun = time.perf_counter()
    generation = Generation(SPACE, MetaFitness(), ArchiveDiffusion(), evaluations=500, top_k=top)
    generation.setup(data, "cpu")
    with torch.inference_mode():
        report = generation.report(generation.run(folder))
    print(f"generated in {time.perf_counter() - begun:.1f} s")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("data/downloads/small/sign_digits_32.npz"))
    parser.add_argument("--image_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/unseen"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = NumpyImages(options.images, image_size=options.image_size, batch_size=64)
    report = generated(data, options.folder, options.top)
    uniform = SPACE.random(Noise([0]), options.random)[0]
    found = [Candidate(SPACE.describe(genes), genes.tolist(), 0.0) for genes in uniform]
    everyone = Report(report.space, report.fitness, [*report.candidates, *found], report.counts)
    network: dict[str, Any] = {"channels": options.channels, "cells": options.cells}
    runs = [
        retrain(
            everyone, SPACE, data, Recipe(epochs=options.epochs), options.folder / str(seed), None, None, network, seed
        )
        for seed in range(options.seeds)
    ]
    accuracy = torch.tensor([[(result.test or {"top1": 0.0})["top1"] for result in run.results] for run in runs]).mean(
        0
    )
    mine, others = accuracy[: options.top], accuracy[options.top :]
    print(f"random cells: {others.mean():.2f} ± {others.std():.2f} %, best {others.max():.2f} %")
    for candidate, value in zip(report.candidates, mine.tolist(), strict=True):
        share = float((others < value).double().mean() + (others == value).double().mean() / 2)
        print(f"{candidate.architecture}: {value:.2f} %, percentile {100 * share:.0f}")


if __name__ == "__main__":
    main()
