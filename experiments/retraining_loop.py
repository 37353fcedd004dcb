"""Samples per second of the retraining loop against a bare PyTorch loop, on the same network, images and recipe.

Both train one NAS-Bench-201 network on CIFAR-10 files with the same batches, augmentation, optimizer and schedule. The
bare loop has no framework: it indexes tensors and calls autograd; what both share is the batch preparation. The
retraining loop is what ``ednag retrain`` runs: the classifier and the data module in a Trainer with the progress bar,
the CSV logger and its callbacks. The two alternate in short turns, so that other load on the machine hits both alike;
that leaves no room for an executor.

    python experiments/retraining_loop.py --threads 2
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F

from ednag.data.datasets import CIFAR10, Digits
from ednag.data.module import ImageDataModule
from ednag.retraining.module import ImageClassifier, Recipe
from ednag.retraining.progress import EpochCheckpoint
from ednag.spaces import NASBench201

ROOT = Path(__file__).parents[1] / "data/downloads/cifar10"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT, help="unpacked CIFAR-10; scikit-learn's digits without it")
    parser.add_argument("--genes", type=int, nargs=6, default=[3, 3, 3, 1, 2, 3])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10, help="training steps a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def fresh_network(data: ImageDataModule, options: argparse.Namespace) -> torch.nn.Module:
    torch.manual_seed(0)
    genes = torch.tensor(options.genes)
    size = {"channels": options.channels, "cells": options.cells}
    network = NASBench201().build(genes, data.num_classes, in_channels=data.in_channels, **size)
    return network.to(device(), memory_format=torch.channels_last)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def times() -> tuple[float, float]:
    """Seconds of the clock, and of the processor in this process."""
    return time.perf_counter(), time.process_time()


def speeds(options: argparse.Namespace, started: tuple[float, float]) -> tuple[float, float]:
    """Images a second of the clock, and of the processor, since ``started``."""
    images = options.steps * options.batch_size
    return tuple(images / (now - then) for now, then in zip(times(), started, strict=True))


class BareLoop:
    """The same training, written out."""

    def __init__(self, data: ImageDataModule, options: argparse.Namespace) -> None:
        self.data, self.options = data, options
        self.network = fresh_network(data, options)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        total = options.steps * options.turns
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, total)
        self.generator = torch.Generator().manual_seed(0)

    def turn(self) -> tuple[float, float]:
        """Train for some steps; images a second of the clock, and of the processor."""
        images = self.data.splits.train
        order = torch.randperm(len(images), generator=self.generator)
        started = times()
        for step in range(self.options.steps):
            chosen = order[step * self.options.batch_size : (step + 1) * self.options.batch_size]
            pixels = images.pixels[chosen].permute(0, 3, 1, 2).to(device())
            x, y = self.data.prepare((pixels, images.labels[chosen].to(device())), epoch=0)
            loss = F.cross_entropy(self.network(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        loss.item()
        return speeds(self.options, started)


class TurnClock(pl.Callback):
    """Let the bare loop have its turn between epochs, and time the epochs."""

    def __init__(self, bare: BareLoop, options: argparse.Namespace) -> None:
        self.bare, self.options = bare, options
        self.ours: list[tuple[float, float]] = []
        self.theirs: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the bare loop its turn, then start the clock."""
        self.theirs.append(self.bare.turn())
        self.started = times()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ours.append(speeds(self.options, self.started))


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    size = {"batch_size": options.batch_size}
    data = CIFAR10(options.images, **size) if options.images.is_dir() else Digits(image_size=32, **size)
    data.setup()
    options.steps = min(options.steps, len(data.splits.train) // options.batch_size)
    clock = TurnClock(BareLoop(data, options), options)
    recipe = Recipe(epochs=options.turns)
    classifier = ImageClassifier(fresh_network(data, options), data.num_classes, recipe)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=options.turns,
            limit_train_batches=options.steps,
            limit_val_batches=0,
            logger=CSVLogger(folder),
            callbacks=[clock, EpochCheckpoint(Path(folder), 0)],
            enable_model_summary=False,
        )
        trainer.fit(classifier, datamodule=data)
    pairs = list(zip(clock.ours, clock.theirs, strict=True))[1:]
    for ours, theirs in pairs:
        print(f"retraining loop {ours[0]:7.1f} images/s   bare loop {theirs[0]:7.1f}   ratio {ours[0] / theirs[0]:.3f}")
    ratio, by_processor = (statistics.median(ours[i] / theirs[i] for ours, theirs in pairs) for i in (0, 1))
    print(
        f"median ratio {ratio:.3f} by the clock, {by_processor:.3f} by processor time (which other programs disturb "
        f"less), over {len(pairs)} pairs of turns of {options.steps} steps after one to warm up; "
        f"{type(data).__name__}, batch {options.batch_size}, C={options.channels}, N={options.cells}, "
        f"{options.threads} threads, {device()}"
    )


if __name__ == "__main__":
    main()
