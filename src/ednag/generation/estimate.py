"""What a generation would do and cost, from its first rounds."""

from __future__ import annotations

import time

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.core.archive import first_occurrence
from ednag.core.noise import Noise
from ednag.core.numerals import written_out
from ednag.generation.run import Generation
from ednag.samplers import State


def estimate(generation: Generation, data: pl.LightningDataModule | None, device: torch.device | str = "cpu") -> str:
    """Say what a generation would do and, from its first rounds, what it would cost.

    A few random architectures are scored first, limits included; if a round of such can be afforded, the first rounds are
    then run as they would be, so that the sampler's own work counts as well.

    Args:
        generation: the plan.
        data: images of the task.
        device: where the few are scored.
    """
    generation.setup(data, device)
    space, sampler = generation.space, generation.sampler
    genes = space.random(Noise([0], device), 256)[0]
    genes = genes[space.valid(genes)]
    genes = genes[first_occurrence(space.identity(genes))][:3]
    asked = torch.ones(len(genes), dtype=torch.bool, device=device)
    generation.constrained(genes[:1], asked[:1])  # pays for what is prepared once
    begun = time.perf_counter()
    generation.constrained(genes[1:], asked[1:])
    each = (time.perf_counter() - begun) / max(len(genes) - 1, 1)
    runs = len(generation.seeds)
    if generation.evaluations is None:
        _, asked = sampler.ask(sampler.round(sampler.init(generation.problem, [0], device), _indifferent)[0])
        most = (sampler.steps or 0) * asked.shape[1]
    else:
        most = generation.evaluations
    most = min(most, space.size)
    seconds = each * most * runs
    if each * runs * ROUND < PROBED:
        seconds = max(seconds, seconds_by_rounds(generation, most))
        each = seconds / (most * runs)
    lines = {
        "space": f"{space.name}: {written_out(space.size)} gene strings of {space.num_genes} genes",
        "fitness": generation.fitness.name,
        "sampler": type(sampler).__name__ + (f", {sampler.steps} steps" if sampler.steps else ""),
        "runs": f"{runs} (seeds {generation.seeds[0]}..{generation.seeds[-1]})",
        "evaluations": f"at most {most:,} distinct architectures per run",
        "limits": ", ".join(f"{k}={written_out(v)}" for k, v in vars(generation.limits).items() if v is not None)
        or "none",
        "cost": f"{_duration(each)} per evaluation on {device}: about {_duration(max(seconds, 0.01))} in all",
    }
    return "\n".join(f"{name:<12} {text}" for name, text in lines.items())


def _duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


PROBED = 3.0
"""Seconds that the first rounds may take."""

ROUND = 32
"""Architectures that a first round is taken to have."""


class _Enough(Exception):  # noqa: N818
    """The first rounds have told enough."""


def seconds_by_rounds(generation: Generation, most: int) -> float:
    """Run the first rounds for :data:`PROBED` seconds, and scale what the later of them took to all evaluations.

    Args:
        generation: set up; nothing is saved.
        most: evaluations per run.

    Returns:
        seconds of the whole generation.
    """
    begun = time.perf_counter()
    marks: list[tuple[float, float]] = []

    def after_round(state: State, genes: Tensor, values: Tensor) -> None:
        marks.append((time.perf_counter() - begun, float(state.archive.count.double().mean())))
        if marks[-1][0] > PROBED and len(marks) > 1:
            raise _Enough

    generation.constrained.generating = True
    try:
        generation.sampler.sample(
            generation.problem,
            generation.constrained,
            generation.seeds,
            generation.evaluations,
            generation.device,
            None,
            after_round,
        )
        return time.perf_counter() - begun
    except _Enough:
        (half, before), (end, after) = marks[len(marks) // 2 - 1], marks[-1]
        return end + (end - half) / max(after - before, 1.0) * max(most - after, 0.0)
    finally:
        generation.constrained.generating = False


def _indifferent(genes: Tensor, valid: Tensor) -> Tensor:
    """Score every valid architecture the same."""
    return torch.zeros(valid.shape, dtype=torch.float64, device=genes.device).where(valid, -torch.inf)
