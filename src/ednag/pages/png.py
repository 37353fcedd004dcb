"""The charts of a page as PNG files, for trackers that show pictures."""

from __future__ import annotations

import io
import math
from typing import Any

from ednag.pages.blocks import Chart, Matrix, Series, together
from ednag.pages.numbers import extent, short, ticks


def png(block: Chart | Matrix) -> bytes:
    """Draw a chart or a matrix off screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2 if isinstance(block, Chart) else 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(block.title, fontsize="medium")
    if isinstance(block, Chart):
        _chart(axes, block)
    else:
        _matrix(axes, block)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _chart(axes: Any, chart: Chart) -> None:
    """Draw the series of a chart."""
    for one in sorted(together(chart.series), key=lambda one: not one.muted):
        _series(axes, one)
    if chart.diagonal:
        ends = [max(axes.get_xlim()[0], axes.get_ylim()[0]), min(axes.get_xlim()[1], axes.get_ylim()[1])]
        axes.plot(ends, ends, ":", color="tab:gray", linewidth=1)
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_range:
        axes.set_ylim(*extent(chart.y_range, 0.03))
    bottom, top = axes.get_ylim()
    axes.set_yticks(ticks(bottom, top, possible=chart.possible))
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if any(one.name for one in chart.series):
        axes.legend(frameon=False, fontsize="small")


def _series(axes: Any, one: Series) -> None:
    """Draw one series."""
    colour = {"color": "tab:gray", "alpha": 0.5} if one.muted else {}
    options: dict[str, Any] = {"label": one.name or None, **colour}
    if one.kind == "points":
        axes.plot(one.x, one.y, "o", markersize=3 if one.muted else 5, **options)
        return
    style = {"drawstyle": "steps-post"} if one.kind == "step" else {}
    marker = "o" if sum(map(math.isfinite, one.y)) <= 40 else ""
    (line,) = axes.plot(one.x, one.y, marker=marker, markersize=3, **style, **options)
    if one.low and one.high:
        axes.fill_between(one.x, one.low, one.high, alpha=0.2, linewidth=0, color=line.get_color())


def _matrix(axes: Any, matrix: Matrix) -> None:
    """Draw counts as shades, with numbers if there is room."""
    shares = [[value / (sum(row) or 1) for value in row] for row in matrix.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    count = len(matrix.names)
    if count <= 40:
        axes.set_xticks(range(count), matrix.names, rotation=90, fontsize="x-small")
        axes.set_yticks(range(count), matrix.names, fontsize="x-small")
    if count <= 20:
        for i, row in enumerate(matrix.counts):
            for j, value in enumerate(row):
                if value:
                    axes.text(
                        j, i, short(value), ha="center", va="center", fontsize="x-small",
                        color="white" if shares[i][j] > 0.55 else "black",
                    )  # fmt: skip
    axes.set(xlabel=matrix.column_label, ylabel=matrix.row_label)
