"""The page of a generation: the best architecture, the way there, and the front against a cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ednag.core.reading import read_bytes
from ednag.generation.report import Candidate, Report
from ednag.pages.blocks import Block, Chart, Drawing, Page, Section, Series, Table, possible_of
from ednag.pages.numbers import shown
from ednag.pages.sources import column, notes, read_csv, read_json

LIMITS = {
    "max_params": ("params", "parameters"),
    "max_flops": ("macs", "multiply-accumulates"),
    "max_latency_ms": ("latency_ms", "latency, ms"),
}
"""Options that limit a cost: its name in a report, and in words."""

MOST_POINTS = 2500
"""Most evaluated architectures that are drawn one by one."""


def generation_page(folder: Path) -> Page:
    """Make the page of a generation's run directory."""
    report = Report.load(folder / "report.json")
    best, counts = report.candidates[0], report.counts
    limits = {name: limit for name, limit in report.limits.items() if name in LIMITS}
    manifest = read_json(folder / "manifest.json")
    facts = [
        ("best " + _short(report.fitness), shown(best.fitness)),
        *((_title(name), shown(value)) for name, value in best.costs.items()),
        ("runs", shown(counts.get("runs"))),
        ("distinct evaluations", shown(counts.get("distinct_evaluations"))),
    ]
    if limits:
        facts.append(("violated the limits", shown(counts.get("violators", 0))))
    if counts.get("measured_latencies"):
        facts.append(("latencies measured", shown(counts["measured_latencies"])))
    return Page(
        "generate",
        _space(report),
        f"{best.architecture} has the best {report.fitness} of {shown(counts.get('distinct_evaluations'))} evaluated "
        "architectures.",
        facts,
        [
            Section("Best architecture", _drawings(folder)),
            Section("The front", _front(report, folder)),
            Section("Progress", _progress(report, folder)),
            Section("Candidates", [_candidates(report), *_limits(report, limits)], " ".join(report.notes)),
        ],
        notes(manifest, folder),
    )


def _space(report: Report) -> str:
    name = str(report.space.get("class_path", "")).rpartition(".")[2]
    return f"Architectures of {name}" if name else "Architectures"


def _short(fitness: str) -> str:
    return fitness if len(fitness) <= 24 else "fitness"


def _title(cost: str) -> str:
    return next((words for name, words in LIMITS.values() if name == cost), cost)


def _drawings(folder: Path) -> list[Block]:
    """Drawing of the best architecture, if there is one."""
    path = folder / "best.svg"
    if not path.exists():
        return []
    svg = read_bytes(path).decode("utf-8")
    return [Drawing("", svg[svg.index("<svg") :])]


def _front(report: Report, folder: Path) -> list[Block]:
    """Everything that was evaluated, and the front of it."""
    rows = read_csv(folder / "evaluated.csv")
    if report.front is None or not rows:
        return []
    title = report.front["title"]
    front = sorted((row for row in rows if row["front"] == "True"), key=lambda row: float(row["cost"]))
    heights = column(front, "fitness")
    floor = min(heights) - max(max(heights) - min(heights), 1e-9)
    others = [row for row in rows if row["front"] != "True" and float(row["fitness"]) >= floor]
    others = others[:: max(-(-len(others) // MOST_POINTS), 1)]

    def series(name: str, some: list[dict[str, str]], muted: bool) -> Series:
        tips = [
            f"{row['architecture']}\n{title} {shown(float(row['cost']))}, fitness {shown(float(row['fitness']))}"
            for row in some
        ]
        kind = "points" if muted else "step"
        return Series(name, column(some, "cost"), column(some, "fitness"), kind, tips, muted=muted)  # type: ignore[arg-type]

    chart = Chart(
        "front",
        f"{len(front)} architectures that no other dominates",
        title,
        "fitness",
        [series("evaluated", others, True), series("front", front, False)],
        possible=possible_of(report.fitness),
        caption=f"{report.fitness}. What is far below the front is left out.",
    )
    header = ["reference", title, "fitness", "hypervolume", "mean of runs", "standard deviation"]
    names = ("reference", "cost", "fitness", "hypervolume", "mean", "deviation")
    table = Table("hypervolume", header, [[row[n] for n in names] for row in report.front["hypervolumes"]])
    return [chart, table]


def _progress(report: Report, folder: Path) -> list[Block]:
    """Best fitness against evaluations, and what was proposed."""
    progress, history = read_csv(folder / "progress.csv"), read_csv(folder / "history.csv")
    blocks: list[Block] = []
    runs = int(report.counts.get("runs", 1))
    if progress:
        band = (column(progress, "quartile_1"), column(progress, "quartile_3")) if runs > 1 else ((), ())
        name = f"median of {runs} runs" if runs > 1 else ""
        kind: Literal["line", "step"] = "line" if runs > 1 else "step"
        line = Series(
            name, column(progress, "evaluations"), column(progress, "median"), kind, low=band[0], high=band[1]
        )
        caption = report.fitness + (f"; median and middle half of {runs} runs." if runs > 1 else ".")
        blocks.append(
            Chart(
                "progress",
                "Best so far",
                "distinct architectures evaluated",
                "fitness",
                [line],
                possible=possible_of(report.fitness),
                caption=caption,
            )
        )
    if history:
        shares = [Series(n, column(history, "step"), column(history, n)) for n in ("valid", "unique", "novel")]
        caption = "Valid in the space, distinct among a step's proposals, and never evaluated before; mean over runs."
        blocks.append(
            Chart("proposals", "Proposals", "step", "share of proposals", shares, y_range=(0, 1), caption=caption)
        )
    return blocks


def _candidates(report: Report) -> Table:
    """The report's architectures."""
    found = report.candidates
    costs = list(dict.fromkeys(name for one in found for name in one.costs))
    scores = list(dict.fromkeys(name for one in found for name in one.scores))
    header = ["#", "architecture", "fitness", *map(_title, costs), *scores, "seed", "evaluation"]
    rows = [
        [
            i,
            one.architecture,
            one.fitness,
            *(one.costs.get(name) for name in costs),
            *(one.scores.get(name) for name in scores),
            one.seed,
            one.evaluation,
        ]
        for i, one in enumerate(found, 1)
    ]
    return Table("candidates", header, rows, f"Fitness: {report.fitness}.")


def _limits(report: Report, limits: Mapping[str, Any]) -> list[Block]:
    """How much of each limit the candidates use."""
    if not limits:
        return []
    header = ["#", *(f"{LIMITS[name][1]}, % of {shown(float(limit))}" for name, limit in limits.items())]

    def share(one: Candidate, name: str, limit: Any) -> float | None:
        cost = one.costs.get(LIMITS[name][0])
        return None if cost is None else round(100 * cost / float(limit), 1)

    rows = [[i, *(share(one, n, v) for n, v in limits.items())] for i, one in enumerate(report.candidates, 1)]
    return [Table("limits", header, rows, "Costs against the limits that were set.")]
