"""Tables that hold a part of a space only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ednag.fitness.base import Fitness


class PartialTableFitness(Fitness):
    """Score architectures by a table that may lack most of the space.

    An architecture that the table lacks is unknown: its fitness is ``-inf``, below every known one, so that it is never
    reported; it counts as an evaluation, and in :attr:`unknown`. Samplers are told (:attr:`Fitness.partial`) that this says
    nothing about its neighbours.

    Args:
        keys: identities of the architectures in the table, int64 ``(rows,)``, ascending and distinct.
        metrics: float64 ``(rows,)`` by name, NaN where not measured; ``dataset/split/epochs`` for accuracies.
        metric: the name of the one that is the fitness.

    Attributes:
        unknown: distinct architectures asked for that the table lacks.
    """

    partial = True

    def __init__(self, keys: Tensor, metrics: Mapping[str, Tensor], metric: str) -> None:
        super().__init__()
        self.metrics, self.metric = dict(metrics), metric
        self.unknown = 0
        self._keys = keys

    @property
    def revealed(self) -> list[str]:
        """Names of the metrics that :meth:`reveal` looks up: all accuracies."""
        return [name for name in sorted(self.metrics) if name.count("/") == 2]

    def score(self, genes: Tensor) -> Tensor:
        """Look values up, ``-inf`` where unknown; see :meth:`Fitness.score`."""
        values = self._look_up(genes, self.metric)
        self.unknown += int(values.isnan().sum())
        return values.nan_to_num(nan=-torch.inf).to(genes.device)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up every accuracy, test included where the table has it; see :meth:`Fitness.reveal`.

        Returns:
            ``(n,)`` percentages by name (``cifar10/test/108``), NaN where unknown.

        Raises:
            RuntimeError: if generation is under way.
        """
        super().reveal(genes)
        return {name: self._look_up(genes, name) for name in self.revealed}

    @property
    def optimum(self) -> float:
        """Largest fitness in the table: regret is what a run's best lacks of it."""
        return float(self.metrics[self.metric].nan_to_num(-torch.inf).max())

    def optimum_keys(self) -> Tensor:
        """Identities of the architectures with the largest fitness, int64 ``(k,)``."""
        return self._keys[self.metrics[self.metric] == self.optimum]

    def state_dict(self) -> dict[str, Any]:
        """Scores and counts so far; see :meth:`Fitness.state_dict`."""
        return {**super().state_dict(), "unknown": self.unknown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        super().load_state_dict(state)
        self.unknown = state["unknown"]

    def _look_up(self, genes: Tensor, name: str) -> Tensor:
        """Values of a metric, float64 ``(n,)`` on the CPU; NaN where unknown."""
        keys = self.space.identity(genes).cpu()
        place = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return self.metrics[name][place].where(self._keys[place] == keys, torch.nan)
