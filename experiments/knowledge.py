"""Make the shipped knowledge: what the table of each data set says of a space, smoothed; and what that is worth.

    python experiments/knowledge.py

One source for each data set of NAS-Bench-201 and each task of TransNAS-Bench-101 (micro and macro), from the longest
training's validation measure. Prints what the card in predictors/knowledge/README.md holds: each table is left out in
turn and predicted by the mean of the others of its space. Takes about half a minute on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ednag.benchmarks.dense import BenchmarkTable, load_table
from ednag.core.inputs import sha256
from ednag.core.storage import atomic_write, write_json
from ednag.predictor.knowledge import FORMAT, KNOWLEDGE
from ednag.predictor.scores import task_scores
from ednag.predictor.smoothing import Smoother, class_means, normal_scores
from ednag.samplers.surrogate import GaussianProcess
from ednag.spaces.base import SearchSpace, find_space

TABLES = ("nasbench201", "transnas101_micro", "transnas101_macro")
SKETCH = 256
"""Architectures by which a table is recognised."""
TOP = 0.1
"""Share of the architectures predicted best for which the error of the predictions is given."""
HELD_OUT = (
    "spearman", "place", "beaten", "error", "first", "largest", "gain", "gain_largest", "test_first", "test_five", "test_best"
)  # fmt: skip
"""Spearman's correlation with validation; place of the optimum; share of classes that the first choice beats; error of the
best predicted; first choice and network of most parameters, in standard deviations; what the former gains over a random
architecture and over the latter, in points where the measure is a percentage; test measure of the first choice, of the
best of the first five, and of the optimum by validation."""


class Classes(NamedTuple):
    """Isomorphism classes of a table.

    Attributes:
        space: of the table.
        table: itself.
        codes: of the architectures that the benchmark has, int64 ``(n,)``.
        keys: identities of the classes, int64 ``(C,)``, ascending.
        place: class of each of those architectures, int64 ``(n,)``.
    """

    space: SearchSpace
    table: BenchmarkTable
    codes: Tensor
    keys: Tensor
    place: Tensor

    def mean(self, dataset: str, split: str) -> Tensor:
        """Class means of the longest training, float64 ``(C,)``."""
        return class_means(self.table.metrics[self.table.results(dataset, split)][self.codes], self.place)


def read(name: str) -> Classes:
    """Read a table and find its classes."""
    table, space = load_table(name), find_space(name)
    codes = (table.row >= 0).nonzero().flatten()
    keys, place = torch.unique(space.identity(table.genes[codes]), return_inverse=True)
    return Classes(space, table, codes, keys, place)


def smoother(classes: Classes) -> Smoother:
    """Make the smoother of a table; the kernel is that of the default sampler's surrogate."""
    first = torch.full((len(classes.keys),), len(classes.codes))
    first = first.scatter_reduce(0, classes.place, torch.arange(len(classes.codes)), "amin")
    surrogate = GaussianProcess()
    known = surrogate.kernel.embed(classes.space, classes.table.genes[classes.codes[first]])[None]
    kernel = surrogate.kernel.between(classes.space, known, known, torch.ones(known.shape[:2], dtype=torch.bool))[0]
    return Smoother(kernel, torch.bincount(classes.place))


def largest(classes: Classes) -> Tensor:
    """Find the class of the network with the most parameters; a number."""
    space, table = classes.space, classes.table
    if "cifar10/params" in table.metrics:
        return class_means(table.metrics["cifar10/params"][classes.codes], classes.place).argmax()
    genes = table.genes[classes.codes]
    if space.name == "transnas101_micro":
        return classes.place[genes.sum(-1).argmax()]  # 3x3 convolutions everywhere
    wide = space.features(genes)[:, :6].sum(-1)  # doublings so far, over the modules
    most = (wide == wide.max()).nonzero().flatten()
    return classes.place[most[torch.tensor([weights(space, genes[i]) for i in most]).argmax()]]


def weights(space: SearchSpace, genes: Tensor) -> int:
    """Count the parameters of a network without making them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in space.build(genes, num_classes=10).parameters())


def held_out(classes: Classes, scores: dict[str, Tensor], dataset: str, most: Tensor) -> list[float]:
    """What the mean of the other sources is worth for one data set; see :data:`HELD_OUT`."""
    predicted = torch.stack([score for name, score in scores.items() if name != dataset]).mean(0)
    valid, test = classes.mean(dataset, "valid"), classes.mean(dataset, "test")
    raw = classes.table.metrics[classes.table.results(dataset, "valid")][classes.codes]
    optimum = classes.place[raw.argmax()]
    order = predicted.argsort(descending=True, stable=True)
    top = order[: int(TOP * len(order))]
    shown, percent = (
        normal_scores(valid),
        1.0 if "%" in classes.table.measures.get(dataset, "accuracy, %") else torch.nan,
    )
    return [
        float(task_scores(predicted[classes.place], raw)["spearman"]),
        float((predicted > predicted[optimum]).sum() + 1),
        float((valid < valid[order[0]]).double().mean()),
        float((shown - predicted)[top].square().mean().sqrt()),
        float(shown[order[0]]),
        float(shown[most]),
        float(valid[order[0]] - valid.mean()) * percent,
        float(valid[order[0]] - valid[most]) * percent,
        float(test[order[0]]),
        float(test[order[:5]].max()),
        float(test[optimum]),
    ]


def make(name: str, folder: Path) -> None:
    """Write the sources of one table."""
    classes = read(name)
    smooth = smoother(classes)
    results = [metric for metric in sorted(classes.table.metrics) if metric.count("/") == 2]
    sketched = [metric for metric in results if metric.split("/")[1] != "train"]
    datasets = list(dict.fromkeys(metric.split("/")[0] for metric in sketched))
    scores = {dataset: smooth(classes.mean(dataset, "valid")) for dataset in datasets}
    most = largest(classes)
    worth = [held_out(classes, scores, dataset, most) for dataset in datasets]
    drawn = classes.codes[torch.randperm(len(classes.codes), generator=torch.Generator().manual_seed(0))[:SKETCH]]
    arrays = {
        "keys": classes.keys.numpy().astype(np.int32),
        "names": np.array(datasets),
        "scores": torch.stack(list(scores.values())).numpy().astype(np.float16),
        "sketch_codes": drawn.sort().values.numpy().astype(np.int32),
        "sketch_names": np.array(sketched),
        "sketches": torch.stack([classes.table.metrics[m][drawn.sort().values] for m in sketched]).float().numpy(),
        "held_out_names": np.array(HELD_OUT),
        "held_out": np.array(worth, dtype=np.float32),
    }
    atomic_write(folder / f"{name}.npz", lambda stream: np.savez_compressed(stream, **arrays))
    for dataset, row in zip(datasets, worth, strict=True):
        print(f"| {name}/{dataset} | {' | '.join(f'{value:.4g}' for value in row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=KNOWLEDGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    print(f"| source | {' | '.join(HELD_OUT)} |\n|---|{'---|' * len(HELD_OUT)}")
    for name in TABLES:
        make(name, options.output)
    files = {name: sha256(options.output / f"{name}.npz") for name in TABLES}
    tables = {name: sha256(load_table(name).file.path) for name in TABLES}
    write_json(options.output / "sources.json", {"format": FORMAT, "files": files, "tables": tables})


if __name__ == "__main__":
    main()
