"""How well predicted scores rank the architectures of one task."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional import kendall_rank_corrcoef, pearson_corrcoef, spearman_corrcoef

SCORES = ("spearman", "kendall", "pearson", "regret1", "regret5")
"""Names of the scores; regrets are better where they are lower."""


def task_scores(predicted: Tensor, accuracy: Tensor) -> dict[str, Tensor]:
    """Compare predictions with measured accuracies.

    Args:
        predicted: ``(n,)``, ``n >= 2``.
        accuracy: percent, ``(n,)``.

    Returns:
        scalars by name of :data:`SCORES`: correlations (0 if one side is constant), and the accuracy points between
        the best architecture and the best of the 1 and 5 that are predicted to be best.
    """
    predicted, accuracy = predicted.double(), accuracy.double()
    if bool((predicted == predicted[0]).all()) or bool((accuracy == accuracy[0]).all()):
        spearman = kendall = pearson = torch.zeros_like(accuracy[0])
    else:
        spearman, pearson = spearman_corrcoef(predicted, accuracy), pearson_corrcoef(predicted, accuracy)
        tau = kendall_rank_corrcoef(predicted, accuracy)
        kendall = tau[0] if isinstance(tau, tuple) else tau
    order = predicted.argsort(descending=True, stable=True)
    best = accuracy.max()
    regret = {f"regret{k}": best - accuracy[order[:k]].max() for k in (1, 5)}
    return {"spearman": spearman, "kendall": kendall, "pearson": pearson, **regret}
