"""What the command line prints: results, and tables of them that fit the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ednag.generation.report import Report
    from ednag.retraining.results import Summary

NARROWEST = 24
"""A column of text is never made narrower than this; other columns go below instead."""


def first_process() -> bool:
    """Tell whether this is the first of the processes that Lightning starts, also before they have found each other."""
    lightning = sys.modules.get("lightning.fabric.utilities.rank_zero")  # where it isn't imported, nothing is shared
    return lightning is None or bool(getattr(lightning.rank_zero_only, "rank", 0) == 0)


def say(text: object) -> None:
    """Print a result for the user, once where several processes have it."""
    if first_process():
        sys.stdout.write(f"{text}\n")


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Lay out a table in columns; numbers to the right.

    On a terminal, long texts are wrapped and columns that don't fit go below, under the same row numbers. Elsewhere every
    row is one line with all of its text, and columns are two or more spaces apart, for other programs to read.

    Args:
        header: one title a column.
        rows: cells; floats are shown with four significant digits, ``None`` as a dash.
        width: columns to fit; by default the terminal's, if output goes to one.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    if width is None and sys.stdout.isatty():
        from rich.console import Console

        width = Console().width
    if width is None:
        return _plain(header, cells, numeric)
    return _fitted(header, cells, numeric, width)


def _plain(header: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """Lay out a table with one line a row, however long."""
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        placed = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        return "  ".join(placed).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, cells)])


def _fitted(header: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int) -> str:
    """Lay out a table in as many parts, one below the other, as its columns need; rows are numbered if there are two."""
    natural = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    least = [w if n else min(w, NARROWEST) for w, n in zip(natural, numeric, strict=True)]
    parts: list[list[int]] = [[]]
    room = width
    for column, need in enumerate(least):
        if parts[-1] and need + 2 > room:
            parts.append([])
            room = width - 2 - len(str(len(cells)))
        parts[-1].append(column)
        room -= need + 2
    return "\n\n".join(_part(header, cells, numeric, columns, len(parts) > 1, width) for columns in parts)


def _part(
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    columns: Sequence[int],
    numbered: bool,
    width: int,
) -> str:
    """Lay out some columns of a table with rich."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    if numbered:
        table.add_column("#", justify="right", no_wrap=True)
    for i in columns:
        table.add_column(header[i], justify="right" if numeric[i] else "left", overflow="fold", no_wrap=numeric[i])
    for number, row in enumerate(cells, 1):
        table.add_row(*([str(number)] if numbered else []), *(row[i] for i in columns))
    return _drawn(table, width)


def _drawn(table: Table, width: int) -> str:
    """Draw a rich table as plain text."""
    from rich.console import Console

    console = Console(width=width, color_system=None, markup=False, highlight=False, emoji=False)
    with console.capture() as drawn:
        console.print(table)
    lines = [line.rstrip() for line in drawn.get().rstrip("\n").split("\n")]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])


def report_table(report: Report) -> str:
    """Show the architectures of a report with fitness, scores and costs, and what the scores mean."""
    costs = list(dict.fromkeys(name for c in report.candidates for name in c.costs))
    shown = {*costs, report.fitness}
    scores = list(dict.fromkeys(name for c in report.candidates for name in c.scores if name not in shown))
    header = ["architecture", *costs, report.fitness, *scores]
    rows = [
        [c.architecture, *(c.costs.get(n) for n in costs), c.fitness, *(c.scores.get(n) for n in scores)]
        for c in report.candidates
    ]
    return "\n".join([text_table(header, rows), *front_lines(report), *report.notes])


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
    """Write a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
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
