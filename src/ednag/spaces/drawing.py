"""Drawings of cells and stages: nodes in layers from left to right, operations as labelled boxes on their edges."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ednag.core.storage import atomic_write
from ednag.spaces.base import SearchSpace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Edges = Sequence[tuple[str, str, str]]
"""A cell: ``(source, target, label)`` of each edge; nodes are named by what is written on them, labels may be empty."""

_Item = str | tuple[int, int]
"""A node, or a stop of an edge: its index and the layer."""

_COLOURS = ("#cfe2f3", "#fce5cd", "#d9ead3", "#f4cccc", "#d9d2e9", "#fff2cc", "#d0e0e3", "#ead1dc", "#e6e6e6")
_SETTINGS: Any = {"svg.hashsalt": "ednag", "svg.fonttype": "none", "font.family": "DejaVu Sans", "text.usetex": False}
_SWEEPS = 24


@dataclass(frozen=True)
class Placement:
    """Where a drawing puts things; x counts layers, y counts rows.

    Attributes:
        nodes: by name.
        labels: by index of the edge; only edges that carry one.
        routes: points of each edge, from source to target.
    """

    nodes: dict[str, tuple[float, float]]
    labels: dict[int, tuple[float, float]]
    routes: list[list[tuple[float, float]]]


def draw_architecture(space: SearchSpace, genes: Tensor, folder: Path, stem: str = "architecture") -> list[Path]:
    """Draw an architecture as ``folder/stem.png`` and ``folder/stem.svg``.

    Args:
        space: offers ``edges(genes)``, a mapping from the title of each cell to its :data:`Edges`.
        genes: int64 ``(L,)``.
        folder: made if it is missing.
        stem: name of the files without an ending.

    Returns:
        paths of both files.

    Raises:
        ValueError: if the space offers no edges.
    """
    cells = space.edges(genes)
    if not cells:
        raise ValueError(f"{space.name} can't be drawn: it offers no cells through a method edges(genes)")
    return draw_cells(cells, [Path(folder) / f"{stem}.png", Path(folder) / f"{stem}.svg"])


def draw_cells(cells: Mapping[str, Edges], paths: Sequence[Path]) -> list[Path]:
    """Draw cells one below the other; the same picture for each path, in the format of its ending, written atomically.

    Args:
        cells: title (may be empty) and edges of each cell.
        paths: files ending in ``.png`` or ``.svg``.

    Returns:
        the paths.

    Raises:
        ValueError: for another ending, a cell without edges, or a cycle.
    """
    for path in paths:
        if path.suffix not in (".png", ".svg"):
            raise ValueError(f"drawings are written as .png or .svg, got {path.name}")
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        figure = cell_figure(cells)
        for path in paths:
            stream = io.BytesIO()
            stamp: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(stream, format=path.suffix[1:], dpi=150, metadata=stamp)
            content = stream.getvalue()
            atomic_write(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return list(paths)


def cell_figure(cells: Mapping[str, Edges]) -> Figure:
    """Lay out and draw cells on a figure that no screen shows; see :func:`draw_cells`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    placements = {title: place(edges) for title, edges in cells.items()}
    labels = sorted({label for edges in cells.values() for _, _, label in edges if label})
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    extents = [_extent(placement) for placement in placements.values()]
    longest = max(len(name) for placement in placements.values() for name in placement.nodes)
    # Inches: half of a label's box, and of a node's.
    column = 0.45 + 0.035 * max(map(len, labels), default=0) + 0.045 * max(0, longest - 7)
    margin = 0.6 + 0.045 * max(0, longest - 7)
    right = max(last for _, _, last in extents)
    width = column * right + 2 * margin
    heights = [0.42 * (top - bottom) + 1.0 for bottom, top, _ in extents]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cells), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (title, placement), (bottom, top, _) in zip(panels, placements.items(), extents, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlim=(-margin / column, right + margin / column), ylim=(bottom - 0.7, top + 0.7))
        axes.axis("off")
        _draw(axes, cells[title], placement, colours, column)
    return figure


def place(edges: Edges) -> Placement:
    """Place a graph in layers, with few crossings (Sugiyama et al. 1981).

    A node stands right of all its sources; each edge passes every layer between, and its label is a stop of its own,
    so that no two labels or nodes overlap.

    Raises:
        ValueError: if there is no edge, or a cycle.
    """
    depth = _depths(edges)
    layers: list[list[_Item]] = [[] for _ in range(2 * max(depth.values()) + 1)]
    for name, level in depth.items():
        layers[2 * level].append(name)
    stops: list[list[_Item]] = []
    labelled: dict[int, tuple[int, int]] = {}
    for number, (source, target, label) in enumerate(edges):
        between = range(2 * depth[source] + 1, 2 * depth[target])
        stops.append([source, *((number, layer) for layer in between), target])
        for layer in between:
            layers[layer].append((number, layer))
        if label:
            # The odd layers belong to labels; those of long edges go where there are fewest.
            used = [layer for _, layer in labelled.values()]
            labelled[number] = (number, min(between[::2], key=lambda layer: (used.count(layer), -layer)))
    links = [link for path in stops for link in pairwise(path)]
    rows = _rows(_order(layers, links), links)
    column = {item: float(layer) for layer, items in enumerate(layers) for item in items}
    point = {item: (column[item], row) for item, row in rows.items()}
    return Placement(
        {name: point[name] for name in depth},
        {number: point[item] for number, item in labelled.items()},
        [[point[item] for item in path] for path in stops],
    )


def _depths(edges: Edges) -> dict[str, int]:
    """Longest way to each node, in edges."""
    if not edges:
        raise ValueError("a cell without edges can't be drawn")
    depth = {name: 0 for source, target, _ in edges for name in (source, target)}
    for _ in depth:
        changed = False
        for source, target, _ in edges:
            if depth[target] <= depth[source]:
                depth[target], changed = depth[source] + 1, True
        if not changed:
            return depth
    raise ValueError("a cell with a cycle can't be drawn")


def _order(layers: list[list[_Item]], links: Sequence[tuple[_Item, _Item]]) -> list[list[_Item]]:
    """Order each layer by the mean place of neighbours, sweeping forth and back; keep the order of fewest crossings."""
    best, fewest = layers, _crossings(layers, links)
    for sweep in range(_SWEEPS):
        layers = [list(layer) for layer in layers]
        forth = sweep % 2 == 0
        for here in range(1, len(layers)) if forth else range(len(layers) - 2, -1, -1):
            seat = {item: place for place, item in enumerate(layers[here - 1 if forth else here + 1])}
            mean = {}
            for own, item in enumerate(layers[here]):
                near = [seat[a] if forth else seat[b] for a, b in links if (b if forth else a) == item]
                mean[item] = sum(near) / len(near) if near else float(own)
            layers[here].sort(key=lambda item, mean=mean: mean[item])  # type: ignore[misc]
        crossings = _crossings(layers, links)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: Sequence[Sequence[_Item]], links: Sequence[tuple[_Item, _Item]]) -> int:
    """Count the pairs of links that cross."""
    seat = {item: (layer, place) for layer, items in enumerate(layers) for place, item in enumerate(items)}
    lines = [(*seat[a], seat[b][1]) for a, b in links]
    return sum(
        layer == other and (start - first) * (end - last) < 0
        for i, (layer, start, end) in enumerate(lines)
        for other, first, last in lines[:i]
    )


def _rows(layers: Sequence[Sequence[_Item]], links: Sequence[tuple[_Item, _Item]]) -> dict[_Item, float]:
    """Give each item a row near its neighbours', in the order of its layer and at least one row from the next."""
    from sklearn.isotonic import isotonic_regression

    rows = {item: i - (len(layer) - 1) / 2 for layer in layers for i, item in enumerate(layer)}
    near: dict[_Item, list[_Item]] = {item: [] for item in rows}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    for _ in range(_SWEEPS):
        for layer in layers:
            steps = np.arange(len(layer))
            wanted = np.array([np.mean([rows[other] for other in near[item]]) for item in layer])
            rows.update(zip(layer, isotonic_regression(wanted - steps) + steps, strict=True))
    return {item: float(row) for item, row in rows.items()}


def _extent(placement: Placement) -> tuple[float, float, float]:
    """Lowest and highest row, and the last layer."""
    points = [point for route in placement.routes for point in route]
    rows = [row for _, row in points]
    return min(rows), max(rows), max(layer for layer, _ in points)


def _draw(axes: Axes, edges: Edges, placement: Placement, colours: Mapping[str, str], column: float) -> None:
    """Draw one cell, whose layers are ``column`` inches apart: edges below, then labels and nodes."""
    from matplotlib.patches import FancyArrowPatch

    for route, (_, target, _) in zip(placement.routes, edges, strict=True):
        border = (0.085 + 0.041 * len(target)) / column
        arrow = FancyArrowPatch(
            path=_smooth(route, border), arrowstyle="-|>", mutation_scale=9, linewidth=1, color="#555555", zorder=1
        )
        axes.add_patch(arrow)
    for number, point in placement.labels.items():
        label = edges[number][2]
        box = {"boxstyle": "round,pad=0.25", "facecolor": colours[label], "edgecolor": "#888888", "linewidth": 0.6}
        axes.text(*point, label, ha="center", va="center", fontsize=7.5, bbox=box, zorder=3)
    for name, point in placement.nodes.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "black", "linewidth": 1.1}
        axes.text(*point, name, ha="center", va="center", fontsize=9, fontweight="bold", bbox=box, zorder=4)


def _smooth(route: Sequence[tuple[float, float]], border: float) -> Any:
    """Curve through the points of an edge, horizontal in each, that ends ``border`` before the last one."""
    from matplotlib.path import Path as Curve

    end = (route[-1][0] - border, route[-1][1])
    vertices, codes = [route[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in pairwise([*route[:-1], end]):
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)
