"""What a generation would do and cost, from scoring a few architectures."""

from __future__ import annotations

import time

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.core.archive import first_occurrence
from ednag.core.noise import Noise
from ednag.generation.run import Generation


def estimate(generation: Generation, data: pl.LightningDataModule | None, device: torch.device | str = "cpu") -> str:
    """Say what a generation would do and, from scoring a few random architectures, what it would cost.

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
    generation.fitness(genes[:1], asked[:1])  # pays for what is prepared once
    begun = time.perf_counter()
    generation.fitness(genes[1:], asked[1:])
    each = (time.perf_counter() - begun) / max(len(genes) - 1, 1)
    runs = len(generation.seeds)
    if generation.evaluations is None:
        _, asked = sampler.ask(sampler.round(sampler.init(generation.problem, [0], device), _indifferent)[0])
        most = (sampler.steps or 0) * asked.shape[1]
    else:
        most = generation.evaluations
    most = min(most, space.size)
    lines = {
        "space": f"{space.name}: {space.size:.6g} gene strings of {space.num_genes} genes",
        "fitness": generation.fitness.name,
        "sampler": f"{type(sampler).__name__}, {sampler.steps or 'no last'} step(s)",
        "runs": f"{runs} (seeds {generation.seeds[0]}..{generation.seeds[-1]})",
        "evaluations": f"at most {most:,} distinct architectures per run",
        "limits": ", ".join(f"{k}={v:g}" for k, v in vars(generation.limits).items() if v is not None) or "none",
        "cost": f"{each * 1000:.3g} ms per evaluation on {device}: at most {each * most * runs:,.1f} s in all",
    }
    return "\n".join(f"{name:<12} {text}" for name, text in lines.items())


def _indifferent(genes: Tensor, valid: Tensor) -> Tensor:
    """Score every valid architecture the same."""
    return torch.zeros(valid.shape, dtype=torch.float64, device=genes.device).where(valid, -torch.inf)
