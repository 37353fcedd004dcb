"""Train one full NAS-Bench-201 network on CIFAR-10 images and compare it with the published table.

The cell with the best validation accuracy after 12 epochs (or the first cell of a report) is trained with the
benchmark's 12-epoch recipe (C = 16, N = 5), and its test accuracy is printed beside the table's 12-epoch test value.
Killed, it continues after the last finished epoch when it is started again with the same arguments.

    python experiments/check_world.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tarfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger

from ednag.benchmarks.locate import SHIPPED
from ednag.core.storage import write_json
from ednag.data.datasets import CIFAR10
from ednag.generation.report import Candidate, Report
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.results import Result
from ednag.spaces import NASBench201
from ednag.spaces.nasbench201 import OPERATIONS

HERE = Path(__file__).parents[1]


class EpochLines(pl.Callback):
    """Print a line after each epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print it."""
        seconds = time.perf_counter() - self.started
        seen = {name: round(float(value), 3) for name, value in trainer.callback_metrics.items()}
        images = trainer.num_training_batches * trainer.train_dataloader.batch_size
        print(
            f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}  train/loss {seen['train/loss']:.3f}  "
            f"val/top1 {seen['val/top1']:.2f} %  {seconds:.0f} s  {images / seconds:.0f} images/s with validation",
            flush=True,
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="report of `ednag generate`; the table's best cell without one")
    parser.add_argument("--table", type=Path, default=SHIPPED / "nasbench201.npz")
    parser.add_argument(
        "--archive", type=Path, help="of train/<class>/* and test/<class>/*; what --images holds if omitted"
    )
    parser.add_argument("--images", type=Path, default=HERE / "data/downloads/cifar10", help="where it is unpacked")
    parser.add_argument("--run", type=Path, default=HERE / "runs/check_world")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--val_fraction", type=float, default=0.02, help="share of the 50,000 images not trained on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit_batches", type=float, default=1.0, help="share of each epoch, to try the script out")
    return parser.parse_args()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the images once, whole or not at all."""
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    with tarfile.open(archive) as tar:
        tar.extractall(part, filter="data")
    part.rename(folder)


def table_values(path: Path, epochs: int) -> tuple[dict[tuple[int, ...], int], np.ndarray, np.ndarray]:
    """Row of each cell, and CIFAR-10 validation and test accuracy (percent) after so many epochs."""
    with np.load(path, allow_pickle=False) as table:
        symbols = np.array([OPERATIONS.index(str(name)) for name in table["op_names"]])
        rows = {tuple(genes): row for row, genes in enumerate(symbols[table["ops"]].tolist())}
        return rows, table[f"cifar10/valid/{epochs}"], table[f"cifar10/test/{epochs}"]


def best_cell(rows: dict[tuple[int, ...], int], valid: np.ndarray) -> Report:
    """Report of the cell that validation picks."""
    genes = next(genes for genes, row in rows.items() if row == int(valid.argmax()))
    text = NASBench201().describe(torch.tensor(genes))
    space = {"class_path": "ednag.spaces.NASBench201", "init_args": {}}
    return Report(space, "cifar10/valid/12", [Candidate(text, list(genes), float(valid.max()))])


def train(report: Report, options: argparse.Namespace) -> Result:
    """Retrain the report's first architecture."""

    def make_trainer(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        return pl.Trainer(
            accelerator="cpu" if not torch.cuda.is_available() else "auto",
            max_epochs=max_epochs,
            callbacks=[*callbacks, EpochLines()],
            logger=CSVLogger(folder, name="logs"),
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_train_batches=options.limit_batches,
        )

    data = CIFAR10(options.images, val_fraction=options.val_fraction, seed=options.seed)
    recipe = Recipe(epochs=options.epochs, schedule_every="epoch", channels_last=True)
    network = {"channels": 16, "cells": 5}
    return retrain(
        report, NASBench201(), data, recipe, options.run, make_trainer, 1, network=network, seed=options.seed
    ).results[0]


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if options.archive:
        unpack(options.archive, options.images)
    rows, valid, test = table_values(options.table, 12)
    report = Report.load(options.report) if options.report else best_cell(rows, valid)
    first = report.candidates[0]
    row = rows[tuple(first.genes)]
    print(f"cell {row}: {first.architecture}")
    print(f"table, 12 epochs: validation {valid[row]:.2f} %, test {test[row]:.2f} %", flush=True)
    result = train(report, options)
    if result.status == "failed":
        raise SystemExit(f"training failed: {result.reason}")
    near = np.sort(test[np.argsort(valid)[-20:]])
    trained = round(50_000 * (1 - options.val_fraction))
    print(
        f"trained here on {trained:,} images, {result.epochs} epochs: test {result.test['top1']:.2f} % "
        f"(table {test[row]:.2f} %, difference {result.test['top1'] - test[row]:+.2f}), validation "
        f"{result.val['top1']:.2f} %, {result.seconds:.0f} s, {result.images_per_second:.0f} images/s\n"
        f"test values of the table's 20 best cells by validation: {near[0]:.2f} to {near[-1]:.2f} %"
    )
    outcome = {"cell": int(row), "table_test": float(test[row]), "test": result.test, "val": result.val}
    write_json(options.run / "check_world.json", {**outcome, "seconds": result.seconds})
    print(json.dumps({**outcome, "run": str(options.run)}))


if __name__ == "__main__":
    main()
