"""Time the default sampler takes an evaluation, against evaluations, in spaces too large to enumerate.

    python experiments/scaling.py --evaluations 10000

The fitness is an NK landscape over the genes (Kauffman 1993; each gene with two others, plus its own effect), about 1 ms
a call with `--milliseconds 1`; its time is left out of the curve. Writes `scaling.csv` and `scaling.png` to `--folder`,
and prints a Markdown table. One run, one thread.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from ednag.core.storage import atomic_write, write_csv
from ednag.samplers import ArchiveDiffusion, State
from ednag.spaces import DARTS, MobileNetV3, SearchSpace

mpl.use("Agg")
from matplotlib import pyplot as plt

BLOCK = 500
SPACES: dict[str, type[SearchSpace]] = {"mobilenetv3": MobileNetV3, "darts": DARTS}


class Landscape:
    """An NK landscape, and the seconds spent in it."""

    def __init__(self, space: SearchSpace, milliseconds: float, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        length, width = space.num_genes, max(space.cardinalities)
        self.neighbours = torch.stack(
            [torch.cat([torch.tensor([i]), torch.randperm(length, generator=g)[:2]]) for i in range(length)]
        )
        self.tables = torch.randn(length, width**3, generator=g)
        self.effects = torch.randn(length, width, generator=g)
        self.powers = width ** torch.arange(3)
        self.genes = torch.arange(length)
        self.milliseconds, self.seconds = milliseconds, 0.0

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)``."""
        start = time.perf_counter()
        index = (genes[..., self.neighbours] * self.powers).sum(-1)
        value = (self.tables[self.genes, index] + self.effects[self.genes, genes]).mean(-1).double()
        time.sleep(max(self.milliseconds / 1000 - (time.perf_counter() - start), 0))
        self.seconds += time.perf_counter() - start
        return value.where(valid, -torch.inf)


def curve(name: str, evaluations: int, milliseconds: float) -> list[dict[str, float | str]]:
    """Milliseconds an evaluation, without the fitness, in blocks of evaluations."""
    space = SPACES[name]()
    fitness = Landscape(space, milliseconds)
    rows: list[dict[str, float | str]] = []
    begun, done = time.perf_counter(), 0

    def note(state: State, *_: Tensor) -> None:
        nonlocal begun, done
        count = int(state.archive.count[0])
        if count - done < BLOCK and count < evaluations:
            return
        own = time.perf_counter() - begun - fitness.seconds
        rows.append(
            {
                "space": name,
                "evaluations": count,
                "ms": own / max(count - done, 1) * 1000,
                "best": float(state.archive.fitness.max()),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
        begun, done, fitness.seconds = time.perf_counter(), count, 0.0

    ArchiveDiffusion().sample(space, fitness, [0], evaluations, after_round=note)
    return rows


def draw(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw the curves of all spaces."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name in dict.fromkeys(str(row["space"]) for row in rows):
        own = [row for row in rows if row["space"] == name]
        axes.plot([row["evaluations"] for row in own], [row["ms"] for row in own], marker="o", markersize=3, label=name)
    axes.set(xlabel="distinct architectures evaluated", ylabel="ms an evaluation, without the fitness", ylim=(0, None))
    axes.legend()
    atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=150))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--milliseconds", type=float, default=1.0, help="least time of a call of the fitness")
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in options.spaces for row in curve(name, options.evaluations, options.milliseconds)]
    options.folder.mkdir(parents=True, exist_ok=True)
    write_csv(options.folder / "scaling.csv", rows)
    draw(rows, options.folder / "scaling.png")
    print("| space | evaluations | ms an evaluation | best | peak memory, MiB |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['space']} | {row['evaluations']} | {row['ms']:.2f} | {row['best']:.3f} | {row['peak_mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
