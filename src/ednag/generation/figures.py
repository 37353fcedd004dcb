"""Figures of a run, drawn off screen."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ednag.core.archive import Archive, feasible
from ednag.core.storage import atomic_write
from ednag.generation.metrics import best_so_far


def generation_figure(archive: Archive, history: Sequence[dict[str, float]], fitness: str, path: Path) -> None:
    """Draw how the best fitness rose with distinct evaluations, and how valid and unique the proposals were.

    Args:
        archive: of all runs; the band is the middle half of them.
        history: rows with ``step``, ``valid``, ``unique`` and ``novel``.
        fitness: name for the axis.
        path: a PNG, written atomically.
    """
    figure, left, right = _two_panels()
    curves = best_so_far(archive)
    curves = torch.where(feasible(curves), curves, torch.nan).cpu()
    everyone = ~curves.isnan().any(0)  # from where on every run has a score: the median of fewer could fall
    if everyone.any():
        curves = curves.where(everyone, torch.nan)
    low, middle, high = curves.nanquantile(torch.tensor([0.25, 0.5, 0.75], dtype=curves.dtype), 0)
    count = torch.arange(1, curves.shape[1] + 1)
    left.fill_between(count, low, high, alpha=0.25, linewidth=0, step="post")
    left.step(count, middle, where="post")
    left.set(xlabel="distinct architectures evaluated", ylabel="best so far")
    runs = f"median and middle half of {curves.shape[0]} runs" if curves.shape[0] > 1 else "one run"
    left.set_title(f"{fitness}\n{runs}", fontsize="medium")
    steps = [row["step"] for row in history]
    marker = "o" if len(steps) == 1 else ""  # a line of one point can't be seen
    for name, style in (("valid", "-"), ("unique", "--"), ("novel", ":")):
        right.plot(steps, [row[name] for row in history], style, marker=marker, label=name)
    right.set(xlabel="step", ylabel="share of proposals", ylim=(-0.02, 1.02), title="proposals, mean over runs")
    right.legend(loc="lower left", frameon=False)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)  # of counts
    _save(figure, path)


def front_figure(
    cost: Tensor, fitness: Tensor, front: Tensor, titles: tuple[str, str], paths: Sequence[Path], found: str = ""
) -> None:
    """Draw everything that was evaluated, and the front of it as a staircase.

    Args:
        cost: ``(n,)``.
        fitness: ``(n,)``.
        front: which of them no other dominates, bool ``(n,)``.
        titles: of the cost and of the fitness.
        paths: files to write, atomically; the ending (``.png``, ``.svg``) says the format.
        found: added to the title.
    """
    figure, left, right = _two_panels()
    order = cost[front].argsort()
    steps, heights = cost[front][order].cpu(), fitness[front][order].cpu()
    for axes in (left, right):
        axes.scatter(cost.cpu(), fitness.cpu(), s=5, alpha=0.35, linewidth=0, color="tab:gray", rasterized=True)
        axes.step(steps, heights, where="post", color="tab:blue", linewidth=1.2)
        axes.plot(steps, heights, "o", markersize=3, color="tab:blue")
        axes.set(xlabel=titles[0])
    left.set_ylabel(textwrap.fill(titles[1], 36), fontsize="small")
    left.set_title(f"everything evaluated{found}", fontsize="medium")
    low, top = float(heights.quantile(0.1)), float(heights.max())
    pad = 0.08 * max(top - low, 1e-6)
    near = steps[heights >= low]
    right.set_ylim(low - pad, top + pad)
    right.set_xlim(float(near.min()) - 0.05 * float(near.max()), float(near.max()) * 1.1)
    right.set_title(f"the front: {int(front.sum())} architectures", fontsize="medium")
    for path in paths:
        _save(figure, path)


def comparison_figure(curves: Sequence[Curve], fitness: str, paths: Sequence[Path]) -> None:
    """Draw samplers against each other: success, if the optimum is known, and the best fitness so far.

    Args:
        curves: one per sampler, drawn in their order.
        fitness: name for the title.
        paths: files to write, atomically; the ending (``.png``, ``.svg``) says the format.
    """
    figure, left, right = _two_panels()
    for curve in curves:
        count = range(1, len(curve.median) + 1)
        if curve.success is not None:
            left.plot(count, curve.success, label=curve.name)
        (line,) = right.plot(count, curve.median, label=curve.name)
        right.fill_between(count, curve.quartile_1, curve.quartile_3, alpha=0.15, linewidth=0, color=line.get_color())
    left.set(
        xlabel="distinct architectures evaluated", ylabel="share of runs that found the optimum", ylim=(-0.02, 1.02)
    )
    right.set(xlabel="distinct architectures evaluated", ylabel="best so far, median and middle half")
    settled = [curve.quartile_1[len(curve.quartile_1) // 5] for curve in curves]
    low = min(filter(math.isfinite, settled), default=0.0)
    top = max((curve.quartile_3[-1] for curve in curves if math.isfinite(curve.quartile_3[-1])), default=0.0)
    if low < top:
        right.set_ylim(low - 0.05 * (top - low), top + 0.08 * (top - low))
    right.legend(loc="lower right", frameon=False, fontsize="small")
    figure.suptitle(fitness, fontsize="medium")
    for path in paths:
        _save(figure, path)


@dataclass(frozen=True)
class Curve:
    """What a comparison draws of one sampler: one value for each number of distinct evaluations, from 1.

    Attributes:
        name: for the legend.
        median: of the best so far over runs, likewise the quartiles.
        quartile_1: lower quartile.
        quartile_3: upper quartile.
        success: share of runs that have evaluated the optimum; ``None`` if it is unknown.
    """

    name: str
    median: Sequence[float]
    quartile_1: Sequence[float]
    quartile_3: Sequence[float]
    success: Sequence[float] | None


def _two_panels() -> tuple[Any, Any, Any]:
    """Make a figure that needs no screen, with two panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    return figure, left, right


def _save(figure: Any, path: Path) -> None:
    """Finish a figure and write it, atomically."""
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix[1:], dpi=120)
    atomic_write(path, lambda file: file.write(stream.getvalue()))
