"""The pages of a comparison of samplers, and of a collection of trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ednag.core.reading import read_bytes, read_npz
from ednag.pages.blocks import PERCENT, Block, Chart, Page, Section, Series, Table, possible_of
from ednag.pages.numbers import shown, with_deviation
from ednag.pages.sources import column, notes, read_csv, read_json


def comparison_page(folder: Path) -> Page:
    """Make the page of a comparison's run directory."""
    found, manifest = read_json(folder / "comparison.json"), read_json(folder / "manifest.json")
    rows: list[dict[str, Any]] = found["rows"]
    best = min(rows, key=lambda row: row["mean_regret"])
    return Page(
        "compare",
        f"Comparison of {len(rows)} samplers",
        f"{best['sampler']} has the least mean regret.",
        [
            ("runs of each", shown(rows[0]["runs"])),
            ("evaluations a run", shown(manifest.get("counts", {}).get("evaluations"))),
        ],
        [
            Section("Success and the best so far", _curves(folder, found["fitness"])),
            Section("By the number of evaluations", _by_evaluations(rows)),
            Section(
                "Over the whole budget",
                [_spent(rows), *_metrics(rows)],
                "The p-value is of Wilcoxon's signed-rank test on the mean regret, paired by seed, against the first row; "
                "Holm-corrected.",
            ),
        ],
        notes(manifest, folder),
    )


POINTS = {
    "success": "Share of runs that have evaluated the optimum",
    "value": "Share of runs that have found the optimum's value, of whichever architecture",
    "regret": "Mean distance of the best so far from the optimum",
}
"""What a comparison tells by the number of evaluations."""


def _by_evaluations(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A table of what was reached after some numbers of evaluations, for each way of telling it."""
    tables: list[Table] = []
    for kind in dict.fromkeys(name.partition("@")[0] for name in rows[0] if "@" in name):
        names = [name for name in rows[0] if name.startswith(f"{kind}@")]
        header = ["sampler", *(f"{kind}@{int(name.partition('@')[2]):,}" for name in names)]
        cells = [[row["sampler"], *(row[name] for name in names)] for row in rows]
        if tables and [row[1:] for row in tables[-1].rows] == [row[1:] for row in cells]:
            continue  # no other architecture than the optimum has its value
        tables.append(Table(f"{kind}_by_evaluations", header, cells, f"{POINTS.get(kind, kind.capitalize())}."))
    return [*tables]


def _spent(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What each sampler took and how far it was from the optimum."""
    names = [name for name in rows[0] if "@" not in name and name != "runs" and not name.endswith((" mean", " sd"))]
    titles = [{"ms_a_run": "ms per run"}.get(name, name.replace("_", " ")) for name in names]
    return Table("budget", titles, [[row[name] for name in names] for row in rows])


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Metrics of what the runs selected: a mean and its deviation share a column."""
    names = [name.removesuffix(" mean") for name in rows[0] if name.endswith(" mean")]
    cells = [
        [row["sampler"], *(with_deviation(row[f"{name} mean"], row[f"{name} sd"]) for name in names)] for row in rows
    ]
    caption = "Of each run's best architecture: mean and standard deviation."
    return [Table("metrics", ["sampler", *names], cells, caption)] if names else []


def _curves(folder: Path, fitness: str) -> list[Block]:
    """Success and best so far against evaluations."""
    rows = read_csv(folder / "curves.csv")
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    groups = {name: [row for row in rows if row["sampler"] == name] for name in names}
    charts: list[Block] = []
    label = "distinct architectures evaluated"
    if rows and rows[0]["success"]:
        series = [Series(name, column(some, "evaluations"), column(some, "success")) for name, some in groups.items()]
        charts.append(
            Chart("success", "Success", label, "share of runs that found the optimum", series, y_range=(0, 1))
        )
    settled = {name: some[len(some) // 10 :] for name, some in groups.items()}  # first evaluations are far below
    series = [
        Series(
            name,
            column(some, "evaluations"),
            column(some, "median"),
            low=column(some, "quartile_1"),
            high=column(some, "quartile_3"),
        )
        for name, some in settled.items()
    ]
    caption = f"{fitness}; median and middle half of the runs, without their first tenth."
    bounds = possible_of(fitness)
    charts.append(Chart("best", "Best so far", label, "fitness", series, possible=bounds, caption=caption))
    return charts


def collection_page(folder: Path) -> Page:
    """Make the page of a collection's run directory."""
    rows = read_npz(folder / "rows.npz", "the rows of a collection", "continue the collection to write it again")
    tasks = read_json(folder / "tasks.json")["tasks"]
    sources = np.array([task["source"] for task in tasks])[rows["task"]]
    failed = np.isnan(rows["valid"])
    budget = json.loads(str(rows["budget"]))
    return Page(
        "collect",
        f"{len(failed):,} trainings on {len(set(rows['task'].tolist()))} tasks",
        f"Architectures of {rows['space']}; each training: {_budget(budget)}.",
        [
            ("trainings", shown(len(failed))),
            ("tasks", shown(len(tasks))),
            ("sources", shown(len(set(sources)))),
            ("failed", shown(int(failed.sum()))),
            ("training, hours", shown(round(float(rows["seconds"].sum()) / 3600, 2))),
        ],
        [
            Section("Accuracy by source", [_spread(rows, sources, failed), _by_source(rows, sources, failed)]),
            Section("Time", _by_time(rows, sources, failed)),
            Section("Failures", _failures(folder)),
        ],
        notes(read_json(folder / "manifest.json"), folder),
    )


def _budget(budget: Mapping[str, Any]) -> str:
    """Write settings in words, those of the network among them."""
    plain = {name: value for name, value in budget.items() if not isinstance(value, dict)}
    for inner in (value for value in budget.values() if isinstance(value, dict)):
        plain |= inner
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items() if value not in (None, False))


def _spread(rows: Mapping[str, np.ndarray], sources: np.ndarray, failed: np.ndarray) -> Chart:
    """Validation accuracy of each training, task by task, in the order of the tasks' medians."""
    series = []
    medians = {
        int(task): float(np.median(rows["valid"][(rows["task"] == task) & ~failed]))
        for task in np.unique(rows["task"][~failed])
    }
    rank = {task: place + 1 for place, (task, _) in enumerate(sorted(medians.items(), key=lambda item: item[1]))}
    for source in sorted(set(sources.tolist())):
        chosen = (sources == source) & ~failed
        x = [float(rank[int(task)]) for task in rows["task"][chosen]]
        y = [float(value) for value in rows["valid"][chosen]]
        tips = [
            f"{source}, task {int(task)}\nvalidation {v:.1f} %" for task, v in zip(rows["task"][chosen], y, strict=True)
        ]
        series.append(Series(source, x, y, "points", tips))
    return Chart(
        "tasks",
        "Every training, by task",
        "task, in the order of its median",
        "validation accuracy, %",
        series,
        caption="Point to a training to see its source.",
    )


def _by_source(rows: Mapping[str, np.ndarray], sources: np.ndarray, failed: np.ndarray) -> Table:
    """Spread of the validation accuracy over the trainings of each source."""
    table = []
    for source in sorted(set(sources.tolist())):
        valid = rows["valid"][(sources == source) & ~failed].astype(float)
        low, middle, high = np.quantile(valid, [0.1, 0.5, 0.9]) if len(valid) else [math.nan] * 3
        count, lost = int((sources == source).sum()), int(((sources == source) & failed).sum())
        tasks = len(set(rows["task"][sources == source].tolist()))
        table.append([source, tasks, count, lost, float(low), float(middle), float(high)])
    header = ["source", "tasks", "trainings", "failed", "10th percentile, %", "median, %", "90th percentile, %"]
    return Table("sources", header, table, "Validation accuracy of the trainings of each source.")


def _by_time(rows: Mapping[str, np.ndarray], sources: np.ndarray, failed: np.ndarray) -> list[Block]:
    """Validation accuracy against the seconds of a training."""
    series = []
    for source in sorted(set(sources.tolist())):
        chosen = (sources == source) & ~failed
        x, y = rows["seconds"][chosen].astype(float).tolist(), rows["valid"][chosen].astype(float).tolist()
        series.append(Series(source, x, y, "points"))
    if not any(len(one.x) for one in series):
        return []
    return [
        Chart(
            "time",
            "Accuracy by time",
            "seconds of a training",
            "validation accuracy, %",
            series,
            x_log=True,
            possible=PERCENT,
        )
    ]


def _failures(folder: Path) -> list[Block]:
    """What failed, and why, as the journals say."""
    found: list[Sequence[object]] = []
    for path in sorted((folder / "rows").glob("*.jsonl")):
        for line in read_bytes(path).decode("utf-8").splitlines():
            if '"error": null' not in line and line.endswith("}"):
                row = json.loads(line)
                found.append([path.stem, " ".join(map(str, row["genes"])), row["error"]])
    return [Table("failures", ["task", "genes", "why"], found[:50])] if found else []
