"""The history of a generation: one line for each round, as means over its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ednag.core.archive import Archive, feasible
from ednag.core.distributed import world
from ednag.generation.metrics import unique_rate
from ednag.spaces import SearchSpace

Row = dict[str, float]
"""One line of a generation's history."""


class Round(NamedTuple):
    """What a round's row is made of, in one process.

    Attributes:
        archive: of its runs, after the round.
        genes: the architectures asked for, ``(R, N, L)``.
        values: their fitness, ``(R, N)``.
        save: whether the state is to be saved.
    """

    archive: Archive
    genes: Tensor
    values: Tensor
    save: bool

    def shared(self) -> Round:
        """Return this where all processes can use it: on the CPU, if there are several."""
        if world() == 1:
            return self
        return Round(self.archive.to("cpu"), self.genes.cpu(), self.values.cpu(), self.save)


def summed_up(space: SearchSpace, step: int, rounds: Sequence[Round], history: Sequence[Row], measured: int = 0) -> Row:
    """Sum up a round, as means over the runs of all processes.

    Args:
        space: what the genes mean.
        step: number of the round.
        rounds: one of each process.
        history: rows of the rounds before.
        measured: latencies that were measured so far.
    """
    archive = Archive.join([part.archive for part in rounds])
    most = max(part.genes.shape[1] for part in rounds)
    places = [torch.arange(most) % part.genes.shape[1] for part in rounds]  # who proposed less repeats itself
    genes = torch.cat([part.genes[:, place] for part, place in zip(rounds, places, strict=True)])
    values = torch.cat([part.values[:, place] for part, place in zip(rounds, places, strict=True)])
    valid = space.valid(genes)
    before = history[-1]["evaluations"] + history[-1]["violators"] if history else 0.0
    return {
        "step": step,
        "evaluations": float(archive.paid.double().mean()),
        "violators": float(archive.violators.double().mean()),
        "lookups": float(archive.lookups.double().mean()),
        "best": _feasible_mean(archive.fitness.amax(1)),
        "mean": _feasible_mean(values),
        "valid": float(valid.double().mean()),
        "feasible": float(feasible(values).double().mean()),
        "unique": float(unique_rate(space.code(genes.where(valid[..., None], 0))).mean()),
        "novel": (float(archive.count.double().mean()) - before) / genes.shape[1],
        **({"measured": float(measured)} if measured else {}),
    }


def rates(history: Sequence[Row]) -> Row:
    """Mean shares over a history: valid, unique in their round, and (from the second round on) new."""
    parts = {"valid": history, "unique": history, "novel": history[1:]}
    return {f"{name}_rate": sum(row[name] for row in rows) / max(len(rows), 1) for name, rows in parts.items()}


def _feasible_mean(values: Tensor) -> float:
    """Mean of the feasible values; NaN if there is none."""
    return float(values[feasible(values)].mean())
