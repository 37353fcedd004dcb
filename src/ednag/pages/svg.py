"""Charts and matrices as inline SVG whose colours follow the page, light or dark, and whose points say what they are."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ednag.pages.blocks import Chart, Matrix, Series, together
from ednag.pages.numbers import extent, log_ticks, short, shown, ticks

WIDTH, HEIGHT = 520, 330
RIGHT, TOP, BOTTOM = 22, 12, 48
CHARACTER = 9.0
"""Width of a digit, as phones draw it."""

COLOURS = 8
"""How many series have a colour of their own."""

MOST_TIPS = 150
"""Most points of a series that answer to the pointer."""


MOST_LETTERS = 16
"""Letters of a class that are written beside a matrix; all of them answer to the pointer."""

MANY = 600
"""With more points than this, each is small and no larger than what answers to the pointer."""


@dataclass(frozen=True)
class Axes:
    """From values to places in the picture.

    Attributes:
        x: place of a value to the right.
        y: place of a value upwards.
        x_ticks: round values.
        y_ticks: likewise.
        left: where the lines of the grid begin; the values along the axis stand before it, and its name before them.
    """

    x: Callable[[float], float]
    y: Callable[[float], float]
    x_ticks: list[float]
    y_ticks: list[float]
    left: float


def chart_svg(chart: Chart) -> str:
    """Draw a chart."""
    axes = _axes(chart)
    shapes = [_grid(axes, chart)]
    if chart.diagonal:
        low, high = axes.x_ticks[0], axes.x_ticks[-1]
        shapes.append(f'<path class="guide" d="{_path([(axes.x(v), axes.y(v)) for v in (low, high)])}"/>')
    for number, one in sorted(numbers(chart.series), key=lambda pair: not pair[1].muted):
        shapes.append(f'<g class="{"muted" if one.muted else f"s{number}"}">{_drawn(one, axes, chart)}</g>')
    label = html.escape(f"{chart.title}: {chart.y_label} against {chart.x_label}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(shapes)}</svg>'


def numbers(series: Sequence[Series]) -> list[tuple[int, Series]]:
    """Pair each series that is drawn with the number of its colour; muted ones need none."""
    coloured = 0
    out = []
    for one in together(series):
        out.append((coloured % COLOURS, one))
        coloured += not one.muted
    return out


def matrix_svg(matrix: Matrix) -> str:
    """Draw counts as shades of squares; each row is shaded by its share of the row."""
    count = len(matrix.names)
    longest = max(map(len, matrix.names), default=1)
    margin = 44 + 7.5 * min(longest, MOST_LETTERS)
    side = max((WIDTH - margin - 10) / max(count, 1), 6)
    size = min(side, 58)
    width, height = margin + size * count + 10, margin + size * count + 10
    font = min(13.0, size * 0.8)
    shapes = []
    for i, (name, row) in enumerate(zip(matrix.names, matrix.counts, strict=True)):
        total = sum(row) or 1
        place = margin + size * (i + 0.5)
        text = html.escape(name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…")
        if size >= 9:
            shapes.append(
                f'<text x="{margin - 6}" y="{place + font / 3:.1f}" text-anchor="end" font-size="{font:.1f}">{text}</text>'
            )
            upright = longest * font < size  # digits, say
            where = (
                f'x="{place:.1f}" y="{margin - 6}" text-anchor="middle"'
                if upright
                else f'transform="translate({place + font / 3:.1f} {margin - 6}) rotate(-90)"'
            )
            shapes.append(f'<text {where} font-size="{font:.1f}">{text}</text>')
        for j, value in enumerate(row):
            tip = html.escape(f"{matrix.row_label} {name}, {matrix.column_label} {matrix.names[j]}: {value} of {total}")
            shade = value / total
            kind = "hit" if i == j else "miss"
            x, y = margin + size * j, margin + size * i
            shapes.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" '
                f'style="--shade:{shade:.3f}" data-tip="{tip}"/>'
            )
            if value and size >= 20:
                strong = " strong" if shade > 0.55 else ""
                shapes.append(
                    f'<text class="count{strong}" x="{x + size / 2 - 0.5:.1f}" y="{y + size / 2 + 4:.1f}" text-anchor="middle">{value}</text>'
                )
    shapes.append(f'<text class="axis" x="{margin}" y="13">{html.escape(matrix.column_label)} →</text>')
    shapes.append(
        f'<text class="axis" transform="translate(12 {margin + 2}) rotate(90)">{html.escape(matrix.row_label)} →</text>'
    )
    label = html.escape(f"{matrix.title}: {matrix.row_label} by {matrix.column_label}")
    limit = f"max-width:{width * 1.25:.0f}px"
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="{limit}" role="img" aria-label="{label}">{"".join(shapes)}</svg>'


def _axes(chart: Chart) -> Axes:
    """Fit axes to the series."""
    xs = [value for one in chart.series for value in one.x]
    ys = [value for one in chart.series for value in (*one.y, *one.low, *one.high)]
    if chart.diagonal:
        xs = ys = [*xs, *ys]
    if chart.x_log:
        low, high = extent([math.log10(value) for value in xs if value > 0])
        x_ticks = log_ticks(10**low, 10**high)
    else:
        low, high = extent(xs)
        x_ticks = ticks(low, high, whole=all(float(value).is_integer() for value in xs))
    bottom, top = extent(chart.y_range or ys, 0.03 if chart.y_range else 0.05)
    y_ticks = ticks(bottom, top, possible=chart.possible)
    left = 30 + CHARACTER * max((len(short(value)) for value in y_ticks), default=1)

    def x(value: float) -> float:
        at = math.log10(max(value, 1e-300)) if chart.x_log else value
        return left + (WIDTH - left - RIGHT) * (at - low) / (high - low)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bottom) / (top - bottom)

    return Axes(x, y, x_ticks, y_ticks, left)


def _grid(axes: Axes, chart: Chart) -> str:
    """Lines of the grid, values along the axes, and their names."""
    shapes, left = [], axes.left
    for value in axes.y_ticks:
        y = axes.y(value)
        shapes.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')
        shapes.append(f'<text x="{left - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in axes.x_ticks:
        x = axes.x(value)
        shapes.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        shapes.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(value)}</text>')
    middle = (left + WIDTH - RIGHT) / 2
    shapes.append(
        f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(chart.x_label)}</text>'
    )
    up = (TOP + HEIGHT - BOTTOM) / 2
    shapes.append(
        f'<text class="axis" transform="translate(14 {up}) rotate(-90)" text-anchor="middle">{html.escape(chart.y_label)}</text>'
    )
    return "".join(shapes)


def _drawn(one: Series, axes: Axes, chart: Chart) -> str:
    """Band, line and points of a series."""
    places = [(axes.x(x), axes.y(y)) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    tips = [tip for tip, y in zip(_tips(one, chart), one.y, strict=True) if math.isfinite(y)]
    shapes = []
    if one.low and one.high:
        edge = [(axes.x(x), axes.y(v)) for x, v in zip(one.x, one.high, strict=True) if math.isfinite(v)]
        back = [(axes.x(x), axes.y(v)) for x, v in zip(one.x, one.low, strict=True) if math.isfinite(v)]
        shapes.append(f'<path class="band" d="{_path([*edge, *back[::-1]])}Z"/>')
    if one.kind != "points" and places:
        shapes.append(f'<path class="line" d="{_path(places, one.kind == "step")}"/>')
    every = max(-(-len(places) // MOST_TIPS), 1) if one.kind == "line" else 1
    dots = one.kind == "points" or len(places) <= 40
    many = sum(len(other.x) for other in chart.series) > MANY
    radius = 2 if many else 2.6 if one.muted else 3.6
    for (x, y), tip in [*zip(places, tips, strict=True)][::every]:
        if dots and many:
            shapes.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" data-tip="{html.escape(tip)}"/>')
            continue
        if dots:
            shapes.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        shapes.append(f'<circle class="reach" cx="{x:.1f}" cy="{y:.1f}" r="9" data-tip="{html.escape(tip)}"/>')
    return "".join(shapes)


def _tips(one: Series, chart: Chart) -> Sequence[str]:
    """What is shown under the pointer."""
    if one.tips:
        return one.tips
    before = f"{one.name}\n" if one.name else ""
    return [
        f"{before}{chart.x_label} {shown(x)}, {chart.y_label} {shown(y)}" for x, y in zip(one.x, one.y, strict=True)
    ]


def _path(places: Sequence[tuple[float, float]], steps: bool = False) -> str:
    """Join places by lines, or by steps: to the right first, then up or down."""
    parts = [f"{x:.1f} {y:.1f}" if i == 0 or not steps else f"H{x:.1f}V{y:.1f}" for i, (x, y) in enumerate(places)]
    return "M" + ("".join(parts) if steps else "L".join(parts))
