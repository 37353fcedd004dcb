"""How well many workers are used: a simulated clock, the NAS-Bench-201 table, and evaluations of random duration.

    python experiments/many_workers.py --runs 100
    python experiments/many_workers.py --runs 40 --first_seed 1000 --methods asynchronous --workers 8 32

Fitness is the validation accuracy on CIFAR-10 after 200 epochs; an evaluation takes 1 unit on average, log-normal with
`--spread`. For each number of workers, prints the mean and median number of evaluations begun, and the mean time, until the best
architecture of the table was evaluated; how much faster that was than with one worker, as a share of ideal; and the share
of the workers' time that was spent evaluating until `--budget` evaluations had ended. Methods: the default sampler with
evaluations under way (asynchronous), the same in rounds of as many as there are workers that wait for their slowest
(synchronous), and asynchronous regularised evolution and random search. The search is the very code that runs with `--executor`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ednag.benchmarks.locate import SHIPPED
from ednag.fitness import BenchmarkFitness
from ednag.samplers import ArchiveDiffusion, RandomSearch, RegularisedEvolution, Sampler
from ednag.samplers.asynchronous import Asynchronous
from ednag.spaces import NASBench201


@dataclass
class Clock:
    """Workers that take time by a clock of their own.

    Attributes:
        workers: how many.
        spread: standard deviation of the logarithm of a duration, whose mean is 1.
        seed: of the durations.
        now: time.
        busy: time that workers have worked.
        begun: evaluations begun.
    """

    workers: int
    spread: float
    seed: int
    now: float = 0.0
    busy: float = 0.0
    begun: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def duration(self) -> float:
        """Draw a duration."""
        self.begun += 1
        return float(np.exp(self.random.normal(-(self.spread**2) / 2, self.spread)))

    def measure(self, proposals: Iterator[Tensor | None]) -> Iterator[Tensor]:
        """Evaluate: workers take what is proposed, and end in the order of their times."""
        running: list[tuple[float, int, Tensor]] = []
        numbers = itertools.count()
        while True:
            while len(running) < self.workers and (genes := next(proposals, None)) is not None:
                took = self.duration()
                self.busy += took
                heapq.heappush(running, (self.now + took, next(numbers), genes))
            if not running:
                return
            self.now, _, genes = heapq.heappop(running)
            yield genes


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8, 32, 128])
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--budget", type=int, default=300, help="evaluations of a run, at most")
    parser.add_argument("--methods", nargs="+", default=["asynchronous", "synchronous", "evolution", "random"])
    return parser.parse_args()


@dataclass
class Found:
    """What a run came to: evaluations and time until the optimum (infinite if it was not found), utilisation, and its end."""

    evaluations: float
    time: float
    used: float
    end: float


def asynchronous(sampler: Sampler, fitness: BenchmarkFitness, clock: Clock, budget: int, seed: int) -> Found:
    """Search with evaluations under way, until the optimum is found and the budget is spent."""
    best = set(fitness.optimum_keys().tolist())
    found = [np.inf, np.inf]

    def heard(state, genes, values):
        if found[0] == np.inf and int(fitness.space.identity(genes[0, -1])) in best:
            found[:] = [float(clock.begun), clock.now]

    search = Asynchronous(sampler, sampler.init(fitness.space, [seed]), fitness, budget, after_round=heard)
    search.run(clock.measure)
    return Found(*found, clock.busy / (clock.workers * clock.now), clock.now)


def synchronous(fitness: BenchmarkFitness, clock: Clock, budget: int, seed: int) -> Found:
    """Search in rounds of as many evaluations as there are workers."""
    workers = clock.workers
    sampler = ArchiveDiffusion(batch=workers, batch_max=max(workers, 16)) if workers > 1 else ArchiveDiffusion()
    best, found = fitness.optimum_keys(), [np.inf, np.inf]
    before = 0

    def heard(state, genes, values):
        nonlocal before
        count = int(state.archive.count)
        free = [clock.now] * workers
        for _ in range(before, count):  # each to the worker that is free first
            took = clock.duration()
            clock.busy += took
            heapq.heapreplace(free, free[0] + took)
        clock.now, before = max(free), count
        if found[0] == np.inf and bool(state.archive.find(best[None])[0].any()):
            found[:] = [float(count), clock.now]

    sampler.sample(fitness.space, fitness, [seed], budget, after_round=heard)
    return Found(*found, clock.busy / (clock.workers * clock.now), clock.now)


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    fitness = BenchmarkFitness(SHIPPED / "nasbench201.npz", options.dataset, 200)
    fitness.setup(NASBench201())
    print(
        "| method | workers | found | evaluations, mean | median | time, mean | share of ideal | workers busy | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    samplers = {"asynchronous": ArchiveDiffusion, "evolution": RegularisedEvolution, "random": RandomSearch}
    for method in options.methods:
        alone = 0.0
        for workers in options.workers:
            begun, rows = time.process_time(), []
            for seed in range(options.first_seed, options.first_seed + options.runs):
                clock = Clock(workers, options.spread, seed)
                if method == "synchronous":
                    rows.append(synchronous(fitness, clock, options.budget, seed))
                else:
                    rows.append(asynchronous(samplers[method](), fitness, clock, options.budget, seed))
            done = [row for row in rows if row.time < np.inf]
            # A run that hasn't found it counts as if it had at its end: means are lower bounds then.
            ends = np.array([min(row.time, row.end) for row in rows])
            counts = np.array([min(row.evaluations, options.budget) for row in rows])
            alone = alone or ends.mean() * workers
            print(
                f"| {method} | {workers} | {len(done) / len(rows):.3f} | {counts.mean():.1f} | {np.median(counts):.0f} | "
                f"{ends.mean():.2f} | {alone / (workers * ends.mean()):.2f} | {np.mean([row.used for row in rows]):.3f} | "
                f"{time.process_time() - begun:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
