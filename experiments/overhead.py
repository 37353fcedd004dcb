"""Time the default sampler itself takes, for one distinct evaluation of one run: alone, and in batches of runs.

    python experiments/overhead.py

Fitness is a look-up in the NAS-Bench-201 table, and counted. One thread; processor time, so that other work on the machine
changes little.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from ednag.benchmarks.locate import SHIPPED
from ednag.fitness import BenchmarkFitness
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import NASBench201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SHIPPED / "nasbench201.npz"
    parser.add_argument("--table", type=Path, default=default)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--evaluations", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    space, fitness = NASBench201(), BenchmarkFitness(options.table, "cifar10", 200)
    fitness.setup(space)
    ArchiveDiffusion().sample(space, fitness, [0], 20)
    print("| runs in a batch | ms an evaluation and run |\n|---|---|")
    for runs in options.runs:
        begun = time.process_time()
        ArchiveDiffusion().sample(space, fitness, range(runs), options.evaluations)
        each = (time.process_time() - begun) / options.evaluations / runs
        print(f"| {runs} | {1000 * each:.2f} |", flush=True)


if __name__ == "__main__":
    main()
