"""What a sampler believes before the first evaluation: any number of scores, each on the scale of ranks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ednag.core.archive import first_occurrence
from ednag.core.noise import Noise
from ednag.fitness import KnowledgeFitness
from ednag.predictor.budgets import PlannedTraining
from ednag.samplers.base import Sampler
from ednag.samplers.calibration import Prior, Score, random_valid
from ednag.samplers.limits import within_limits
from ednag.samplers.problem import ENUMERABLE, Problem

CANDIDATES = 1024
"""Uniform architectures among which priors look for the best ones, in spaces that are not looked through whole."""

BEST = 64
"""Architectures that priors offer to an opening. Offered to every screen, they led astray on unfamiliar tasks."""


ENOUGH = 64
"""Random architectures within limits that a prior is ranked among, at least."""


class Priors:
    """Several scores, calibrated by :class:`~ednag.samplers.calibration.Prior` among random architectures within limits.

    Args:
        scores: what is believed. One with a method ``parts``, such as :class:`ednag.fitness.KnowledgeFitness`, stands for
            the scores that it returns.
        problem: what is searched.
        device: where genes arrive.
    """

    def __init__(self, scores: Sequence[Score], problem: Problem, device: torch.device | str = "cpu") -> None:
        parts: list[Score] = []
        for score in scores:
            parts += score.parts() if hasattr(score, "parts") else [score]
        self.problem, self.device = problem, device
        self.looked_up = all(getattr(part, "tabulated", False) for part in parts)
        self._priors = [Prior(part, problem.space, reference(problem, device)) for part in parts]

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score genes ``(R, N, L)``: float64 ``(R, N, P)``, each of zero mean and unit variance over random ones."""
        return torch.stack([prior(genes, valid) for prior in self._priors], -1)

    @cached_property
    def best(self) -> Tensor:
        """What the mean of the priors likes best, distinct and best first, int64 ``(n, L)``, ``n`` up to :data:`BEST`.

        Of the whole space if it is small and all priors are tables, else of :data:`CANDIDATES` uniform architectures,
        always the same, brought within limits. What is beyond a limit is left out.
        """
        space = self.problem.space
        if self.looked_up and space.size <= ENUMERABLE:
            genes = self.problem.every_architecture(self.device)
        else:
            genes = space.random(Noise([0], self.device), CANDIDATES)[0]
            genes = within_limits(self.problem, genes[space.valid(genes)][None], Noise([0], self.device))[0]
        genes = genes[self.problem.excess(genes) == 0]
        genes = genes[first_occurrence(self.problem.key(genes))]
        worth = self(genes[None], torch.ones(1, len(genes), dtype=torch.bool, device=genes.device))[0].mean(-1)
        return genes[worth.argsort(descending=True, stable=True)[:BEST]]


def reference(problem: Problem, device: torch.device | str = "cpu") -> Tensor:
    """Random architectures within limits, always the same, int64 ``(n, L)``; brought within them where hardly any is by itself."""
    some = random_valid(problem.space).to(device)
    for genes in (some, within_limits(problem, some[None], Noise([0], device))[0]):
        fine = genes[problem.excess(genes) == 0]
        if len(fine) >= ENOUGH:
            return fine
    return some


def informed(sampler: Sampler, budget: PlannedTraining | None = None) -> Sampler:
    """Return a sampler like this one that also believes what benchmark tables of other data sets say.

    Args:
        sampler: with ``priors``.
        budget: the training by which architectures are measured, see :class:`ednag.fitness.KnowledgeFitness`.

    Raises:
        ValueError: if it takes no priors.
    """
    if not hasattr(sampler, "priors"):
        raise ValueError(
            f"{type(sampler).__name__} has no use for knowledge; choose the preset `default`, or leave out --knowledge"
        )
    new = copy.copy(sampler)
    new.priors = [*sampler.priors, KnowledgeFitness(budget=budget)]
    return new
