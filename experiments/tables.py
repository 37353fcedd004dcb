"""Samplers on the benchmark tables, beside the published rows: rewrites their section of docs/results.md.

    python experiments/tables.py --runs 1000
    python experiments/tables.py --runs 20 --only nasbench201 --output tables.md

Without --output, a call with fewer than 1,000 runs writes runs/tables-RUNS.md and leaves the documentation as it is.

Fitness is the validation measure; the test measure of the architecture that a run selects is looked up after the run.
Seeds are 0, 1, 2, ... and every sampler has the same budget, of distinct architectures. Runs are kept below --folder:
called again after a kill, it goes on, and what several calls with other --samplers have left there is put together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ednag.core.storage import atomic_write
from ednag.fitness import BenchmarkFitness, NASBench101Fitness
from ednag.generation.comparison import Comparison
from ednag.samplers import LocalSearch, RandomSearch, RegularisedEvolution, Sampler
from ednag.samplers.presets import load_preset
from ednag.spaces import NASBench101, NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro

BEGIN, END = "<!-- experiments/tables.py writes from here -->", "<!-- to here -->"


class Published(NamedTuple):
    """What others print for a problem.

    Attributes:
        split: of which split it is, ``valid`` or ``test``; ``other`` where none of ours is comparable.
        rows: value by method, in the units of the table.
    """

    split: str
    rows: Mapping[str, str]


NASBENCH201 = {
    "cifar10": {"EDNAG": "94.37", "DiffusionNAG": "94.37", "MetaD2A": "94.37", "REA": "93.92", "random": "93.70"},
    "cifar100": {"EDNAG": "73.51", "DiffusionNAG": "73.51", "MetaD2A": "73.51", "REA": "71.84", "random": "71.04"},
    "imagenet16-120": {"EDNAG": "47.31"},
}
"""Test accuracy, as the EDNAG paper's tables (and MetaD2A's own README) have it."""

TRANSNAS101 = {
    "class_object": ("valid", {"EDNAG": ("46.28", "47.69"), "REA": ("45.39", "47.09")}),
    "class_scene": ("valid", {"EDNAG": ("54.91", "57.29"), "REA": ("54.62", "56.57")}),
    "autoencoder": ("valid", {"EDNAG": (".5763", ".7590"), "REA": (".5696", ".6998")}),
    "normal": ("valid", {"EDNAG": (".5926", ".6350"), "REA": (".5722", ".6088")}),
    "segmentsemantic": ("valid", {"EDNAG": ("26.19", "29.60"), "REA": ("25.52", "28.87")}),
    "room_layout": (
        "other",
        {"EDNAG": ("-.5901 (training)", "-.5620 (training)"), "REA": ("-.6175 (training)", "-.5873 (training)")},
    ),
    "jigsaw": ("valid", {"EDNAG": ("95.19", "96.98"), "REA": ("94.62", "96.88")}),
}
"""By task: of which split it is, and the EDNAG paper's values of cells and skeletons, in the units of the tables.

The paper prints SSIM times 100, and room layout's training loss without its sign.
"""


def published(name: str) -> Published:
    """What others print for a problem."""
    table, task = name.split("/")
    if table == "nasbench201":
        return Published("test", NASBENCH201[task])
    if table == "nasbench101":
        return Published("other", {"EDNAG": "94.46 (test, of all 423,624 cells)"})
    split, rows = TRANSNAS101[task]
    return Published(split, {method: values[table.endswith("macro")] for method, values in rows.items()})


class Problem(NamedTuple):
    """A space and what is to be maximised in it."""

    name: str
    space: SearchSpace
    fitness: BenchmarkFitness | NASBench101Fitness


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=200, help="distinct evaluations a run")
    parser.add_argument("--together", type=int, default=125, help="runs that advance in one batch")
    parser.add_argument("--only", default="", help="problems whose name begins so, such as nasbench201/cifar10")
    parser.add_argument("--samplers", nargs="+", default=None)
    parser.add_argument("--folder", type=Path, default=Path("runs/tables"))
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    if options.output is None:
        whole = options.runs >= 1000 and not options.only
        options.output = Path("docs/results.md") if whole else Path(f"runs/tables-{options.runs}.md")
    return options


def problems() -> Iterator[Problem]:
    """The paper's 17 problems, and NAS-Bench-101 by the sample of it that ships."""
    for dataset in NASBENCH201:
        yield Problem(f"nasbench201/{dataset}", NASBench201(), BenchmarkFitness("nasbench201", dataset))
    for space in (TransNAS101Micro(), TransNAS101Macro()):
        for task in TRANSNAS101:
            yield Problem(f"{space.name}/{task}", space, BenchmarkFitness(space.name, task))
    yield Problem("nasbench101/cifar10", NASBench101(), NASBench101Fitness("nasbench101"))


def samplers() -> dict[str, Sampler]:
    return {
        "default": load_preset("default"),
        "paper": load_preset("paper"),
        "local search": LocalSearch(),
        "regularised evolution": RegularisedEvolution(),
        "random search": RandomSearch(),
    }


def section(problem: Problem, rows: list[dict[str, Any]]) -> list[str]:
    """The table of one problem."""
    fitness, others = problem.fitness, published(problem.name)
    test = fitness.metric.replace("/valid/", "/test/")
    tested = f"{test} mean" in rows[0]
    points = sorted(int(key[8:]) for key in rows[0] if key.startswith("success@"))
    within = " / ".join(map(str, points))
    out = [f"### {problem.name}", "", f"Fitness: {fitness.name}.", ""]
    out += [
        f"| | selected: valid | test | best valid value found within {within}, % | evaluations | ms a run |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = " / ".join(f"{100 * row[f'success@{point}']:.1f}" for point in points)
        values = [
            f"{mean:.{decimals(mean)}f} ± {row[f'{name} sd']:.{decimals(mean)}f}"
            for name in (fitness.metric, test)[: 1 + tested]
            for mean in [row[f"{name} mean"]]
        ]
        out.append(
            f"| {row['sampler']} | {values[0]} | {values[1] if tested else ''} "
            f"| {found} "
            f"| {row['evaluations']:.0f} | {row['ms_a_run']:.0f} |"
        )
    best = {"valid": fitness.optimum, **optimal_test(problem, test, tested)}
    cells = " | ".join(f"{best[s]:.{decimals(best[s])}f}" if s in best else "" for s in ("valid", "test"))
    out.append(f"| *best by validation* | {cells} | | | |")
    for method, value in others.rows.items():
        cells = f" | {value}" if others.split == "test" else f"{value} | "
        out.append(f"| *published: {method}* | {cells} | | | |")
    return [*out, ""]


def optimal_test(problem: Problem, test: str, tested: bool) -> dict[str, float]:
    """Test measure of the architecture with the best validation measure, where the table has it."""
    if not tested or not isinstance(problem.fitness, BenchmarkFitness):
        return {}
    table = problem.fitness.table
    valid = table.metric(problem.fitness.metric).nan_to_num(nan=-torch.inf)
    return {"test": float(table.metrics[test][valid.argmax()])}


def decimals(value: float) -> int:
    """Two decimals for percentages, four for losses."""
    return 2 if abs(value) >= 2 else 4


def write(path: Path, lines: list[str]) -> None:
    """Replace what is between the two marks of a page, atomically; a page without them is written whole."""
    text = "\n".join(lines)
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN in page and END in page:
        text = f"{page[: page.index(BEGIN)]}{BEGIN}\n\n{text}\n{page[page.index(END) :]}"
    atomic_write(path, lambda stream: stream.write(text.encode()))


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    chosen = {key: value for key, value in samplers().items() if options.samplers is None or key in options.samplers}
    lines: list[str] = []
    for problem in problems():
        if not problem.name.startswith(options.only):
            continue
        begun = time.perf_counter()
        comparison = Comparison(
            problem.space,
            problem.fitness,
            chosen,
            range(options.runs),
            options.evaluations,
            together=options.together,
        )
        with torch.inference_mode():
            rows = comparison.rows(comparison.run(options.folder / problem.name.replace("/", "-")))
        lines += section(problem, rows)
        print("\n".join(section(problem, rows)), f"({time.perf_counter() - begun:.0f} s)", flush=True)
    write(options.output, lines)


if __name__ == "__main__":
    main()
