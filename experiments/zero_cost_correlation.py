"""Spearman correlation of each zero-cost proxy with 200-epoch test accuracy, on fixed random NAS-Bench-201 cells.

    python experiments/zero_cost_correlation.py --images data/downloads/cifar10

Networks of the benchmark's size (C = 16, N = 5) and one batch of real CIFAR-10 training images, against the shipped table's
three data sets. Every score is appended to a CSV at once, so that a run that is cut off goes on where it was; `--report` only
prints the table. Ensembles are of ranks: their mean, and the sum of
logarithms of AZ-NAS (Lee & Ham, CVPR 2024, non-linear ranking aggregation), which punishes a low rank by any one proxy.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ednag.benchmarks.arrays import open_table
from ednag.fitness.proxies import PROXIES, measure
from ednag.fitness.zero_cost import rank_among
from ednag.spaces import NASBench201

DATASETS = ("cifar10", "cifar100", "imagenet16-120")
PUBLISHED = {
    "params": (0.751, 0.726, 0.690),
    "flops": (0.733, 0.708, 0.691),
    "snip": (0.614, 0.618, 0.545),
    "synflow": (0.769, 0.758, 0.745),
    "naswot": (0.743, 0.769, 0.760),
    "zen": (0.365, 0.338, 0.372),
    "zico": (0.784, 0.813, 0.804),
}
"""Spearman with test accuracy on CIFAR-10, CIFAR-100 and ImageNet16-120, as published."""

ENSEMBLES = (
    ("synflow", "naswot"),
    ("params", "synflow", "naswot"),
    ("synflow", "zico"),
    ("naswot", "zico"),
    ("synflow", "naswot", "zico"),
    PROXIES,
)
REFERENCE = 64
"""How many of the cells the ensembles rank against; their correlation is over the others."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="tar or folder: train/<class>/*.jpg")
    parser.add_argument("--table", default="nasbench201")
    parser.add_argument("--proxies", nargs="+", default=list(PROXIES), choices=PROXIES)
    parser.add_argument("--cells", type=int, default=1000, help="how many random cells")
    parser.add_argument("--seed", type=int, default=0, help="of the cells, the images and the weights")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/zero_cost_correlation.csv"))
    parser.add_argument("--report", action="store_true", help="print the table of what has been measured, and stop")
    return parser.parse_args()


def image_batch(source: Path, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw normalised CIFAR-10 training images and labels, ``(count, 3, 32, 32)`` and ``(count,)``."""
    if source.is_dir():
        files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.glob("train/*/*.jpg"))}
    else:
        with tarfile.open(source) as archive:
            members = (m for m in archive if m.isfile() and "train/" in m.name and m.name.endswith(".jpg"))
            files = {m.name[m.name.index("train/") :]: archive.extractfile(m).read() for m in members}
    names = sorted(files)
    classes = sorted({name.split("/")[1] for name in names})
    chosen = [names[i] for i in np.random.default_rng(seed).choice(len(names), count, replace=False)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name in chosen])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.4913, 0.4821, 0.4465])[:, None, None]
    std = torch.tensor([0.2452, 0.2428, 0.2606])[:, None, None]
    return (images - mean) / std, torch.tensor([classes.index(name.split("/")[1]) for name in chosen])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of ranks; ties share their mean rank, ``-inf`` ranks lowest."""

    def ranks(x: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        return (counts.cumsum() - (counts + 1) / 2)[inverse]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def load(path: Path, options: argparse.Namespace) -> dict[tuple[str, int], tuple[float, float]]:
    """Scores and seconds measured so far under these options, by proxy and row of the table."""
    if not path.exists():
        return {}
    with path.open() as stream:
        return {
            (row["proxy"], int(row["cell"])): (float(row["score"]), float(row["seconds"]))
            for row in csv.DictReader(stream)
            if (int(row["batch_size"]), int(row["seed"])) == (options.batch_size, options.seed)
        }


def run(options: argparse.Namespace, ops: np.ndarray, cells: list[int]) -> None:
    """Measure what is missing, one cell after the other."""
    done = load(options.output, options)
    images, labels = image_batch(options.images, options.batch_size, options.seed)
    images = images.contiguous(memory_format=torch.channels_last)
    fresh = not options.output.exists()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    space, start, turns = NASBench201(), time.process_time(), 0
    with options.output.open("a") as stream:
        if fresh:
            stream.write("proxy,cell,batch_size,seed,score,seconds\n")
        for place, cell in enumerate(cells):
            missing = [name for name in options.proxies if (name, cell) not in done]
            if not missing:
                continue
            torch.manual_seed(options.seed * 15_625 + cell)
            network = space.build(torch.from_numpy(ops[cell]).long(), 10).to(memory_format=torch.channels_last)
            begin = time.process_time()
            scores = measure(network, missing, images, labels, torch.Generator().manual_seed(cell))
            seconds = (time.process_time() - begin) / len(missing)
            lines = (f"{n},{cell},{options.batch_size},{options.seed},{v!r},{seconds:.3f}\n" for n, v in scores.items())
            stream.write("".join(lines))
            stream.flush()
            turns += 1
            if turns % 25 == 0:
                each = (time.process_time() - start) / turns
                print(f"{place + 1} of {len(cells)} cells, {each:.2f} CPU seconds each", flush=True)


def report(options: argparse.Namespace, table: dict[str, np.ndarray], cells: list[int]) -> None:
    """Print the correlations beside the published ones, and those of a few rank ensembles."""
    done = load(options.output, options)
    accuracies = [table[f"{dataset}/test/200"] for dataset in DATASETS]
    print(f"batch size {options.batch_size}, seed {options.seed}; measured (published), by {', '.join(DATASETS)}")
    for name in PROXIES:
        rows = [cell for cell in cells if (name, cell) in done]
        if len(rows) < 2:
            continue
        scores = np.array([done[name, cell][0] for cell in rows])
        known = [f" ({value:.3f})" for value in PUBLISHED.get(name, ())] or [""] * 3
        found = [spearman(scores, accuracy[rows]) for accuracy in accuracies]
        pairs = "  ".join(f"{rho:.3f}{other}" for rho, other in zip(found, known, strict=True))
        seconds = np.mean([done[name, cell][1] for cell in rows])
        print(
            f"{name:10} {len(rows):5} cells  {pairs}  {int(np.isneginf(scores).sum())} -inf  {seconds:.2f} CPU s a cell"
        )
    for names in ENSEMBLES:
        rows = [cell for cell in cells if all((name, cell) in done for name in names)]
        if len(rows) < 2 * REFERENCE:
            continue
        columns = [torch.tensor([done[name, cell][0] for cell in rows], dtype=torch.float64) for name in names]
        ranks = torch.stack([rank_among(column[:REFERENCE], column[REFERENCE:]) for column in columns]).nan_to_num(0)
        title = "all" if names == PROXIES else ", ".join(names)
        for kind, scores in (("mean", ranks.mean(0)), ("log", ranks.clamp(min=1e-9).log().sum(0))):
            found = [spearman(scores.numpy(), accuracy[rows[REFERENCE:]]) for accuracy in accuracies]
            values = "  ".join(f"{rho:.3f}" for rho in found)
            print(f"{kind} of ranks of {title}: {values} over {len(rows) - REFERENCE} cells")


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    _, table = open_table(options.table)
    cells = np.random.default_rng(options.seed).permutation(len(table["ops"]))[: options.cells].tolist()
    if not options.report:
        run(options, table["ops"], cells)
    report(options, table, cells)


if __name__ == "__main__":
    main()
