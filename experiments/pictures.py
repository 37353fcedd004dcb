"""The pictures of the README, from real runs.

ednag generate --config generate/demo --run_dir runs/demo
ednag retrain --config retrain/digits --report runs/demo/report.json --run_dir runs/demo/retrained
ednag compare --config compare/nasbench201-cifar10 --runs 1000 --run_dir runs/compare
python experiments/pictures.py --run runs/demo --retrained runs/demo/retrained --compared runs/compare
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from torch import Tensor

from ednag.core.noise import Noise
from ednag.core.storage import atomic_write, load_state
from ednag.diffusion.categorical import denoise, uniform_genes
from ednag.generation.report import Report
from ednag.samplers import ArchiveDiffusion
from ednag.spaces.nasbench201 import OPERATIONS

MEMBERS = 24
COLOURS = ListedColormap(["#e6e6e6", "#fff2cc", "#9fc5e8", "#f6b26b", "#b6d7a8"])
SAMPLERS = {"default": "EDNAG, default", "local search": "", "regularised evolution": "", "random search": ""}


def populations(run: Path) -> tuple[Tensor, Tensor]:
    """Noise, and what the default sampler's reverse process makes of it with the archive of a run, ``(N, L)`` each."""
    archive, sampler = load_state(run / "state.pt")["state"]["archive"], ArchiveDiffusion()
    count = int(archive["count"][0])
    members, fitness = archive["genes"][:, :count], archive["fitness"][:, :count]
    choices = torch.full((members.shape[-1],), len(OPERATIONS))
    u = Noise([0]).uniform(1 + 2 * len(sampler.signal), MEMBERS, members.shape[-1]).transpose(0, 1)
    denoised = denoise(members, sampler.mapping(fitness), sampler.signal, choices, u)
    return uniform_genes(u[0], choices)[0], denoised[0]


def show_genes(axes: Axes, genes: Tensor, title: str) -> None:
    """One row per architecture, one column per edge of the cell, coloured by operation."""
    axes.imshow(genes, cmap=COLOURS, vmin=-0.5, vmax=len(OPERATIONS) - 0.5, aspect="auto")
    axes.set(xticks=[], yticks=[], xlabel="six edges of a cell", title=title)
    for edge in range(1, genes.shape[1]):
        axes.axvline(edge - 0.5, color="white", linewidth=2)
    for row in range(1, len(genes)):
        axes.axhline(row - 0.5, color="white", linewidth=1)


def show_training(axes: Axes, folder: Path, test: float) -> None:
    """Validation accuracy by epoch, and the test accuracy at the end."""
    with max(folder.rglob("metrics.csv")).open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["val/top1"]]
    accuracy = {int(row["epoch"]) + 1: float(row["val/top1"]) for row in rows}
    epochs = len(accuracy) - 1 if list(accuracy.values())[-1] == list(accuracy.values())[-2] else len(accuracy)
    axes.plot(range(1, epochs + 1), list(accuracy.values())[:epochs], marker="o")
    axes.set(xlabel="epoch", ylabel="validation accuracy, %", title=f"trained: {test:.1f} % of test digits")
    axes.spines[["top", "right"]].set_visible(False)


def overview(run: Path, retrained: Path, path: Path) -> None:
    """Draw noise, population, cell and training of one run, from left to right."""
    best = Report.load(run).candidates[0]
    metrics: dict[str, Any] = json.loads((retrained / "001/metrics.json").read_text())
    if metrics["architecture"] != best.architecture:
        raise SystemExit(f"{retrained} did not train the best architecture of {run}")
    noise, denoised = populations(run)
    figure = plt.figure(figsize=(13, 3.6), layout="constrained")
    left, population, cell, training = figure.subplots(1, 4, width_ratios=[1, 1, 3.2, 1.7])
    show_genes(left, noise, "noise")
    show_genes(population, denoised, "denoised by fitness")
    cell.imshow(plt.imread(run / "best.png")[50:])  # without its own title
    cell.axis("off")
    cell.set_title("the best cell")
    show_training(training, retrained / "001", metrics["test"]["top1"])
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS(number)) for number in range(len(OPERATIONS))]
    figure.legend(handles, OPERATIONS, loc="outside lower left", ncols=len(OPERATIONS), frameon=False, fontsize="small")
    atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=110))


def success(compared: Path, path: Path) -> None:
    """Draw the share of runs that found the optimum against the number of evaluations."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with (compared / "curves.csv").open() as stream:
        for row in csv.DictReader(stream):
            curves[row["sampler"]].append((float(row["evaluations"]), 100 * float(row["success"])))
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for name, label in SAMPLERS.items():
        axes.plot(*zip(*curves[name], strict=True), label=label or name, linewidth=2.2 if label else 1.4)
    axes.set(xlabel="distinct architectures evaluated", ylabel="runs that found the best cell, %", ylim=(-2, 102))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=110))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="of ednag generate, NAS-Bench-201")
    parser.add_argument("--retrained", type=Path, default=Path("runs/demo/retrained"), help="of ednag retrain")
    parser.add_argument("--compared", type=Path, help="of ednag compare")
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    overview(options.run, options.retrained, options.folder / "overview.png")
    if options.compared:
        success(options.compared, options.folder / "success.png")


if __name__ == "__main__":
    main()
