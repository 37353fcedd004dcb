"""Which fitness is used if the user names none."""

from __future__ import annotations

import logging

import lightning.pytorch as pl

from ednag.fitness.base import Fitness
from ednag.fitness.knowledge import KnowledgeFitness
from ednag.fitness.probe import ProbeFitness
from ednag.fitness.zero_cost import ZeroCostFitness
from ednag.predictor.budgets import PlannedTraining
from ednag.predictor.knowledge import known_spaces
from ednag.spaces import SearchSpace

log = logging.getLogger(__name__)


def default_fitness(
    space: SearchSpace, data: pl.LightningDataModule | None, budget: PlannedTraining | None = None
) -> Fitness:
    """Choose the best score of a space that needs no training.

    Args:
        space: where architectures come from.
        data: images of the task, if there are any.
        budget: the training that is planned for what is found.

    Returns:
        what benchmark tables of other data sets say, if any of that space ship, with the shipped predictor where the
        planned training is short; adding one that looks at the images made it no better (``docs/results.md``). For
        sub-networks of a pretrained network, a probe of its features; otherwise zero-cost proxies on the images, which is
        logged.

    Raises:
        ValueError: if there is neither a table nor images.
    """
    if space.name in known_spaces():
        return KnowledgeFitness(budget=budget)
    if space.name == "pretrained_lite" and data is not None:
        return ProbeFitness()
    if data is None:
        raise ValueError(
            f"generate needs a score to maximise: no benchmark table teaches about {space.name}, so name a fitness "
            "(--fitness CLASS) or give images (--data CLASS), on which untrained networks are then compared"
        )
    fitness = ZeroCostFitness()
    log.warning(
        "no benchmark table teaches about %s: architectures are compared untrained, by %s on your images, which tells "
        "little about accuracy; --fitness TrainingFitness measures it",
        space.name,
        " and ".join(fitness.proxies),
    )
    return fitness
