"""Figures of a run, drawn off screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from ednag.metrics import best_so_far
from ednag.population import Archive, feasible
from ednag.storage import atomic_write


def generation_figure(archive: Archive, history: Sequence[dict[str, float]], fitness: str, path: Path) -> None:
    """Draw how the best fitness rose with distinct evaluations, and how valid and unique the proposals were.

    Args:
        archive: of all runs; the band is the middle half of them.
        history: rows with ``step``, ``valid``, ``unique`` and ``novel``.
        fitness: name for the axis.
        path: a PNG, written atomically.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    curves = best_so_far(archive)
    curves = torch.where(feasible(curves), curves, torch.nan).cpu()
    low, middle, high = curves.nanquantile(torch.tensor([0.25, 0.5, 0.75], dtype=curves.dtype), 0)
    count = torch.arange(1, curves.shape[1] + 1)
    left.fill_between(count, low, high, alpha=0.25, linewidth=0)
    left.plot(count, middle)
    left.set(xlabel="distinct architectures evaluated", ylabel="best so far")
    runs = f"median and middle half of {curves.shape[0]} runs" if curves.shape[0] > 1 else "one run"
    left.set_title(f"{fitness}\n{runs}", fontsize="medium")
    steps = [row["step"] for row in history]
    for name in ("valid", "unique", "novel"):
        right.plot(steps, [row[name] for row in history], label=name)
    right.set(xlabel="step", ylabel="share of proposals", ylim=(-0.02, 1.02), title="proposals, mean over runs")
    right.legend(loc="lower left", frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    atomic_write(path, lambda file: file.write(stream.getvalue()))
