"""The page of a fit: correlations over epochs, and predicted against measured accuracy of held-out tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scipy.stats import spearmanr

from ednag.pages.blocks import Block, Chart, Page, Section, Series, Table
from ednag.pages.numbers import counted, shown
from ednag.pages.sources import column, notes, read_csv, read_json

CORRELATIONS = ("val/spearman", "val/kendall", "val/pearson")

MOST_TASKS = 12
"""Tasks that are drawn one by one; the table has all."""


def fit_page(folder: Path) -> Page:
    """Make the page of a fit's run directory."""
    curves, predicted = read_csv(folder / "curves.csv"), read_csv(folder / "predicted.csv")
    last = {name: value for row in curves for name, value in row.items() if name.startswith("val/") and value}
    facts = [(_words(name), shown(float(value))) for name, value in last.items()]
    groups: dict[str, list[dict[str, str]]] = {}
    for row in predicted:
        groups.setdefault(row["task"], []).append(row)
    return Page(
        "fit",
        "A trained model" if not predicted else "A trained predictor",
        f"After {counted(len(curves), 'epoch')}." if curves else "",
        facts,
        [
            Section("Learning", _learning(curves)),
            Section("Predicted against measured", [*_scatters(groups), *_tasks(groups)], "Held-out tasks."),
        ],
        notes(read_json(folder / "manifest.json"), folder),
    )


def _words(name: str) -> str:
    words = name.replace("val/", "validation ").replace("train/", "training ").replace("_", " ")
    for found in ("spearman", "kendall", "pearson"):
        words = words.replace(found, found.capitalize())
    return re.sub(r" regret(\d+)$", r" regret of the top \1", words)


def _title(name: str) -> str:
    words = _words(name)
    return words[:1].upper() + words[1:]


def _learning(curves: list[dict[str, str]]) -> list[Block]:
    """Correlations in one chart, and every other metric in one of its own."""
    if not curves:
        return []
    names = [name for name in curves[0] if name not in ("epoch", "step")]
    together = [name for name in names if name in CORRELATIONS]
    charts: list[Block] = []
    epochs = column(curves, "epoch")
    if together:
        series = [Series(name.removeprefix("val/").capitalize(), epochs, column(curves, name)) for name in together]
        charts.append(Chart("correlations", "Correlations, held-out", "epoch", "correlation", series))
    for name in names:
        if name not in together:
            line = Series("", epochs, column(curves, name))
            charts.append(Chart(f"curve_{name.replace('/', '_')}", _title(name), "epoch", _words(name), [line]))
    return charts


def _scatters(groups: Mapping[str, list[dict[str, str]]]) -> list[Block]:
    """Predicted score against measured accuracy, a chart for each of some tasks."""
    charts: list[Block] = []
    for task, rows in list(groups.items())[:MOST_TASKS]:
        points = Series("", column(rows, "measured"), column(rows, "predicted"), "points")
        charts.append(Chart(f"task_{task}", task, "measured accuracy, %", "predicted score", [points]))
    return charts


def _tasks(groups: Mapping[str, list[dict[str, str]]]) -> list[Block]:
    """Rank correlation of each task."""
    rows = []
    for task, some in groups.items():
        found = spearmanr(column(some, "measured"), column(some, "predicted")).statistic if len(some) > 2 else None
        rows.append([task, len(some), None if found is None else float(found)])
    return [Table("tasks", ["task", "architectures", "Spearman"], rows)] if rows else []
