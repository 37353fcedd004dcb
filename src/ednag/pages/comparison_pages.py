"""The pages of a comparison of samplers, and of a collection of trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ednag.core.reading import read_bytes, read_npz
from ednag.pages.blocks import Block, Chart, Page, Section, Series, Table
from ednag.pages.numbers import shown
from ednag.pages.sources import column, notes, read_csv, read_json


def comparison_page(folder: Path) -> Page:
    """Make the page of a comparison's run directory."""
    found, manifest = read_json(folder / "comparison.json"), read_json(folder / "manifest.json")
    rows: list[dict[str, Any]] = found["rows"]
    points = [name for name in rows[0] if "@" in name]
    whole = [_whole(row) for row in rows]
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
            Section("Success and regret", _curves(folder, found["fitness"])),
            Section(
                "By the number of evaluations",
                [
                    Table(
                        "by_evaluations",
                        ["sampler", *points],
                        [[row["sampler"], *(row[n] for n in points)] for row in rows],
                    )
                ],
                "Success: share of runs that have evaluated the optimum. Regret: mean distance of the best so far from it.",
            ),
            Section(
                "Over the whole budget",
                [Table("budget", list(whole[0]), [list(row.values()) for row in whole])],
                "Metrics of each run's best architecture, mean and standard deviation. The p-value is of Wilcoxon's signed-rank test on the mean regret, paired by seed, against the first row; "
                "Holm-corrected.",
            ),
        ],
        notes(manifest, folder),
    )


def _whole(row: Mapping[str, Any]) -> dict[str, object]:
    """What is said of a sampler for the whole budget: a mean and its deviation share a column."""
    out: dict[str, object] = {}
    for name, value in row.items():
        if "@" in name or name == "runs" or name.endswith(" sd"):
            continue
        if name.endswith(" mean"):
            metric = name.removesuffix(" mean")
            out[metric] = f"{shown(value)} ± {shown(row[f'{metric} sd'])}"
        else:
            out[{"ms_a_run": "ms per run"}.get(name, name.replace("_", " "))] = value
    return out


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
    charts.append(Chart("best", "Best so far", label, "fitness", series, caption=caption))
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
            ("training, hours", shown(float(rows["seconds"].sum()) / 3600)),
        ],
        [
            Section("Accuracy by source", [_spread(rows, sources, failed), _by_source(rows, sources, failed)]),
            Section("Accuracy by time", _by_time(rows, sources, failed)),
            Section("Failures", _failures(folder)),
        ],
        notes(read_json(folder / "manifest.json"), folder),
    )


def _budget(budget: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in budget.items() if value not in (None, {}, False)
    )


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
    header = ["source", "tasks", "trainings", "failed", "lowest tenth below, %", "median, %", "highest tenth above, %"]
    return Table("sources", header, table, "Validation accuracy.")


def _by_time(rows: Mapping[str, np.ndarray], sources: np.ndarray, failed: np.ndarray) -> list[Block]:
    """Validation accuracy against the seconds of a training."""
    series = []
    for source in sorted(set(sources.tolist())):
        chosen = (sources == source) & ~failed
        x, y = rows["seconds"][chosen].astype(float).tolist(), rows["valid"][chosen].astype(float).tolist()
        series.append(Series(source, x, y, "points"))
    if not any(len(one.x) for one in series):
        return []
    return [Chart("time", "Accuracy by time", "seconds of a training", "validation accuracy, %", series, x_log=True)]


def _failures(folder: Path) -> list[Block]:
    """What failed, and why, as the journals say."""
    found: list[Sequence[object]] = []
    for path in sorted((folder / "rows").glob("*.jsonl")):
        for line in read_bytes(path).decode("utf-8").splitlines():
            if '"error": null' not in line and line.endswith("}"):
                row = json.loads(line)
                found.append([path.stem, " ".join(map(str, row["genes"])), row["error"]])
    return [Table("failures", ["task", "genes", "why"], found[:50])] if found else []
