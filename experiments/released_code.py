"""The preset `released-code` on NAS-Bench-201, beside what the released program itself was measured to do.

    python experiments/released_code.py --runs 1000

Fitness is the TEST accuracy, as in the released program: these figures never share a table with honest ones. Runs are
advanced in batches, by `--processes` processes of one thread each; ms/run is wall-clock over all of them.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time

import torch
from torch import Tensor

from ednag.diffusion.mappings import Energy, PiecewiseLinear
from ednag.fitness import BenchmarkFitness
from ednag.samplers.presets import load_preset
from ednag.spaces import NASBench201

MEASURED = {  # of the released program: mean, sd, optimum hit, distinct architectures, look-ups, ms a run; runs
    "cifar10": (94.342, 0.076, 0.69, 509, 7300, 1050, 200),
    "cifar100": (73.325, 0.368, 0.575, 479, 7300, 1040, 200),
}
FACTORS = {"cifar10": 1.0, "cifar100": 1.2}


def chunk(dataset: str, seeds: list[int]) -> Tensor:
    """Best fitness, optimum, distinct classes, distinct cells and look-ups of each run, ``(5, R)``."""
    torch.set_num_threads(1)
    space, fitness = NASBench201(), BenchmarkFitness("nasbench201", dataset, oracle="test")
    fitness.setup(space)
    sampler = load_preset("released-code", mapping=Energy(1.0, PiecewiseLinear(FACTORS[dataset])))
    archive = sampler.sample(space, fitness, seeds).archive
    best = archive.fitness.amax(1)
    keys = space.identity(archive.genes).where(archive.filled, -1)
    classes = torch.tensor([len(row[row >= 0].unique()) for row in keys])
    # The program looks its N parents up twice a step; ours are scored once. In its way of counting:
    lookups = archive.lookups + 2 * sampler.population * sampler.num_steps
    return torch.stack([best, (best >= fitness.optimum - 1e-6).double(), classes, archive.count, lookups])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=100, help="runs a batch")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chunks = [list(range(i, min(i + options.chunk, options.runs))) for i in range(0, options.runs, options.chunk)]
    print(
        f"{'':<20}{'mean':>8}{'sd':>7}{'optimum':>9}{'classes':>9}{'cells':>7}{'look-ups':>10}{'ms/run':>8}{'runs':>6}"
    )
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        pool.map(functools.partial(chunk, "cifar10"), [[0]] * options.processes, chunksize=1)  # start and import first
        for dataset, reference in MEASURED.items():
            begun = time.perf_counter()
            values = torch.cat(pool.map(functools.partial(chunk, dataset), chunks, chunksize=1), 1).double()
            ms = (time.perf_counter() - begun) / options.runs * 1000
            best, hit, classes, cells, lookups = values.mean(1).tolist()
            spread = float(values[0].std(correction=0))
            print(
                f"{dataset + ', preset':<20}{best:8.3f}{spread:7.3f}{hit:9.3f}{classes:9.0f}{cells:7.0f}"
                f"{lookups:10.0f}{ms:8.1f}{options.runs:6}"
            )
            mean, sd, rate, distinct, looked, slow, runs = reference
            print(
                f"{dataset + ', program':<20}{mean:8.3f}{sd:7.3f}{rate:9.3f}{distinct:9}{'':>7}{looked:10}{slow:8}{runs:6}"
            )


if __name__ == "__main__":
    main()
