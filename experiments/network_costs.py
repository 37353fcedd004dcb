"""Parameters and multiply-accumulates of built networks against the NAS-Bench-201 table, every cell and data set.

    python experiments/network_costs.py --table nasbench201.npz

A network is a skeleton plus N times the same cells. Each cell is built with N = 1 and counted; the skeleton (N = 0)
is counted once and the two give the costs of N = 5. For `--full` random cells (all of them with `--full 15625`, which
takes about four times as long) the whole network of N = 5 is built and counted as well.

    python experiments/network_costs.py --spaces 20

instead compares every space's closed form with `--spaces` built networks, and says what each takes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ednag.benchmarks.locate import SHIPPED
from ednag.core.noise import Noise
from ednag.costs.counting import Costs, count_costs
from ednag.spaces import (
    DARTS,
    MobileNetV3,
    NASBench101,
    NASBench201,
    PretrainedLite,
    SearchSpace,
    TransNAS101Macro,
    TransNAS101Micro,
)
from ednag.spaces.building import build_network, count_in_closed_form

DATA_SETS = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet16-120": (16, 120)}
"""Image size and number of classes."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SHIPPED / "nasbench201.npz"
    parser.add_argument("--table", type=Path, default=default)
    parser.add_argument("--full", type=int, default=200, help="random cells to build and count at N = 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spaces", type=int, default=0, help="random networks of each space to build and count")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def count(genes: np.ndarray, cells: int) -> dict[str, Costs]:
    """Build one network and count it for each data set, with a classifier of the right size."""
    network = build_network(NASBench201(), torch.from_numpy(genes).long(), 10, 3, {"cells": cells})
    head = network[-1]
    out = {}
    for name, (size, classes) in DATA_SETS.items():
        head[-1] = nn.Linear(head[-1].in_features, classes)
        out[name] = count_costs(network, (3, size, size))
    return out


def mismatches(table: dict[str, np.ndarray], rows: list[int], full: bool) -> int:
    """Count the networks whose costs differ from the table, and say which."""
    skeleton = count(table["ops"][0], cells=0)
    wrong, start = 0, time.perf_counter()
    for place, row in enumerate(rows, 1):
        counted = count(table["ops"][row], cells=5 if full else 1)
        for name, costs in counted.items():
            if not full:
                rest = skeleton[name]
                costs = Costs(5 * costs.params - 4 * rest.params, 5 * costs.macs - 4 * rest.macs)
            expected = Costs(int(table[f"{name}/params"][row]), int(table[f"{name}/flops"][row]))
            if costs != expected:
                wrong += 1
                print(f"cell {row}, {name}: counted {costs}, the table has {expected}", flush=True)
        if place % 1000 == 0:
            gc.collect()
            print(f"{place} of {len(rows)} cells, {time.perf_counter() - start:.0f} s", flush=True)
    return wrong


def compare(space: SearchSpace, number: int, seed: int) -> int:
    """Count networks as built and in closed form, print what each takes, and return how many differ."""
    options = {"pretrained": False} if isinstance(space, PretrainedLite) else {}
    side, batch = (224 if isinstance(space, MobileNetV3) else 32), 1000
    genes = space.random(Noise([seed]), 2 * batch)[0]
    genes = genes[space.valid(genes)][:batch]
    count_in_closed_form(space, genes, 10, (3, side, side), options)
    begun = time.process_time()
    for _ in range(10):
        closed = count_in_closed_form(space, genes, 10, (3, side, side), options)
    each = (time.process_time() - begun) / 10 / batch
    begun, wrong = time.process_time(), 0
    for one, found in zip(genes[:number], closed.tolist(), strict=False):
        built = count_costs(build_network(space, one, 10, 3, options), (3, side, side))
        wrong += found != [built.params, built.macs]
    took = (time.process_time() - begun) / number
    print(
        f"{space.name}: {wrong} of {number} differ; built {1000 * took:.1f} ms, in closed form {1000 * each:.5f} ms each"
    )
    return wrong


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.spaces:
        kinds = (NASBench201, NASBench101, DARTS, TransNAS101Micro, TransNAS101Macro, MobileNetV3, PretrainedLite)
        sys.exit(1 if sum(compare(kind(), options.spaces, options.seed) for kind in kinds) else 0)
    gc.disable()  # thousands of short-lived networks: collected by the thousand
    with np.load(options.table, allow_pickle=False) as content:
        table = dict(content)
    everything = list(range(len(table["ops"])))
    chosen = np.random.default_rng(options.seed).permutation(len(everything))[: options.full].tolist()
    total = 0
    for rows, full in ((chosen, True), (everything, False)):
        start = time.perf_counter()
        wrong = mismatches(table, rows, full)
        total += wrong
        kind = "N = 5, built whole" if full else "N = 5, from N = 1 and the skeleton"
        pairs = len(rows) * len(DATA_SETS)
        print(f"{kind}: {wrong} of {pairs} networks differ ({time.perf_counter() - start:.0f} s)", flush=True)
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
