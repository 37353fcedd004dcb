"""Samplers on the benchmark tables, beside the published rows: rewrites their section of docs/results.md.

    python experiments/tables.py --runs 1000
    python experiments/tables.py --runs 20 --only nasbench201 --output tables.md

Without --output, a call with fewer than 1,000 runs writes runs/tables-RUNS.md and leaves the documentation as it is.

Fitness is the validation measure; the test measure of the architecture that a run selects is looked up after the run.
Seeds are 0, 1, 2, ... and every sampler has the same budget, of distinct architectures. A run has found the optimum when it has
evaluated any member of its isomorphism class; the share that found the optimal value itself is beside it, since twins were
trained apart. The optimisers of other libraries take seconds a run: they join with --slow_runs, on fewer seeds. Runs are
kept below --folder: called again after a kill, it goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ednag.core.storage import atomic_write
from ednag.fitness import BenchmarkFitness, NASBench101Fitness
from ednag.generation.comparison import Comparison
from ednag.samplers import (
    Bananas,
    LocalSearch,
    Nevergrad,
    OptunaTPE,
    PymooGA,
    RandomSearch,
    RegularisedEvolution,
    Sampler,
)
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
    parser.add_argument("--slow_runs", type=int, default=0, help="seeds of BANANAS and of other libraries' optimisers")
    parser.add_argument("--evaluations", type=int, default=200, help="distinct evaluations a run")
    parser.add_argument(
        "--together", type=int, default=125, help="runs that advance in one batch; regularised evolution's all do"
    )
    parser.add_argument("--only", default="", help="problems whose name begins so, such as nasbench201/cifar10")
    parser.add_argument("--samplers", nargs="+", default=None, help="some of them, by name")
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


def samplers(options: argparse.Namespace) -> dict[str, tuple[Sampler, int]]:
    """Each sampler, and on how many seeds it runs."""
    quick = {
        "default": load_preset("default"),
        "paper": load_preset("paper"),
        "local search": LocalSearch(),
        "regularised evolution": RegularisedEvolution(),
        "random search": RandomSearch(),
    }
    slow = {"BANANAS": Bananas(), "pymoo GA": PymooGA(), "Optuna TPE": OptunaTPE(), "Nevergrad": Nevergrad()}
    runs = dict.fromkeys(quick, options.runs) | dict.fromkeys(slow, min(options.slow_runs, options.runs))
    wanted = options.samplers or runs
    return {name: (sampler, runs[name]) for name, sampler in (quick | slow).items() if name in wanted and runs[name]}


def behind(row: dict[str, Any], default: dict[str, Any], point: int) -> float:
    """By how many standard errors a sampler's success is ahead of the default's; negative if it is behind.

    Standard errors are of shares with a run more of either outcome, so that none is zero.
    """
    variance = 0.0
    for some in (row, default):
        share = (some[f"success@{point}"] * some["runs"] + 1) / (some["runs"] + 2)
        variance += share * (1 - share) / (some["runs"] + 2)
    return float((row[f"success@{point}"] - default[f"success@{point}"]) / math.sqrt(variance))


def summary(found: Mapping[str, list[dict[str, Any]]], evaluations: int) -> list[str]:
    """Success of every sampler on every problem, and who is ahead of the default by more than two standard errors."""
    names = list(dict.fromkeys(row["sampler"] for rows in found.values() for row in rows))
    out = [f"### Optimum found within {evaluations} evaluations, share of runs", ""]
    out += ["| problem | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    ahead = []
    for problem, rows in found.items():
        by_name = {row["sampler"]: row for row in rows}
        cells = [f"{by_name[name][f'success@{evaluations}']:.3f}" if name in by_name else "" for name in names]
        out.append(f"| {problem} | " + " | ".join(cells) + " |")
        if "default" in by_name:
            distances = {name: behind(row, by_name["default"], evaluations) for name, row in by_name.items()}
            ahead += [f"{name} on {problem} ({distance:.1f})" for name, distance in distances.items() if distance > 2]
    out += ["", f"Ahead of `default` by more than two standard errors: {', '.join(ahead) or 'none'}.", ""]
    return out


def section(problem: Problem, rows: list[dict[str, Any]]) -> list[str]:
    """The table of one problem."""
    fitness, others = problem.fitness, published(problem.name)
    test = fitness.metric.replace("/valid/", "/test/")
    tested = f"{test} mean" in rows[0]
    points = sorted(int(key[8:]) for key in rows[0] if key.startswith("success@"))
    within = " / ".join(map(str, points))
    out = [f"### {problem.name}", "", f"Fitness: {fitness.name}.", ""]
    out += [
        f"| | runs | selected: valid | test | optimum found within {within}, % | its value, % | mean | ms a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = " / ".join(f"{100 * row[f'success@{point}']:.1f}" for point in points)
        values = [
            f"{mean:.{decimals(mean)}f} ± {row[f'{name} sd']:.{decimals(mean)}f}"
            for name in (fitness.metric, test)[: 1 + tested]
            for mean in [row[f"{name} mean"]]
        ]
        out.append(
            f"| {row['sampler']} | {row['runs']} | {values[0]} | {values[1] if tested else ''} | {shares} "
            f"| {100 * row[f'value@{points[-1]}']:.1f} | {row['evaluations_to_optimum']:.0f} | {row['ms_a_run']:.0f} |"
        )
    best = {"valid": fitness.optimum, **optimal_test(problem, test, tested)}
    cells = " | ".join(f"{best[s]:.{decimals(best[s])}f}" if s in best else "" for s in ("valid", "test"))
    out.append(f"| *best by validation* | | {cells} | | | | |")
    for method, value in others.rows.items():
        cells = f" | {value}" if others.split == "test" else f"{value} | "
        out.append(f"| *published: {method}* | | {cells} | | | | |")
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


def measure(problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each sampler.

    Regularised evolution meets what it knows thousands of times before some of its runs end: one batch of all its runs
    has the fewest rounds.
    """
    rows: list[dict[str, Any]] = []
    for name, (sampler, runs) in samplers(options).items():
        together = runs if isinstance(sampler, RegularisedEvolution) else options.together
        comparison = Comparison(
            problem.space, problem.fitness, {name: sampler}, range(runs), options.evaluations, together=together
        )
        with torch.inference_mode():
            rows += comparison.rows(comparison.run(options.folder / problem.name.replace("/", "-")))
    return rows


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    lines: list[str] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for problem in problems():
        if not problem.name.startswith(options.only):
            continue
        begun = time.perf_counter()
        found[problem.name] = rows = measure(problem, options)
        lines += (text := section(problem, rows))
        print("\n".join(text), f"({time.perf_counter() - begun:.0f} s)", flush=True)
    write(options.output, summary(found, options.evaluations) + lines)


if __name__ == "__main__":
    main()
