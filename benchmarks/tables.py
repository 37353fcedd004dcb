"""Samplers on the benchmark tables, beside the published rows: writes docs/tables.md.

    python benchmarks/tables.py --runs 1000
    python benchmarks/tables.py --runs 20 --only nasbench201 --output tables.md

Fitness is the validation measure; the test measure of the architecture that a run selects is looked up after the run
(NAS-Bench-101's sample has none, so its validation accuracy is shown). Seeds are 0, 1, 2, ...; success is the share of
runs that evaluated the best-validation architecture. `paper` takes its own 100 steps of 30 members, the others the
budget. Runs are kept below --folder: called again after a kill, it goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ednag.comparison import Comparison
from ednag.fitness import BenchmarkFitness, Fitness, NASBench101Fitness
from ednag.presets import load_preset
from ednag.samplers import LocalSearch, RandomSearch, RegularisedEvolution, Sampler
from ednag.spaces import NASBench101, NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro
from ednag.storage import atomic_write

TASKS = ("class_object", "class_scene", "room_layout", "segmentsemantic")

PUBLISHED = {
    "nasbench201/cifar10": "test: EDNAG 94.37, DiffusionNAG 94.37, REA 93.92, random 93.70; table optimum 94.37",
    "nasbench201/cifar100": "test: EDNAG 73.51, DiffusionNAG 73.51, REA 71.84, random 71.04; table optimum 73.51",
    "nasbench101/cifar10": "test: EDNAG 94.46 on all 423,624 cells (optimum 94.47); not comparable with a sample's valid",
    "transnas101_micro/class_object": "EDNAG 46.28, REA 45.39; optimum 46.32",
    "transnas101_micro/class_scene": "EDNAG 54.91, REA 54.62; optimum 54.94",
    "transnas101_micro/room_layout": "loss, of training: EDNAG 59.01, REA 61.75; optimum 58.71",
    "transnas101_micro/segmentsemantic": "EDNAG 26.19, REA 25.52; optimum 26.27",
    "transnas101_macro/class_object": "EDNAG 47.69, REA 47.09; optimum 47.96",
    "transnas101_macro/class_scene": "EDNAG 57.29, REA 56.57; optimum 57.48",
    "transnas101_macro/room_layout": "loss, of training: EDNAG 56.20, REA 58.73; optimum 55.68",
    "transnas101_macro/segmentsemantic": "EDNAG 29.60, REA 28.87; optimum 29.66",
}
"""What others print, as of the EDNAG paper's tables."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=200, help="distinct evaluations a run")
    parser.add_argument("--together", type=int, default=125, help="runs that advance in one batch")
    parser.add_argument("--only", default="", help="problems whose name begins so, such as nasbench201/cifar10")
    parser.add_argument("--samplers", nargs="+", default=None)
    parser.add_argument("--folder", type=Path, default=Path("runs/tables"))
    parser.add_argument("--output", type=Path, default=Path("docs/tables.md"))
    return parser.parse_args()


def problems() -> Iterator[tuple[str, SearchSpace, Fitness]]:
    """Name, space and fitness of each problem whose table is here."""
    for dataset in ("cifar10", "cifar100"):
        yield f"nasbench201/{dataset}", NASBench201(), BenchmarkFitness("nasbench201", dataset)
    for space in (TransNAS101Micro(), TransNAS101Macro()):
        for task in TASKS:
            yield f"{space.name}/{task}", space, BenchmarkFitness(space.name, task)
    yield "nasbench101/cifar10", NASBench101(), NASBench101Fitness("nasbench101")


def samplers() -> dict[str, Sampler]:
    return {
        "default": load_preset("default"),
        "paper": load_preset("paper"),
        "local search": LocalSearch(),
        "regularised evolution": RegularisedEvolution(),
        "random search": RandomSearch(),
    }


def lines(name: str, rows: list[dict[str, Any]], measure: str) -> list[str]:
    """The section of one problem."""
    tested = next((key[:-5] for key in rows[0] if "/test/" in key and key.endswith(" mean")), None)
    shown = tested or next(key[:-5] for key in rows[0] if "/valid/" in key and key.endswith(" mean"))
    success = max((key for key in rows[0] if key.startswith("success@")), key=lambda key: int(key[8:]), default=None)
    out = [f"## {name}", "", f"Fitness: {measure}. Published: {PUBLISHED[name]}.", ""]
    out += [
        f"| sampler | runs | {shown}, mean ± sd | success | distinct evaluations | ms a run |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate = f"{100 * row[success]:.1f} % ({round(row[success] * row['runs'])})" if success else "-"
        out.append(
            f"| {row['sampler']} | {row['runs']} | {row[f'{shown} mean']:.4g} ± {row[f'{shown} sd']:.3g} | {rate} "
            f"| {row['evaluations']:.0f} | {row['ms_a_run']:.0f} |"
        )
    return [*out, ""]


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    chosen = {key: value for key, value in samplers().items() if options.samplers is None or key in options.samplers}
    text = ["# Samplers on the benchmark tables", "", f"`python benchmarks/tables.py --runs {options.runs}`", ""]
    text += [*(__doc__ or "").split("\n\n")[2].splitlines(), ""]
    for name, space, fitness in problems():
        if not name.startswith(options.only):
            continue
        begun = time.perf_counter()
        comparison = Comparison(
            space, fitness, chosen, range(options.runs), options.evaluations, together=options.together
        )
        with torch.inference_mode():
            rows = comparison.rows(comparison.run(options.folder / name.replace("/", "-")))
        text += lines(name, rows, fitness.name)
        print("\n".join(lines(name, rows, fitness.name)), f"({time.perf_counter() - begun:.0f} s)", flush=True)
        content = "\n".join(text).encode()
        atomic_write(options.output, lambda stream, content=content: stream.write(content))


if __name__ == "__main__":
    main()
