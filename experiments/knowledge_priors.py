"""What knowledge from other data sets' tables saves the default sampler, each table left out in turn.

    python experiments/knowledge_priors.py --runs 200

For every problem whose tables ship: no prior, the mean of the sources, each source by itself (what `priors` does), and two
trials of misleading sources: their mean reversed, and one reversed among the good ones. Success means that some member of
the optimum's isomorphism class was evaluated; the mean counts runs without success as one evaluation more than the budget.
Results are kept below --folder, a file for each problem and variant: called again after a kill, it goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ednag.core.storage import write_json
from ednag.fitness import BenchmarkFitness, KnowledgeFitness
from ednag.fitness.knowledge import SourceScore
from ednag.samplers import ArchiveDiffusion
from ednag.samplers.calibration import Score
from ednag.spaces.base import SearchSpace, find_space

AT = (5, 10, 20, 50, 100)
NASBENCH201 = ("cifar10", "cifar100", "imagenet16-120")
TASKS = ("autoencoder", "class_object", "class_scene", "jigsaw", "normal", "room_layout", "segmentsemantic")
PROBLEMS = {"nasbench201": NASBENCH201, "transnas101_micro": TASKS, "transnas101_macro": TASKS}
EVALUATIONS = {"nasbench201": 100, "transnas101_micro": 100, "transnas101_macro": 50}


class Reversed:
    """The contrary of a score."""

    tabulated = True

    def __init__(self, score: Score) -> None:
        self.score = score

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.samplers.calibration.Score`."""
        return (-self.score(genes, valid)).where(valid, -torch.inf)


def mean(fitness: KnowledgeFitness, space: SearchSpace) -> Score:
    """What all sources say together, as one score."""
    scores = fitness(space_genes := every(space), space.valid(space_genes))
    return SourceScore(scores, space)


def every(space: SearchSpace) -> Tensor:
    """All gene strings in the order of codes."""
    return torch.cartesian_prod(*(torch.arange(n) for n in space.cardinalities))


VARIANTS: dict[str, Callable[[KnowledgeFitness, SearchSpace], list[Score]]] = {
    "none": lambda fitness, space: [],
    "mean of the sources": lambda fitness, space: [mean(fitness, space)],
    "each source": lambda fitness, space: fitness.parts(),
    "reversed mean alone": lambda fitness, space: [Reversed(mean(fitness, space))],
    "each, and one reversed": lambda fitness, space: [*fitness.parts(), Reversed(fitness.parts()[0])],
}


def measure(space: SearchSpace, dataset: str, variant: str, runs: int, chunk: int) -> dict[str, float]:
    """Success after some evaluations, mean evaluations, and mean validation and test values of what is selected."""
    target, knowledge, evaluations = BenchmarkFitness(space.name, dataset), KnowledgeFitness(), EVALUATIONS[space.name]
    target.setup(space)
    knowledge.unlearn(target)
    knowledge.setup(space)
    sampler = ArchiveDiffusion(priors=VARIANTS[variant](knowledge, space))
    found, selected = [], []
    for first in range(0, runs, chunk):
        archive = sampler.sample(space, target, range(first, min(first + chunk, runs)), evaluations).archive
        hit = torch.isin(archive.keys, target.optimum_keys()) & archive.filled
        found.append(torch.where(hit.any(1), hit.double().argmax(1) + 1.0, torch.inf))
        best = archive.fitness.argmax(1)
        selected.append(archive.genes[torch.arange(len(best)), best])
    spent, genes = torch.cat(found), torch.cat(selected)
    test = target.table.metrics[target.table.results(dataset, "test")][space.code(genes)]
    rates = {f"@{at}": float((spent <= at).double().mean()) for at in AT if at <= evaluations}
    return {
        **rates,
        "mean": float(spent.clamp(max=evaluations + 1).mean()),
        "valid": float(target.score(genes).mean()),
        "test": float(test.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=100, help="runs that advance in one batch")
    parser.add_argument("--spaces", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--folder", type=Path, default=Path("runs/knowledge_priors"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.spaces:
        for variant in options.variants:
            for dataset in PROBLEMS[name]:
                path = (
                    options.folder
                    / f"{name}-{dataset}-{variant.replace(' ', '_').replace(',', '')}-{options.runs}.json"
                )
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_json(path, measure(find_space(name), dataset, variant, options.runs, options.chunk))
                row = json.loads(path.read_text(encoding="utf-8"))
                print(
                    f"| {name}/{dataset} | {variant} | {' | '.join(f'{k} {v:.4g}' for k, v in row.items())} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
