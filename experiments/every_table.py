"""The default sampler on all 17 problems of the shipped tables: by isomorphism class, and by value.

    python experiments/every_table.py --runs 100

A run succeeds at n if its first n distinct evaluations include a member of the optimum's isomorphism class; by value, only
the best member itself counts, as twins were trained apart. The mean counts evaluations until the class was found, misses as
the budget. Fitness is the validation measure; seeds are 0, 1, 2, ...; prints Markdown, a row per problem.
"""

from __future__ import annotations

import argparse

import torch

from ednag.fitness import BenchmarkFitness
from ednag.samplers import Sampler
from ednag.samplers.presets import load_preset
from ednag.spaces import NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro

AT = (50, 100, 200)
DATASETS = ("cifar10", "cifar100", "imagenet16-120")
TASKS = ("class_object", "class_scene", "jigsaw", "segmentsemantic", "room_layout", "normal", "autoencoder")


def first(hit: torch.Tensor) -> torch.Tensor:
    """Evaluations until the first hit of each run, ``(R, M)`` to ``(R,)``; infinite if there is none."""
    return torch.where(hit.any(1), hit.double().argmax(1) + 1.0, torch.inf)


def row(sampler: Sampler, space: SearchSpace, dataset: str, runs: int, together: int) -> str:
    """Run a problem, and write its row."""
    fitness = BenchmarkFitness(space.name, dataset)
    fitness.setup(space)
    by_class, by_value = [], []
    for begin in range(0, runs, together):
        seeds = range(begin, min(begin + together, runs))
        archive = sampler.sample(space, fitness, seeds, AT[-1]).archive
        by_class.append(first(torch.isin(archive.keys, fitness.optimum_keys()) & archive.filled))
        by_value.append(first((archive.fitness >= fitness.optimum) & archive.filled))
    found, exact = torch.cat(by_class), torch.cat(by_value)
    rates = " | ".join(f"{float((found <= at).double().mean()):.3f}" for at in AT)
    exactly = float((exact <= AT[-1]).double().mean())
    return (
        f"| {space.name} {dataset} | {runs} | {rates} | {exactly:.3f} | {float(found.clamp(max=AT[-1]).mean()):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--together", type=int, default=50, help="runs that advance in one batch")
    parser.add_argument("--preset", default="default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shown = " | ".join(f"@{at}" for at in AT)
    print(f"| problem | runs | {shown} | by value @{AT[-1]} | mean |\n|---|---|{'---|' * (len(AT) + 2)}")
    problems = [(NASBench201(), dataset) for dataset in DATASETS]
    problems += [(space, task) for space in (TransNAS101Micro(), TransNAS101Macro()) for task in TASKS]  # type: ignore[misc]
    for space, dataset in problems:
        with torch.inference_mode():
            print(row(load_preset(options.preset), space, dataset, options.runs, options.together), flush=True)


if __name__ == "__main__":
    main()
