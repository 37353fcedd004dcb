"""What a prior saves the default sampler: true evaluations until the best architecture of the CIFAR-10 table is found.

    python experiments/prior.py --images FOLDER --runs 1000

The truth is the 200-epoch validation accuracy of NAS-Bench-201. Priors: none; the shipped meta predictor, which never saw
CIFAR-10 (its images are a data set of this project, as `configs/generate` has them); the number of
parameters; and the truth of 12 epochs, as an upper bound. Prints success after some evaluations, and the evaluations that
half and nine tenths of the runs need; p is of Wilcoxon's signed-rank test on these numbers, paired by seed, against none.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from scipy.stats import wilcoxon
from torch import Tensor

from ednag.benchmarks.locate import SHIPPED
from ednag.data.datasets import CIFAR10
from ednag.fitness import BenchmarkFitness, Fitness, MetaFitness
from ednag.generation.metrics import success_rate
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings

AT = (20, 30, 50, 75, 100, 150, 200)
SPACE = NASBench201()


class Tabled:
    """A fitness looked up: all cells are scored once, so that runs don't wait for it."""

    def __init__(self, fitness: Fitness) -> None:
        genes = gene_strings(SPACE.cardinalities)
        scores = fitness(genes, torch.ones(len(genes), dtype=torch.bool))
        self.scores = torch.empty_like(scores)
        self.scores[SPACE.code(genes)] = scores

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.fitness.Fitness`."""
        return self.scores[SPACE.code(genes)].where(valid, -torch.inf)


class Parameters:
    """The number of parameters of a cell's 3x3 and 1x1 convolutions, in units of a 1x1 one."""

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.fitness.Fitness`."""
        return (9 * (genes == 3) + (genes == 2)).sum(-1).double().where(valid, -torch.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SHIPPED / "nasbench201.npz"
    parser.add_argument("--table", type=Path, default=default)
    parser.add_argument("--images", type=Path, default=Path("data/downloads/cifar10"))
    parser.add_argument("--predictor", default=None, help="folder of a predictor; the shipped one by default")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=125)
    options = parser.parse_args()
    torch.set_num_threads(1)
    meta = MetaFitness(options.predictor)
    meta.setup(SPACE, CIFAR10(options.images))
    truth, short = (BenchmarkFitness(options.table, "cifar10", epochs) for epochs in (200, 12))
    truth.setup(SPACE)
    short.setup(SPACE)
    priors = {
        "none": None,
        "meta predictor": Tabled(meta),
        "parameters": Parameters(),
        "accuracy after 12 epochs": Tabled(short),
    }
    print(f"| prior | {' | '.join(f'@{at}' for at in AT)} | 50 % | 90 % | p | seconds |\n|---|{'---|' * (len(AT) + 4)}")
    without: Tensor | None = None
    for name, prior in priors.items():
        begun, hits, firsts = time.perf_counter(), dict.fromkeys(AT, 0.0), []
        for first in range(0, options.runs, options.chunk):
            seeds = range(first, min(first + options.chunk, options.runs))
            archive = (
                ArchiveDiffusion(priors=[] if prior is None else [prior]).sample(SPACE, truth, seeds, max(AT)).archive
            )
            keys = truth.optimum_keys()
            for at in AT:
                hits[at] += success_rate(archive, keys, at) * len(seeds) / options.runs
            hit = torch.isin(archive.keys, keys) & archive.filled
            firsts.append(torch.where(hit.any(1), hit.double().argmax(1) + 1.0, torch.inf))
        spent = torch.cat(firsts).clamp(max=max(AT) + 1)
        without = spent if without is None else without
        p = f"{wilcoxon(spent, without).pvalue:.1g}" if prior is not None else ""
        ordered = spent.sort().values
        need = " | ".join(f"{ordered[int(share * (options.runs - 1))]:.0f}" for share in (0.5, 0.9))
        rates = " | ".join(f"{hits[at]:.3f}" for at in AT)
        print(f"| {name} | {rates} | {need} | {p} | {time.perf_counter() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
