"""The preset `released-code` on NAS-Bench-201, beside what the released program itself was measured to do.

    python benchmarks/released_code.py --runs 1000

Fitness is the TEST accuracy, as in the released program: these figures never share a table with honest ones.
"""

from __future__ import annotations

import argparse
import time

import torch

from ednag.fitness import BenchmarkFitness
from ednag.presets import load_preset
from ednag.samplers import Energy, PiecewiseLinear
from ednag.spaces import NASBench201

MEASURED = {  # of the released program: mean, sd, optimum hit, distinct architectures, look-ups, ms a run; runs
    "cifar10": (94.342, 0.076, 0.69, 509, 7300, 1050, 200),
    "cifar100": (73.325, 0.368, 0.575, 479, 7300, 1040, 200),
}
FACTORS = {"cifar10": 1.0, "cifar100": 1.2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space = NASBench201()
    print(f"{'':<26}{'mean':>8}{'sd':>8}{'optimum':>9}{'classes':>9}{'cells':>7}{'look-ups':>10}{'ms/run':>8}")
    for dataset, reference in MEASURED.items():
        sampler = load_preset("released-code", mapping=Energy(1.0, PiecewiseLinear(FACTORS[dataset])))
        fitness = BenchmarkFitness("nasbench201", dataset, oracle="test")
        fitness.setup(space)
        sampler.sample(space, fitness, range(10))  # warm-up
        begun = time.perf_counter()
        archive = sampler.sample(space, fitness, range(options.runs)).archive
        took = (time.perf_counter() - begun) / options.runs * 1000
        best = archive.fitness.amax(1)
        hit = (best >= fitness.optimum - 1e-6).double().mean()
        keys = space.identity(archive.genes).where(archive.filled, -1)
        classes = sum(len(row.unique()) - bool((row < 0).any()) for row in keys) / options.runs
        # The program looks up its N parents twice a step; ours are scored once. In its way of counting:
        lookups = archive.lookups.double().mean() + 2 * sampler.population * sampler.num_steps
        mean, sd, rate, distinct, looked, ms, runs = reference
        print(
            f"{dataset + ', preset':<26}{best.mean():8.3f}{best.std():8.3f}{hit:9.3f}{classes:9.0f}"
            f"{archive.count.double().mean():7.0f}{lookups:10.0f}{took:8.2f}   {options.runs} runs"
        )
        print(
            f"{dataset + ', program':<26}{mean:8.3f}{sd:8.3f}{rate:9.3f}{distinct:9}{'':>7}{looked:10}{ms:8}   {runs} runs"
        )


if __name__ == "__main__":
    main()
