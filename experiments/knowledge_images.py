"""Whether looking at images adds anything to knowledge from other data sets' tables.

    ednag fit --config fit/meta_predictor --model.task_aware true --data.images true --run_dir runs/aware
    python experiments/knowledge_images.py cifar10 FOLDER --image_size 32 --predictor runs/aware

FOLDER holds images of the data set, `train/<class>/*`. Prints, for several weights of that predictor's
standardised score beside the knowledge without that data set's table: Spearman's correlation with validation accuracy over
all cells and over the best tenth, and test accuracy of the first choice and of the best of five distinct cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from scipy.stats import spearmanr

from ednag.core.archive import first_occurrence
from ednag.data import ImageFolder
from ednag.fitness import BenchmarkFitness, KnowledgeFitness, MetaFitness
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["cifar10", "cifar100", "imagenet16-120"])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--predictor", type=Path, required=True, help="run of `ednag fit`, whose predictor looks at images"
    )
    parser.add_argument("--image_size", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    space, target = NASBench201(), BenchmarkFitness("nasbench201", options.dataset)
    genes = gene_strings(space.cardinalities)
    everything = torch.ones(len(genes), dtype=torch.bool)
    knowledge, meta = KnowledgeFitness(), MetaFitness(options.predictor)
    knowledge.unlearn(target)
    knowledge.setup(space)
    meta.setup(space, ImageFolder(root=options.folder, image_size=options.image_size))
    known, seen = knowledge(genes, everything), meta(genes, everything)
    seen = (seen - seen.mean()) / seen.std()
    valid = target.table.metrics[target.metric]
    test = target.table.metrics[target.table.results(options.dataset, "test")]
    top = valid >= valid.quantile(0.9)
    print("| weight | Spearman | of the best tenth | test of the first | of five |\n|---|---|---|---|---|")
    for weight in WEIGHTS:
        score = known + weight * seen
        order = score.argsort(descending=True, stable=True)
        five = order[first_occurrence(space.identity(genes[order]))][:5]
        rho, best = spearmanr(score, valid)[0], spearmanr(score[top], valid[top])[0]
        print(f"| {weight:g} | {rho:.4f} | {best:.3f} | {test[five[0]]:.2f} | {test[five].max():.2f} |")


if __name__ == "__main__":
    main()
