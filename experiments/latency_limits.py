"""How many latencies have to be measured for the same result: under a limit, and for a front.

    python experiments/latency_limits.py --seeds 10
    python experiments/latency_limits.py --model  # how far predictions are off, on every device of the shipped tables

The devices of NAS-Bench-201's latency table stand for devices that are measured: a measurement is a look-up, with noise,
that is counted. "All measured" measures whatever is proposed, as without a model of latencies; "screened" is the default.
Best is the true accuracy of the best architecture whose measured latency is within the limit.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from ednag.benchmarks.arrays import open_table
from ednag.core.archive import feasible
from ednag.core.noise import Noise
from ednag.costs import latency_guess
from ednag.costs import model as costs_model
from ednag.costs.latency_tables import LatencyTable, _measured
from ednag.costs.model import CostModel, Limits
from ednag.fitness import BenchmarkFitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.generation.front import Front
from ednag.generation.metrics import hypervolume
from ednag.samplers import ArchiveDiffusion, ParetoDiffusion, Problem
from ednag.spaces import MobileNetV3, NASBench201

SPACE = NASBench201()


class Simulated(CostModel):
    """Measures by a table, each architecture with its own error of 2 %."""

    def __init__(self, screened: bool) -> None:
        super().__init__(latency_device="cpu")
        self.screened, self.made = screened, 0

    def _build(self, genes: Tensor) -> Any:
        self.made += 1
        return genes

    def bounds(self, genes: Tensor) -> tuple[Tensor, Tensor] | None:
        """Predict, or don't."""
        return super().bounds(genes) if self.screened else None


def limited(limit: float, seed: int, evaluations: int, screened: bool) -> tuple[float, int, int]:
    """Best accuracy under a limit, measurements, and evaluations."""
    model = Simulated(screened)
    fitness = ConstrainedFitness(BenchmarkFitness("nasbench201", "cifar10"), Limits(max_latency_ms=limit), model)
    fitness.setup(SPACE)
    archive = ArchiveDiffusion().sample(Problem(SPACE), fitness, [seed], evaluations).archive
    for place in archive.fitness[0].argsort(descending=True).tolist():
        if feasible(archive.fitness[0, place]) and fitness.kept(archive.genes[0, place]):
            return float(archive.fitness[0, place]), model.made, int(archive.paid[0])
    return float("nan"), model.made, int(archive.paid[0])


def front(device: str, seed: int, evaluations: int, screened: bool, most: float) -> tuple[float, int, int]:
    """Hypervolume of the reported front, by the table's latencies, measurements, and size of the front."""
    model = Simulated(screened)
    fitness = ConstrainedFitness(BenchmarkFitness("nasbench201", "cifar10"), Limits(), model)
    fitness.setup(SPACE)
    found = Front("latency_ms", fitness)
    found.setup()
    archive = ParetoDiffusion().sample(Problem(SPACE, "genes", cost=found.cost), fitness, [seed], evaluations).archive
    found.settle(archive)
    places = found.places(archive)
    reported = torch.zeros_like(archive.filled)
    reported[torch.tensor(places).unbind(1)] = True
    true = LatencyTable("nasbench201_latency").latency(archive.genes, device)
    return float(hypervolume(true, archive.fitness, reported, most, 80.0)[0]), model.made, len(places)


def deviations(seeds: int, numbers: tuple[int, ...] = (8, 12, 24, 40)) -> None:
    """Print the deviation of the log of predicted latencies from unseen ones, after so many random measurements."""
    cells = SPACE.random(Noise([3]), 1000)[0]
    table = LatencyTable("nasbench201_latency")
    noise = Noise([1]).normal(1000)[0]
    sets = [(SPACE, device, cells, table.latency(cells, device) * (1 + 0.02 * noise)) for device in table.devices]
    file, content = open_table("ofa_mobilenetv3")
    genes, sides, latencies, devices = _measured(content, file.path)
    largest = sides == sides.max()
    sets += [(MobileNetV3(), f"{d}, MobileNetV3", genes[largest], latencies[largest, i]) for i, d in enumerate(devices)]
    for space, device, genes, latency in sets:
        model = CostModel(input_shape=(3, 32, 32) if space is SPACE else (3, 224, 224))
        model.setup(space)
        parts, told = model._described(genes), []
        for number in numbers:
            off = []
            for seed in range(seeds):
                order = torch.randperm(len(genes), generator=torch.Generator().manual_seed(seed))
                seen, others = order[:number], order[number:]
                guess = latency_guess.LatencyGuess([part[seen] for part in parts], latency[seen])
                found = latency_guess.middle(guess.bounds([part[others] for part in parts]))
                off.append((found / latency[others]).log().std())
            told.append(f"{number}: {float(torch.stack(off).mean()):.3f}")
        print(f"{device} ({float(latency.log().std()):.2f}): {', '.join(told)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--devices", nargs="+", default=["pixel3", "raspi4", "titan_rtx_1"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.02, 0.1], help="of cells that are within limits")
    parser.add_argument("--model", action="store_true", help="measure the model of latencies alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.model:
        deviations(options.seeds)
        return
    table = LatencyTable("nasbench201_latency")
    for device in options.devices:
        everything = table.latency(SPACE.random(Noise([0]), 5000)[0], device)

        def measure(genes: Tensor, *_: object, device: str = device, **__: object) -> float:
            error = Noise([int(SPACE.code(genes))]).normal(1)[0, 0]
            return float(table.latency(genes, device)) * float(1 + 0.02 * error)

        costs_model.measure_latency = measure  # type: ignore[assignment]
        for share in options.shares:
            limit = float(everything.quantile(share))
            for screened in (False, True):
                found = [limited(limit, s, options.evaluations, screened) for s in range(options.seeds)]
                best, made, paid = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
                name = "screened" if screened else "all measured"
                print(
                    f"{device}, {share:.0%} within {limit:.3g} ms, {name}: best {best:.3f} %, {made:.0f} measured, {paid:.0f} evaluated"
                )
        for screened in (False, True):
            runs = [
                front(device, s, options.evaluations, screened, float(everything.max())) for s in range(options.seeds)
            ]
            area, made, size = torch.tensor(runs, dtype=torch.float64).mean(0).tolist()
            name = "screened" if screened else "all measured"
            print(f"{device}, front, {name}: hypervolume {area:.4g} of {size:.0f}, {made:.0f} measured", flush=True)
    print(f"first prediction after {latency_guess.FIRST} measurements")


if __name__ == "__main__":
    main()
