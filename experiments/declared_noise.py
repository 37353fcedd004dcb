"""What it is worth to say how noisy a fitness is: the default sampler on NAS-Bench-201, every evaluation off by luck.

    python experiments/declared_noise.py --runs 200

The truth is the validation accuracy of CIFAR-10 after 200 epochs; an evaluation adds a normal error of a known standard
deviation, drawn anew for each run. The sampler is told of it or not. Prints, as Markdown, how often the truly best cell was
among the first 50, 100 and 200 evaluations, and the true accuracy that the chosen cell lacks of the best: chosen by
posterior mean, and by the highest score (the luckiest draw).
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.fitness import BenchmarkFitness
from ednag.generation.metrics import success_rate
from ednag.samplers import ArchiveDiffusion
from ednag.samplers.posterior import posterior_mean
from ednag.spaces import NASBench201

AT = (50, 100, 200)


class Lucky:
    """A table whose every evaluation is off by a fresh normal error, which is declared or not."""

    def __init__(self, table: BenchmarkFitness, deviation: float, declared: bool) -> None:
        self.table, self.deviation, self.declared = table, deviation, declared
        self.noise = Noise([0])

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.fitness.Fitness`."""
        return self.table(genes, valid) + self.deviation * self.noise.normal(valid.numel())[0].view(valid.shape)

    def standard_error(self, genes: Tensor, scores: Tensor) -> Tensor | None:
        """See :meth:`ednag.fitness.Fitness.standard_error`."""
        return torch.full_like(scores, self.deviation) if self.declared else None


def row(table: BenchmarkFitness, space: NASBench201, deviation: float, declared: bool, runs: int) -> str:
    """One line of the table."""
    fitness = Lucky(table, deviation, declared)
    state = ArchiveDiffusion().sample(space, fitness, range(runs), AT[-1])
    archive = state.archive
    truth = table.score(archive.genes.where(archive.filled[..., None], 0))
    found = " | ".join(f"{success_rate(archive, table.optimum_keys(), at):.3f}" for at in AT)
    lacks = [
        (table.optimum - truth.gather(1, by.argmax(1, keepdim=True))).double()
        for by in (posterior_mean(state.problem, archive), archive.fitness)
    ]
    shown = " | ".join(f"{float(one.mean()):.3f} ± {float(one.std()) / runs**0.5:.3f}" for one in lacks)
    return f"| {deviation:g} | {'yes' if declared else 'no'} | {found} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--deviations", type=float, nargs="+", default=[0.3, 1.0], help="of an error, accuracy points")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space, table = NASBench201(), BenchmarkFitness("nasbench201", "cifar10")
    table.setup(space)
    print(f"| error | declared | {' | '.join(f'@{at}' for at in AT)} | lacks, by posterior mean | by highest score |")
    print("|---|---|" + "---|" * (len(AT) + 2))
    for deviation in options.deviations:
        for declared in (False, True):
            print(row(table, space, deviation, declared, options.runs), flush=True)


if __name__ == "__main__":
    main()
