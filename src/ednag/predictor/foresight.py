"""What the shipped predictor adds to the tables of other data sets for a training that is shorter than theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ednag.predictor.budgets import BENCHMARK, TrainingBudget, outside
from ednag.predictor.knowledge import settle
from ednag.predictor.meta_predictor import MetaPredictor, load_predictor
from ednag.predictor.saving import shipped_predictors
from ednag.spaces.base import SearchSpace, gene_strings

SHORT = 2_352
"""Steps up to which the predictor weighs as much as the tables: NAS-Bench-201's 12 epochs on 50,000 images."""


@dataclass(frozen=True)
class Foresight:
    """What a predictor expects of a training.

    Attributes:
        scores: float64 ``(P,)`` in the order of codes, the same for isomorphic ones, of mean 0 and variance 1 over classes;
            NaN if invalid.
        weight: of these scores beside 1 of the tables, in (0, 1].
        planned: the training.
        beyond: which of its numbers are out of the range that the predictor learned from; empty if none is.
    """

    scores: Tensor
    weight: float
    planned: TrainingBudget
    beyond: str


def weight_of(planned: TrainingBudget) -> float:
    """How much the predictor should count beside the tables.

    1 up to :data:`SHORT` steps, falling with their logarithm to 0 at the tables' long training: left-out data sets are ranked
    better by both together after 64 steps and after 12 epochs, and better by the tables alone after 200 epochs
    (``docs/results.md``).

    Examples:
        >>> weight_of(TrainingBudget(640, 1000, 32, 10, 80)), weight_of(BENCHMARK)
        (1.0, 0.0)
    """
    longer = math.log(BENCHMARK.steps / planned.steps) / math.log(BENCHMARK.steps / SHORT)
    return min(1.0, max(0.0, longer))


def predictor_of(space: SearchSpace) -> MetaPredictor | None:
    """Read the predictor that ships for a space, if one does and it needs no images."""
    if space.name not in shipped_predictors():
        return None
    model = load_predictor(space.name)
    return model if model.data_encoder is None else None


def foresee(model: MetaPredictor, space: SearchSpace, planned: TrainingBudget, device: torch.device) -> Foresight:
    """Ask a predictor about all architectures of a space that can be enumerated."""
    genes = gene_strings(space.cardinalities)
    valid = space.valid(genes)
    scores = torch.full((len(genes),), torch.nan, dtype=torch.float64)
    scores[valid] = model.predict_scores(genes[valid], model.embed(budget=planned.encode()))[0].double()
    return Foresight(
        settle(scores, space).to(device), weight_of(planned), planned, outside(planned, *model.learned_range())
    )
