"""What one more JPEG compression costs: the same training on images that were compressed again, once, twice, ...

    python experiments/compression.py --images data/downloads/cifar10 --folder runs/compression --again 0 1 2

The images are CIFAR-10 as JPEG files, `train/<class>/*` and `test/<class>/*`. Each further compression has the files' own
quantisation tables and subsampling; its blocks are shifted (by 4 pixels, then 2, then 6), since on the same blocks a second
compression changes almost nothing. Training and test images are both compressed. Printed are the noise that each compression adds
(PSNR against the one before) and the test accuracy of a NAS-Bench-201 network; the loss per further compression
estimates what the first one cost. A killed call goes on; `--executor` trains on several sets of images at a time.

What the *first* compression costs is measured on larger images: shrunk to 32 pixels, which takes most of their own
artefacts away, and then compressed as CIFAR-10's files were.

    python experiments/compression.py --images data/downloads/tiny-imagenet --test val --folder runs/first --again 0 1 2

With `--probe`, a classifier in closed form takes the place of the training: minutes in place of hours, and the same for every
number of compressions but for the images. It is ridge regression on the pooled responses to whitened random patches of the
training images (Coates, Lee & Ng, AISTATS 2011).
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ednag.benchmarks.dense import load_table
from ednag.core.storage import atomic_write
from ednag.data import NumpyImages
from ednag.execution import Call
from ednag.generation.report import Candidate, Report
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.spaces import NASBench201
from executors import chosen

SIZE = 32
SHIFTS = (4, 2, 6)
"""Pixels by which the blocks of each further compression are moved."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--test", default="test", help="folder of the test images")
    parser.add_argument("--folder", type=Path, default=Path("runs/compression"))
    parser.add_argument(
        "--again", type=int, nargs="+", default=[0, 1, 2], choices=range(4), help="further compressions"
    )
    parser.add_argument("--cell", type=int, default=284, help="official index of the cell")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--channels", type=int, default=16, help="16 in the benchmark")
    parser.add_argument("--cells", type=int, default=5, help="cells a stage, 5 in the benchmark")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--executor", default="in_process", choices=["in_process", "processes", "ray"])
    parser.add_argument("--workers", type=int, default=2, help="of the executor")
    parser.add_argument("--probe", type=int, default=0, help="training images of the probe; 0 for the training")
    parser.add_argument("--filters", type=int, default=256, help="of the probe")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def compressed(file: Path, again: int) -> list[np.ndarray]:
    """Pixels of an image after 0, 1, ..., ``again`` further compressions, uint8 ``(32, 32, 3)`` each.

    A larger image is shrunk first; the tables are those of quality 75 in either case.
    """
    with Image.open(file) as image:
        tables, larger = image.quantization, max(image.size) > SIZE
        shrunk = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
        stages = [np.asarray(shrunk)]
    for shift in ((0, *SHIFTS) if larger else SHIFTS)[:again]:
        padded = np.pad(stages[-1], ((shift, 8 - shift), (shift, 8 - shift), (0, 0)), mode="reflect")
        stream = io.BytesIO()
        Image.fromarray(padded).save(stream, "JPEG", qtables=tables, subsampling="4:2:0")
        stages.append(np.asarray(Image.open(stream))[shift : shift + SIZE, shift : shift + SIZE])
    return stages


def make_archives(options: argparse.Namespace) -> list[Path]:
    """Write one archive for each number of compressions, once."""
    most = max(options.again)
    paths = [options.folder / f"compressed-{number}.npz" for number in range(most + 1)]
    if all(path.exists() for path in paths):
        return paths
    arrays: list[dict[str, np.ndarray]] = [{} for _ in paths]
    for part, folder in (("train", "train"), ("test", options.test)):
        files = sorted(
            path for path in (options.images / folder).glob("*/*") if path.suffix.lower() in {".jpg", ".jpeg"}
        )
        classes = sorted({file.parent.name for file in files})
        stages = [compressed(file, most) for file in files]
        for number, place in enumerate(arrays):
            place[f"x_{part}"] = np.stack([stage[number] for stage in stages])
            place[f"y_{part}"] = np.array([classes.index(file.parent.name) for file in files])
    for path, content in zip(paths, arrays, strict=True):
        atomic_write(path, lambda stream, content=content: np.savez(stream, **content))
    return paths


def noise(paths: list[Path]) -> list[float]:
    """PSNR (dB) of the test images after each further compression, against the one before."""
    pixels = [np.load(path)["x_test"].astype(np.float64) for path in paths]
    errors = [np.square(later - before).mean() for before, later in pairwise(pixels)]
    return [float(10 * np.log10(255**2 / error)) for error in errors]


def train(path: Path, seed: int, run: Path, options: argparse.Namespace) -> float:
    """Test accuracy, percent, after training on an archive."""
    space = NASBench201()
    table = load_table("nasbench201")
    genes = table.genes[(table.row == options.cell).nonzero()[0, 0]]
    place = {"class_path": "ednag.spaces.NASBench201", "init_args": {}}
    report = Report(place, "a chosen cell", [Candidate(space.describe(genes), genes.tolist(), 0.0)])

    def make_trainer(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        return pl.Trainer(
            accelerator="auto" if torch.cuda.is_available() else "cpu",
            max_epochs=max_epochs,
            callbacks=callbacks,
            logger=CSVLogger(folder, name="logs"),
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    data = NumpyImages(path, crop_padding=4, flip=True, val_fraction=0.02, seed=seed)
    recipe = Recipe(epochs=options.epochs, schedule_every="epoch")
    network = {"channels": options.channels, "cells": options.cells}
    summary = retrain(report, space, data, recipe, run, make_trainer, 1, network=network, seed=seed)
    result = summary.results[0]
    if result.status == "failed":
        raise RuntimeError(f"training failed: {result.reason}")
    return float(result.test["top1"])


def train_one(root: Path, options: argparse.Namespace, path: Path, again: int, seed: int) -> dict[str, Any]:
    """Train on an archive in a folder below ``root``, on an executor; the line to print."""
    torch.set_num_threads(options.threads)
    run = root / f"cell{options.cell}-{options.channels}x{options.cells}-{options.epochs}-{again}-{seed}"
    accuracy = train(path, seed, run, options)
    return {"cell": options.cell, "epochs": options.epochs, "again": again, "seed": seed, "test": accuracy}


def train_all(paths: list[Path], options: argparse.Namespace) -> None:
    """Print the test accuracy after each training, as they end."""
    calls = (
        Call(f"{again}-{seed}", train_one, (paths[again].absolute(), again, seed))
        for seed in options.seeds
        for again in options.again
    )
    executor = chosen(options.executor, options.workers)
    executor.check(options.folder)
    for outcome in executor.run(calls, options.folder.absolute(), options):
        print(json.dumps(outcome.result()), flush=True)


def whitened_patches(images: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random patches as filters, ``(count, 3, 6, 6)``, with the mean ``(108,)`` and the whitening that they are for."""
    windows = images[torch.randperm(len(images), generator=generator)[:4000]].unfold(2, 6, 1).unfold(3, 6, 1)
    chosen = torch.randint(0, 27, (2, len(windows)), generator=generator)
    patches = windows[torch.arange(len(windows)), :, chosen[0], chosen[1]].flatten(1)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T.cov())
    whitening = vectors @ torch.diag((values + 1e-2).rsqrt()) @ vectors.T
    filters = (patches[:count] - mean) @ whitening
    return filters / filters.norm(dim=1, keepdim=True), mean, whitening


def features(pixels: np.ndarray, filters: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Rectified responses of either sign, averaged over the quarters of each image, ``(n, 8 * filters)``."""
    kernels = (filters @ whitening).view(-1, 3, 6, 6)
    shift = kernels.flatten(1) @ mean
    out = []
    for some in torch.from_numpy(pixels).split(500):
        response = F.conv2d(standardised(some), kernels) - shift[:, None, None]
        both = torch.cat([(response - 0.25).relu(), (-response - 0.25).relu()], 1)
        out.append(F.adaptive_avg_pool2d(both, 2).flatten(1))
    return torch.cat(out)


def standardised(pixels: Tensor) -> Tensor:
    """Images ``(n, 3, 32, 32)`` of mean 0 and deviation about 1."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - 0.47) / 0.25


def probe(path: Path, seed: int, options: argparse.Namespace) -> Tensor:
    """Whether each test image is classified rightly by the probe, bool ``(n,)``."""
    arrays = np.load(path)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(arrays["y_train"]), generator=generator)[: options.probe].numpy()
    pixels, labels = arrays["x_train"][chosen], torch.from_numpy(arrays["y_train"][chosen])
    learnt = whitened_patches(standardised(torch.from_numpy(pixels[:4000])), options.filters, generator)
    train, test = features(pixels, *learnt), features(arrays["x_test"], *learnt)
    centre, scale = train.mean(0), train.std(0) + 1e-6
    train, test = ((part - centre) / scale for part in (train, test))
    targets = F.one_hot(labels).float() - 1 / (int(labels.max()) + 1)
    gram = train.T @ train + 0.05 * len(train) * torch.eye(train.shape[1])
    return (test @ torch.linalg.solve(gram, train.T @ targets)).argmax(1) == torch.from_numpy(arrays["y_test"])


def probe_all(paths: list[Path], options: argparse.Namespace) -> None:
    """Print the probe's accuracy after each number of compressions, and the paired difference to none."""
    for seed in options.seeds:
        right = [probe(paths[again], seed, options).float() for again in options.again]
        for again, found in zip(options.again, right, strict=True):
            apart = found - right[0]
            error = float(apart.std() / len(apart) ** 0.5)
            change = f"{100 * float(apart.mean()):+.2f} ± {100 * error:.2f}"
            print(f"probe, seed {seed}, {again} further: {100 * float(found.mean()):.2f} % ({change})", flush=True)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = make_archives(options)
    print("PSNR of each further compression:", ", ".join(f"{value:.2f} dB" for value in noise(paths)), flush=True)
    if options.probe:
        probe_all(paths, options)
        return
    train_all(paths, options)


if __name__ == "__main__":
    main()
