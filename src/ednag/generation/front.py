"""The Pareto front of a generation against a cost: which architectures are on it, what it dominates, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ednag.core.archive import Archive, feasible
from ednag.core.storage import write_csv
from ednag.costs.objective import FIELDS, CostObjective
from ednag.fitness.constrained import ConstrainedFitness
from ednag.generation.figures import front_figure
from ednag.generation.metrics import front_places, hypervolume
from ednag.generation.report import Report

EVALUATED = 3000
"""Most evaluated architectures beside the front that are written down."""


class Front:
    """What is non-dominated among everything that was evaluated: fitness against one cost.

    Args:
        objective: the cost, see :class:`CostObjective`.
        constrained: the fitness with the limits and the cost model.
        reference: cost and fitness of a reference point for the hypervolume.

    Raises:
        ValueError: for an unknown objective, or a reference that is not two finite numbers.
    """

    def __init__(
        self, objective: str, constrained: ConstrainedFitness, reference: tuple[float, float] | None = None
    ) -> None:
        self.cost = CostObjective(objective, constrained.limits, constrained.cost_model)
        self.fitness = constrained.name
        if reference is not None and not all(-torch.inf < value < torch.inf for value in reference):
            raise ValueError(f"reference must be a cost and a fitness, both finite, got {reference}")
        self.reference = reference

    def setup(self) -> None:
        """Prepare costs, once the fitness is set up."""
        self.cost.setup()

    def costs(self, archive: Archive) -> Tensor:
        """Costs of the entries that have a fitness, float64 ``(R, M)``; ``inf`` elsewhere."""
        scored = archive.filled & feasible(archive.fitness)
        out = torch.full_like(archive.fitness, torch.inf)
        if scored.any():
            out[scored] = self.cost(archive.genes[scored]).to(out)
        return out

    def settle(self, archive: Archive) -> None:
        """Measure the latencies of the joint front, until none of it is only predicted."""
        while self.cost.settle(torch.stack([archive.genes[run, place] for run, place in self.places(archive)])):
            pass

    def places(self, archive: Archive) -> list[tuple[int, int]]:
        """Run and place of each architecture of the joint front, fittest first."""
        return [(run, place) for run, place in front_places(archive, self.costs(archive)).tolist()]

    def summary(self, archive: Archive) -> dict[str, Any]:
        """What a report says of the front: the objective, and hypervolumes for up to three reference points.

        ``given`` is the user's; ``worst evaluated`` is the largest cost and the least fitness of everything evaluated;
        ``nadir of the front`` the same of the front, where none of the area is trivial.
        """
        cost = self.costs(archive)
        scored = cost.isfinite()
        points = {} if self.reference is None else {"given": self.reference}
        points["worst evaluated"] = (float(cost[scored].max()), float(archive.fitness[scored].min()))
        front = front_places(archive, cost).unbind(1)
        points["nadir of the front"] = (float(cost[front].max()), float(archive.fitness[front].min()))
        rows = []
        for name, (most, least) in points.items():
            runs = hypervolume(cost, archive.fitness, scored, most, least)
            joint = hypervolume(cost.flatten(), archive.fitness.flatten(), scored.flatten(), most, least)
            rows.append(
                {
                    "reference": name,
                    "cost": most,
                    "fitness": least,
                    "hypervolume": float(joint),
                    "mean": float(runs.mean()),
                    "deviation": float(runs.std(correction=0)),
                }
            )
        return {"objective": self.cost.name, "title": self.cost.title, "hypervolumes": rows}

    def write(self, folder: Path, archive: Archive, report: Report) -> None:
        """Write ``front.csv``, cheapest first, ``evaluated.csv``, and ``front.png`` and ``front.svg``."""
        name = FIELDS[self.cost.name]
        found = sorted(report.candidates, key=lambda candidate: candidate.costs[name])
        write_csv(
            folder / "front.csv",
            [
                {
                    "architecture": one.architecture,
                    **one.costs,
                    "fitness": one.fitness,
                    **one.scores,
                    "seed": one.seed,
                    "evaluation": one.evaluation,
                }
                for one in found
            ],
        )
        cost = self.costs(archive)
        scored = cost.isfinite()
        on_front = torch.zeros_like(scored)
        on_front[front_places(archive, cost).unbind(1)] = True
        self._write_evaluated(folder, archive, cost, on_front)
        runs = cost.shape[0]
        front_figure(
            cost[scored],
            archive.fitness[scored],
            on_front[scored],
            (self.cost.title, self.fitness),
            [folder / "front.png", folder / "front.svg"],
            f", {runs} runs" if runs > 1 else "",
        )

    def _write_evaluated(self, folder: Path, archive: Archive, cost: Tensor, on_front: Tensor) -> None:
        """Write ``evaluated.csv``: the front, and evenly spaced ones of the others if there are many."""
        others = (cost.isfinite() & ~on_front).nonzero()
        places = torch.cat([on_front.nonzero(), others[:: max(-(-len(others) // EVALUATED), 1)]])
        write_csv(
            folder / "evaluated.csv",
            [
                {
                    "architecture": self.cost.model.space.describe(archive.genes[run, place]),
                    "cost": float(cost[run, place]),
                    "fitness": float(archive.fitness[run, place]),
                    "front": bool(on_front[run, place]),
                }
                for run, place in places.tolist()
            ],
        )
