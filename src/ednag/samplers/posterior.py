"""What is left of noisy scores once chance is taken off: noise on the scale of ranks, and posterior means."""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.core.archive import Archive, average_rank, feasible
from ednag.samplers.evidence import likeliest
from ednag.samplers.parts import in_parts, normal_scores
from ednag.samplers.problem import Problem
from ednag.samplers.surrogate import GaussianProcess

WINDOW = 256
"""Members of a run that :func:`posterior_mean` looks at: the best ones."""


def declared_noise(fitness: Tensor, error: Tensor, member: Tensor) -> Tensor:
    """Put standard errors on the scale of :func:`normal_scores`, squared.

    A score one standard error higher or lower would have another rank; the mean of the two changes counts.

    Args:
        fitness: float64 ``(R, M)``.
        error: standard errors, ``(R, M)``, >= 0.
        member: which entries count, bool ``(R, M)``.

    Returns:
        variances, float64 ``(R, M)``, 0 where no member or a member that failed.
    """
    known = member & feasible(fitness)
    level = fitness.where(known, 0.0)
    ordered, scores = _curve(fitness, member)
    above, below = (_interpolate(ordered, scores, level + sign * error) for sign in (1, -1))
    return ((above - below) / 2).square().where(known, 0.0)


def posterior_mean(problem: Problem, archive: Archive, process: GaussianProcess | None = None) -> Tensor:
    """Estimate the true fitness of what each run has evaluated, from all of its scores and their standard errors.

    The mean of a Gaussian process at the members themselves, brought back from normal scores to fitness along the run's
    own scores.

    Args:
        problem: what was searched; its ``error`` must declare something.
        archive: what was evaluated.
        process: the model; the default sampler's if omitted.

    Returns:
        float64 ``(R, M)``; ``-inf`` where nothing feasible was evaluated, or more than :data:`WINDOW` are better.
    """
    model = process or GaussianProcess()
    ok = archive.filled & feasible(archive.fitness)
    place = archive.fitness.where(ok, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :WINDOW]
    member, fitness = ok.gather(1, place), archive.fitness.gather(1, place)
    genes = archive.genes.gather(1, place[..., None].expand(-1, -1, archive.genes.shape[-1]))
    error = None if problem.error is None else problem.error(genes, fitness)
    noise = torch.zeros_like(fitness) if error is None else model.relative(declared_noise(fitness, error, member))

    def smooth(known: Tensor, target: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        belief, evidence = likeliest(model, problem.space, known, target, member, noise)
        return (
            belief.alone(evidence.argmax(1)).fit(model, problem.space, known, target, member, noise).predict(known).mean
        )

    target = normal_scores(average_rank(fitness, member), member)
    mean = in_parts(smooth, model.kernel.embed(problem.space, genes), target, member, noise)
    ordered, scores = _curve(fitness, member)
    value = _interpolate(scores, ordered, mean).where(member, -torch.inf)
    return torch.full_like(archive.fitness, -torch.inf).scatter(1, place, value)


def likely_worth(problem: Problem, archive: Archive) -> Tensor:
    """What a report orders architectures by, ``(R, M)``: the fitness itself, or its posterior mean if errors are declared."""
    if problem.error is None or problem.error(archive.genes, archive.fitness) is None:
        return archive.fitness
    return posterior_mean(problem, archive)


def _curve(fitness: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Feasible fitness of each run in ascending order, and its normal scores, both ``(R, M)``; the best fills up the end."""
    known = member & feasible(fitness)
    rank = normal_scores(average_rank(fitness, member), member)
    ordered, order = fitness.where(known, torch.inf).sort(dim=1)
    scores = rank.gather(1, order)
    last = (known.sum(1, keepdim=True) - 1).clamp(min=0)
    beyond = torch.arange(fitness.shape[1], device=fitness.device) > last
    top, top_score = (one.gather(1, last) for one in (ordered, scores))
    return ordered.where(~beyond, top).nan_to_num(posinf=0.0), scores.where(~beyond, top_score)


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Follow the line through points ``(R, M)``, ``x`` ascending; constant beyond its ends."""
    after = (
        torch.searchsorted(x.contiguous(), at.contiguous()).clamp(1, max(x.shape[1] - 1, 1)).clamp(max=x.shape[1] - 1)
    )
    before = (after - 1).clamp(min=0)
    left, right, low, high = x.gather(1, before), x.gather(1, after), y.gather(1, before), y.gather(1, after)
    share = ((at - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
    return low + share * (high - low)
