"""Hypervolume of fronts of accuracy against measured latency on NAS-Bench-201, as a share of the true front's.

    python experiments/pareto.py --runs 100
    python experiments/pareto.py --runs 100 --devices all --samplers pareto

Accuracy is CIFAR-10's 200-epoch validation accuracy; latency is looked up for one device of the table, and both are known
for all 15,625 cells, so that the true front is too. Two reference points: the *loose* one is the slowest and the least
accurate cell of the space, the *tight* one has the latency of the most accurate cell and the median accuracy, so that what
any search finds at once counts for nothing. Each run evaluates 200 cells; seeds are 0, 1, 2, ... Prints a Markdown table of means and standard
deviations over runs. NSGA-II is pymoo's (pip install 'ednag[compare]'): populations of 10, 20 and 40, simulated binary
crossover and polynomial mutation on integers, no duplicates; a cell that it asks for twice is free.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ednag.benchmarks.locate import SHIPPED
from ednag.costs.latency_tables import LatencyTable
from ednag.fitness import BenchmarkFitness
from ednag.generation.metrics import hypervolume
from ednag.samplers import ParetoDiffusion, Problem, RandomSearch, RegularisedEvolution
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings

SPACE = NASBench201()
SAMPLERS = ("pareto", "NSGA-II, 10", "NSGA-II, 20", "NSGA-II, 40", "regularised evolution", "random search")


class Table:
    """Accuracy and latency of all cells.

    Attributes:
        genes: all cells, int64 ``(15625, L)``, in the order of their codes.
        accuracy: percent, float64 ``(15625,)``.
        cost: milliseconds, float64 ``(15625,)``.
    """

    quick = True

    def __init__(self, tables: Path, device: str) -> None:
        self.fitness = BenchmarkFitness(tables / "nasbench201.npz", "cifar10", 200)
        self.fitness.setup(SPACE)
        self.latency = LatencyTable(tables / "nasbench201_latency.npz")
        self.device = device
        self.genes = gene_strings(SPACE.cardinalities)
        self.genes = self.genes[SPACE.code(self.genes).argsort()]
        self.accuracy = self.fitness(self.genes, torch.ones(len(self.genes), dtype=torch.bool))
        self.cost = self(self.genes)

    def __call__(self, genes: Tensor) -> Tensor:
        """Latency of cells, see :class:`ednag.samplers.pareto_diffusion.CostFunction`."""
        return self.latency.latency(genes, self.device)

    def shares(self, cost: Tensor, accuracy: Tensor, member: Tensor) -> list[Tensor]:
        """Hypervolume of runs ``(R, M)`` over the true one, for the loose and the tight reference point."""
        everything = torch.ones_like(self.cost, dtype=torch.bool)
        best = int(self.accuracy.argmax())
        loose = float(self.cost.max()), float(self.accuracy.min())
        tight = float(self.cost[best]), float(self.accuracy.median())
        out = []
        for point in (loose, tight):
            true = hypervolume(self.cost, self.accuracy, everything, *point)
            out.append(hypervolume(cost, accuracy, member, *point) / true)
        return out


def nsga2(table: Table, seed: int, evaluations: int, population: int) -> list[int]:
    """Codes of the first distinct cells that NSGA-II asks for."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Base
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    seen: dict[int, None] = {}

    class Cells(Base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=SPACE.num_genes, n_obj=2, xl=0, xu=np.array(SPACE.cardinalities) - 1, vtype=int)

        def _evaluate(self, x: np.ndarray, out: dict[str, np.ndarray], *_: object, **__: object) -> None:
            codes = SPACE.code(torch.from_numpy(np.asarray(x).astype(np.int64)))
            for code in codes.tolist():
                if len(seen) < evaluations:
                    seen.setdefault(code)
            out["F"] = np.stack([-table.accuracy[codes].numpy(), table.cost[codes].numpy()], 1)

    variation = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(**variation),
        mutation=PM(**variation),
        eliminate_duplicates=True,
    )
    algorithm.setup(Cells(), seed=seed, termination=("n_gen", 500))
    while len(seen) < evaluations and algorithm.has_next():
        algorithm.next()
    return list(seen)


def measure(name: str, tables: Path, device: str, evaluations: int, seeds: list[int]) -> tuple[list[Tensor], float]:
    """Shares of the hypervolume of some runs, and the seconds they took."""
    torch.set_num_threads(1)
    table = Table(tables, device)
    begun = time.perf_counter()
    if name.startswith("NSGA-II"):
        found = [nsga2(table, seed, evaluations, int(name.split(",")[1])) for seed in seeds]
        codes = torch.tensor([row + row[-1:] * (evaluations - len(row)) for row in found])
        cost, accuracy, member = table.cost[codes], table.accuracy[codes], torch.ones_like(codes, dtype=torch.bool)
    else:
        kinds = {"random search": RandomSearch, "regularised evolution": RegularisedEvolution}
        sampler = ParetoDiffusion() if name == "pareto" else kinds[name]()
        archive = sampler.sample(Problem(SPACE, "genes", cost=table), table.fitness, seeds, evaluations).archive
        cost, accuracy, member = table(archive.genes), archive.fitness, archive.filled
    seconds = time.perf_counter() - begun
    return table.shares(cost, accuracy, member), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=SHIPPED, help="folder of the two tables")
    parser.add_argument("--devices", nargs="+", default=["raspi4", "titan_rtx_256", "samsung_a50"])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    devices = options.devices
    if devices == ["all"]:
        devices = list(LatencyTable(options.tables / "nasbench201_latency.npz").devices)
    seeds = list(range(options.runs))
    parts = [seeds[i : i + 25] for i in range(0, len(seeds), 25)]
    print("| device | sampler | runs | loose, mean ± sd | tight, mean ± sd | ms a run |\n|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for device in devices:
            for name in options.samplers:
                work = functools.partial(measure, name, options.tables, device, options.evaluations)
                found = pool.map(work, parts, chunksize=1)
                loose, tight = (torch.cat([shares[i] for shares, _ in found]) for i in (0, 1))
                spent = sum(seconds for _, seconds in found) / options.runs * 1000
                cells = [f"{share.mean():.4f} ± {share.std(correction=0):.4f}" for share in (loose, tight)]
                print(f"| {device} | {name} | {options.runs} | {' | '.join(cells)} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
