"""The meta predictor on what it never saw: tasks of held-out sources, and all of NAS-Bench-201 on CIFAR-10.

    python experiments/meta_predictor.py --predictor predictors/nasbench201 --blind runs/fit-blind \
        --pools runs/collect/pools --images data/downloads/cifar10

The table compares it, on the same rows, with parameters, FLOPs, zero-cost proxies of the very networks that were trained,
the mean standardised accuracy that an architecture had on training tasks, and the same model without its data-set
encoder (`--blind`). `--pools` are the images that `ednag collect` kept; without them, proxies are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ednag.costs.counting import count_costs
from ednag.data.datasets import CIFAR10
from ednag.fitness import BenchmarkFitness, MetaFitness
from ednag.fitness.proxies import measure
from ednag.fitness.training import standardised
from ednag.generation.collection import load_pool
from ednag.predictor.losses import standardise
from ednag.predictor.meta_data import MetaData, TaskRows
from ednag.predictor.meta_predictor import load_predictor
from ednag.predictor.scores import SCORES, task_scores
from ednag.predictor.tasks import draw
from ednag.spaces import NASBench201
from ednag.spaces.building import architecture_seed, build_network

PROXIES = ("naswot", "synflow")
SPACE = NASBench201()
Predict = Callable[[int, Tensor], Tensor]
"""From a task's index and genes ``(n, L)`` to scores ``(n,)``; NaN where there is none."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictor", default="nasbench201", help="folder, run, or shipped name")
    parser.add_argument("--blind", default=None, help="run of the same fit with --model.task_aware false")
    parser.add_argument("--meta", type=Path, default=Path("data/meta"), help="folder of rows.npz and tasks.json")
    parser.add_argument("--features", type=Path, default=Path("data/downloads/meta_features"))
    parser.add_argument("--pools", type=Path, default=None, help="runs/collect/pools")
    parser.add_argument("--images", type=Path, default=Path("data/downloads/cifar10"))
    parser.add_argument("--table", default="nasbench201")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def by_predictor(name: str, part: TaskRows) -> Predict:
    model = load_predictor(name)

    def predict(task: int, genes: Tensor) -> Tensor:
        return model.predict_scores(genes, model.embed(part.features[task]))[0]

    return predict


def by_cost(which: str, network: dict[str, int]) -> Predict:
    known: dict[tuple[int, ...], float] = {}

    def one(genes: Tensor) -> float:
        key = tuple(genes.tolist())
        if key not in known:
            known[key] = float(getattr(count_costs(SPACE.build(genes, 10, **network), (3, 16, 16)), which))
        return known[key]

    return lambda task, genes: torch.tensor([one(some) for some in genes])


def by_training_tasks(train: TaskRows) -> Predict:
    """Mean standardised accuracy on the tasks of training, of architectures that were trained there."""
    sums: dict[int, list[float]] = {}
    for index in train.members.values():
        accuracy = train.rows.accuracy[index][None]
        values = standardise(accuracy, torch.ones_like(accuracy, dtype=torch.bool))[0]
        for key, value in zip(SPACE.identity(train.rows.genes[index]).tolist(), values.tolist(), strict=True):
            sums.setdefault(key, []).append(value)

    def predict(task: int, genes: Tensor) -> Tensor:
        found = [sums.get(key, [torch.nan]) for key in SPACE.identity(genes).tolist()]
        return torch.tensor([sum(some) / len(some) for some in found])

    return predict


def by_proxy(proxy: str, data: MetaData, pools: Path, network: dict[str, int]) -> Predict:
    def predict(task: int, genes: Tensor) -> Tensor:
        definition = data.tasks[task]
        train = draw(load_pool(pools / f"{definition.source}.pt"), definition)[1].train
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))[:64]
        batch = standardised(train, train)
        values = []
        for one in genes:
            seed = architecture_seed(0, int(SPACE.identity(one)))
            net = build_network(SPACE, one, len(definition.classes), 3, network, seed)
            values.append(measure(net, [proxy], batch.pixels[order], batch.labels[order])[proxy])
        return torch.tensor(values)

    return predict


def held_out(predict: Predict, test: TaskRows) -> tuple[dict[str, float], int, int]:
    """Mean scores over held-out tasks, how many rows they are of, and how many tasks."""
    found: list[dict[str, float]] = []
    rows = 0
    for task, index in test.members.items():
        scores = predict(task, test.rows.genes[index])
        has = ~scores.isnan()
        if int(has.sum()) < 5:
            continue
        scores = scores.where(scores.isfinite(), scores[scores.isfinite()].min() - 1)
        values = task_scores(scores[has], test.rows.accuracy[index][has])
        found.append({name: float(value) for name, value in values.items()})
        rows += int(has.sum())
    return (
        {name: float(np.mean([f[name] for f in found])) if found else float("nan") for name in SCORES},
        rows,
        len(found),
    )


def on_the_table(args: argparse.Namespace) -> None:
    """Scores of all cells for the images of CIFAR-10 against 200-epoch test accuracy."""
    begun = time.perf_counter()
    fitness = MetaFitness(args.predictor)
    fitness.setup(SPACE, CIFAR10(args.images, image_size=16))
    embedded = time.perf_counter() - begun
    cells = torch.cartesian_prod(*[torch.arange(5)] * 6)
    begun = time.perf_counter()
    scores = fitness.score(cells)
    seconds = time.perf_counter() - begun
    table = BenchmarkFitness(args.table, "cifar10")
    table.setup(SPACE)
    revealed = table.reveal(cells)
    accuracy = next(values for name, values in revealed.items() if "200" in name or len(revealed) == 1).double()
    values = task_scores(scores, accuracy)
    order = scores.argsort(descending=True, stable=True)
    top = accuracy[order[:5]]
    print(f"\nCIFAR-10, all {len(cells):,} cells, 200-epoch test accuracy: " + ", ".join(
        f"{name} {float(values[name]):.3f}" for name in ("spearman", "kendall", "pearson")))  # fmt: skip
    print(f"test accuracy of the first: {float(top[0]):.2f} %, best of the first five {float(top.max()):.2f} %")
    better = [float((accuracy > value).double().mean()) for value in (top[0], top.max())]
    print(
        f"share of cells that are better: {better[0]:.2%} and {better[1]:.2%}; best of all {float(accuracy.max()):.2f} %"
    )
    print(f"scoring took {seconds:.2f} s, images and their embedding {embedded:.1f} s (cached or not)")


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    held = ["tiny_imagenet_64", "notmnist", "arabic_letters", "kannada_digits"]  # as configs/fit/meta_predictor.yaml
    data = MetaData(args.meta / "rows.npz", args.meta / "tasks.json", args.features, val_sources=held)
    data.setup()
    train, test = data.part("train"), data.part("test")
    with np.load(args.meta / "rows.npz") as rows:
        network = json.loads(str(rows["budget"]))["network"]
    methods: dict[str, Predict] = {"meta predictor": by_predictor(args.predictor, test)}
    if args.blind:
        methods["without data-set encoder"] = by_predictor(args.blind, test)
    methods["mean over training tasks"] = by_training_tasks(train)
    methods |= {name: by_cost(name, network) for name in ("params", "macs")}
    if args.pools:
        methods |= {proxy: by_proxy(proxy, data, args.pools, network) for proxy in PROXIES}
    print(f"{len(test)} held-out tasks of {', '.join(data.test_sources)}; means over tasks\n")
    print(f"{'':28s}" + "".join(f"{name:>10s}" for name in SCORES) + f"{'rows':>8s}{'tasks':>7s}")
    for name, predict in methods.items():
        scores, rows, tasks = held_out(predict, test)
        print(f"{name:28s}" + "".join(f"{scores[key]:10.3f}" for key in SCORES) + f"{rows:8d}{tasks:7d}", flush=True)
    on_the_table(args)


if __name__ == "__main__":
    main()
