"""Reports as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ednag.report import Report
from ednag.retraining.results import Summary

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
    return text_table(header, rows)


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
        [r.architecture, r.params, r.macs, r.fitness, r.val.get("top1"), r.test.get("top1"), r.epochs, r.status]
        for r in summary.results
    ]
    return text_table(header, rows)
