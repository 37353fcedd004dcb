"""Success rates and speed of the default sampler beside the baselines, on the NAS-Bench-201 table.

    python experiments/default_sampler.py --runs 1000 --evaluations 200
    python experiments/default_sampler.py --runs 100 --samplers default --ablations
    python experiments/default_sampler.py --runs 1000 --evaluations 200 --noise 0.3

Fitness is the validation accuracy; isomorphic cells are counted once; seeds are 0, 1, 2, ... A run succeeds at n if its
first n distinct evaluations include the best architecture of the table. With `--noise`, each isomorphism class's accuracy
is off by a normal error, drawn anew for every batch of runs, and the best is the best of the noisy table. Prints a Markdown table; seconds are wall-clock
for all runs of a row, over `--processes` processes of one thread each.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ednag.benchmarks.locate import SHIPPED
from ednag.fitness import BenchmarkFitness
from ednag.generation.metrics import success_rate
from ednag.samplers import ArchiveDiffusion, GaussianProcess, LocalSearch, RandomSearch, RegularisedEvolution, Sampler
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "default": ArchiveDiffusion,
    "regularised evolution": RegularisedEvolution,
    "local search": LocalSearch,
    "random search": RandomSearch,
}

ABLATIONS: dict[str, Callable[[], Sampler]] = {
    "default, no denoising": functools.partial(ArchiveDiffusion, denoise=False),
    "default, no recombination": functools.partial(ArchiveDiffusion, recombine=False),
    "default, no corrector": functools.partial(ArchiveDiffusion, correct=False),
    "default, no archive weights": functools.partial(ArchiveDiffusion, weigh=False),
    "default, no climbs": functools.partial(ArchiveDiffusion, climbs=0),
    "default, no surrogate": functools.partial(ArchiveDiffusion, screen=False),
    "default, no features": functools.partial(ArchiveDiffusion, surrogate=GaussianProcess(features=False)),
    "default, no restarts": functools.partial(ArchiveDiffusion, patience=0),
}

AT = (50, 100, 200, 400)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SHIPPED / "nasbench201.npz"
    parser.add_argument("--table", type=Path, default=default)
    parser.add_argument("--datasets", nargs="+", default=["cifar10", "cifar100"])
    parser.add_argument("--epochs", type=int, default=200, help="epochs that the benchmark trained")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--ablations", action="store_true", help="add the default sampler without each of its parts")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=400, help="distinct evaluations a run")
    parser.add_argument("--chunk", type=int, default=125, help="runs a batch")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of the error, accuracy points")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


class Noisy:
    """A table whose values are off by a normal error of a standard deviation, the same for isomorphic architectures."""

    def __init__(self, fitness: BenchmarkFitness, deviation: float, seed: int) -> None:
        self.space = fitness.space
        genes = gene_strings(self.space.cardinalities)
        keys, classes = self.space.identity(genes).unique(return_inverse=True)
        values = fitness(genes, torch.ones(len(genes), dtype=torch.bool))
        error = torch.randn(len(keys), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values = values + deviation * error[classes]
        self.values = torch.empty_like(values)
        self.values[self.space.code(genes)] = values
        self.keys = self.space.identity(genes[values.argmax()])[None]

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.fitness.Fitness`."""
        return self.values[self.space.code(genes)].where(valid, -torch.inf)

    def optimum_keys(self) -> Tensor:
        """Identity of the best."""
        return self.keys


def chunk(
    name: str, table: Path, dataset: str, epochs: int, noise: float, evaluations: int, seeds: list[int]
) -> dict[int, float]:
    """Number of successful runs among `seeds`, by number of evaluations."""
    torch.set_num_threads(1)
    space, exact = NASBench201(), BenchmarkFitness(table, dataset, epochs)
    exact.setup(space)
    fitness = Noisy(exact, noise, seeds[0]) if noise else exact
    state = (SAMPLERS | ABLATIONS)[name]().sample(space, fitness, seeds, evaluations)
    keys = fitness.optimum_keys()
    return {at: success_rate(state.archive, keys, at) * len(seeds) for at in AT if at <= evaluations}


def main() -> None:
    options = arguments()
    seeds = range(options.first_seed, options.first_seed + options.runs)
    chunks = [list(seeds[i : i + options.chunk]) for i in range(0, len(seeds), options.chunk)]
    shown = [at for at in AT if at <= options.evaluations]
    print(f"| data set | sampler | {' | '.join(f'@{at}' for at in shown)} | seconds |")
    print("|---|---|" + "---|" * (len(shown) + 1))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        pool.map(functools.partial(time.sleep), [0.5] * options.processes)  # start and import first
        for dataset in options.datasets:
            for name in options.samplers + (list(ABLATIONS) if options.ablations else []):
                start = time.perf_counter()
                work = functools.partial(
                    chunk, name, options.table, dataset, options.epochs, options.noise, options.evaluations
                )
                hits = pool.map(work, chunks, chunksize=1)
                seconds = time.perf_counter() - start
                rates = " | ".join(f"{sum(hit[at] for hit in hits) / options.runs:.3f}" for at in shown)
                print(f"| {dataset} | {name} | {rates} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
