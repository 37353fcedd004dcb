"""What the command line prints: results, and tables of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from ednag.generation.report import Report
from ednag.retraining.results import Summary


def first_process() -> bool:
    """Tell whether this is the first of the processes that Lightning starts, also before they have found each other."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def say(text: object) -> None:
    """Print a result for the user, once where several processes have it."""
    if first_process():
        sys.stdout.write(f"{text}\n")


WIDEST = 100
"""Longer texts are cut in tables; reports hold them whole."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a table in columns; numbers to the right.

    Args:
        header: one title a column.
        rows: cells; floats are shown with four significant digits, ``None`` as a dash.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        placed = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        return "  ".join(placed).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, cells)])


def report_table(report: Report) -> str:
    """Show the architectures of a report with fitness, scores and costs."""
    scores = list(dict.fromkeys(name for c in report.candidates for name in c.scores))
    costs = list(dict.fromkeys(name for c in report.candidates for name in c.costs))
    header = ["architecture", *costs, report.fitness, *scores]
    rows = [
        [c.architecture, *(c.costs.get(n) for n in costs), c.fitness, *(c.scores.get(n) for n in scores)]
        for c in report.candidates
    ]
    return "\n".join([text_table(header, rows), *front_lines(report)])


def front_lines(report: Report) -> list[str]:
    """Say how large the front of a report is and what hypervolume it dominates; nothing without a front."""
    if report.front is None:
        return []
    title = report.front["title"]
    lines = [f"front of {len(report.candidates)} architectures: {report.fitness} against {title}"]
    for row in report.front["hypervolumes"]:
        runs = f"; mean of the runs {row['mean']:.6g}, standard deviation {row['deviation']:.3g}"
        lines.append(
            f"hypervolume {row['hypervolume']:.6g} up to {title} {row['cost']:.6g} and from {row['fitness']:.6g} "
            f"({row['reference']}){runs if report.counts.get('runs', 1) > 1 else ''}"
        )
    return lines


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show the rows of a comparison."""
    return text_table(list(rows[0]), [list(row.values()) for row in rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = str(value)
        return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:.4g}"


def summary_table(summary: Summary) -> str:
    """Show retrained architectures: costs, the score they were chosen by, and what they achieve."""
    header = [
        "architecture",
        "parameters",
        "FLOPs (MACs)",
        "score",
        "valid top-1 %",
        "test top-1 %",
        "epochs",
        "status",
    ]
    rows = [
        [
            f"{r.label}: {r.architecture}" if r.label else r.architecture,
            r.params,
            r.macs,
            r.fitness,
            r.val.get("top1"),
            r.test.get("top1"),
            r.epochs,
            r.status,
        ]
        for r in (*summary.results, *summary.baselines)
    ]
    return text_table(header, rows)
