"""The page of a retraining: how good the networks are, at what cost, how they learned, and where the best one errs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ednag.pages.blocks import PERCENT, Block, Chart, Page, Section, Series, Table
from ednag.pages.numbers import counted, shown
from ednag.pages.predictions_part import predictions_section
from ednag.pages.sources import column, notes, read_csv, read_json
from ednag.retraining.predictions import CURVES

Row = Mapping[str, Any]
"""One network of ``summary.json``."""


def retraining_page(folder: Path) -> Page:
    """Make the page of a retraining's run directory."""
    summary, data = read_json(folder / "summary.json"), read_json(folder / "data.json")
    rows = [(f"{row['rank']:03d}", row) for row in summary["results"]]
    rows += [(f"baseline_{row['label']}", row) for row in summary.get("baselines", [])]
    best = best_of(summary["results"])
    sections = [
        Section("Networks", [_networks(rows)]),
        Section("Accuracy against cost", _against_cost(rows)),
        Section("Learning", _learning(rows, folder)),
    ]
    if best is not None:
        sections += predictions_section(folder / f"{best['rank']:03d}", data)
    sections.append(Section("Images", _images(data), str(data.get("origin", ""))))
    return Page(
        "retrain",
        counted(len(summary["results"]), "trained network"),
        _lead(best, summary.get("verdict", "")),
        _facts(best, data),
        sections,
        notes(read_json(folder / "manifest.json"), folder),
    )


def best_of(results: Sequence[Row]) -> Row | None:
    """Finished network with the best validation accuracy."""
    finished = [row for row in results if row["status"] == "finished"]
    return max(finished, key=lambda row: row["val"].get("top1", -1.0), default=None)


def name_of(row: Row) -> str:
    """What a network is called on the page."""
    return str(row["label"]).replace("_", " ") if row.get("label") else f"network {row['rank']}"


def _lead(best: Row | None, verdict: str) -> str:
    if best is None:
        return "No network was trained to the end."
    if verdict:
        return f"{verdict[0].upper()}{verdict[1:]}."
    return f"{name_of(best).capitalize()} is the best by validation accuracy: {best['architecture']}"


def _facts(best: Row | None, data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The best network in numbers."""
    if best is None:
        return []
    facts = [
        (f"{split} top-1", f"{best[key]['top1']:.2f} %")
        for key, split in (("test", "test"), ("val", "validation"))
        if "top1" in best[key]
    ]
    facts += [("parameters", shown(best["params"])), ("multiply-accumulates", shown(best["macs"]))]
    if "calibration_error" in best["test"]:
        facts.append(("calibration error", f"{best['test']['calibration_error']:.3f}"))
    if data:
        facts.append(("classes", shown(len(data["class_names"]))))
        facts.append(("training images", shown(data["splits"]["train"]["images"])))
    return facts


def _networks(rows: Sequence[tuple[str, Row]]) -> Table:
    """Every network with its costs and what it reached."""
    header = [
        "network",
        "architecture",
        "parameters",
        "multiply-accumulates",
        "score",
        "validation %",
        "test %",
        "epochs",
        "minutes",
        "status",
    ]
    cells = [
        [
            name_of(row),
            row["architecture"],
            row["params"],
            row["macs"],
            row["fitness"],
            row["val"].get("top1"),
            row["test"].get("top1"),
            row["epochs"],
            round(row["seconds"] / 60, 1),
            row["status"] + (f": {row['reason']}" if row["reason"] else ""),
        ]
        for _, row in rows
    ]
    return Table("networks", header, cells, "Score: what the network was chosen by. Top-1 accuracies, in percent.")


def _against_cost(rows: Sequence[tuple[str, Row]]) -> list[Block]:
    """Test accuracy against multiply-accumulates, generated networks and baselines."""
    groups: dict[str, list[Row]] = {}
    for _, row in rows:
        kind = re.sub(r" \d+$", "", name_of(row)) if row.get("label") else "generated"
        groups.setdefault(kind, []).append(row)
    charts: list[Block] = []
    for key, title in (("macs", "multiply-accumulates"), ("params", "parameters")):
        series = []
        for group, some in groups.items():
            found = [row for row in some if "top1" in row["test"]]
            if found:
                tips = [
                    f"{name_of(row)}\n{title} {shown(row[key])}, test {row['test']['top1']:.2f} %\n{row['architecture']}"
                    for row in found
                ]
                x, y = [float(row[key]) for row in found], [row["test"]["top1"] for row in found]
                series.append(Series(group, x, y, "points", tips))
        if sum(len(one.x) for one in series) > 1:
            charts.append(
                Chart(f"accuracy_{key}", f"By {title}", title, "test top-1 %", series, x_log=True, possible=PERCENT)
            )
    return charts


def _learning(rows: Sequence[tuple[str, Row]], folder: Path) -> list[Block]:
    """Learning curves of all networks."""
    curves = [(name_of(row), read_csv(folder / place / CURVES)) for place, row in rows]
    charts: list[Block] = []
    for key, title, label in (
        ("top1", "Validation accuracy", "validation top-1 %"),
        ("loss", "Training loss", "training loss"),
        ("lr", "Learning rate", "learning rate"),
    ):
        series = [
            Series(n, column(some, "epoch"), column(some, key))
            for n, some in curves
            if any(row.get(key) for row in some)
        ]
        if series:
            bounds = PERCENT if key == "top1" else (0.0, math.inf)
            charts.append(Chart(f"curve_{key}", title, "epoch", label, series, possible=bounds))
    return charts


def _images(data: Mapping[str, Any]) -> list[Block]:
    """Images of each split."""
    if not data:
        return []
    rows = [
        [name, split["images"], min(split["per_class"]), max(split["per_class"]), split["sha256"][:16]]
        for name, split in data["splits"].items()
    ]
    header = ["split", "images", "fewest of a class", "most of a class", "sha256 (first 16 digits)"]
    return [Table("images", header, rows)]
