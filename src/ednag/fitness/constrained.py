"""Limits on what a network may cost, put around any fitness."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.core.archive import INFEASIBLE
from ednag.costs.counting import Costs
from ednag.costs.model import CostModel, Limits
from ednag.costs.screening import Screening
from ednag.fitness.base import Fitness
from ednag.spaces import SearchSpace

CONFIRMED = 3
"""Best architectures whose latency is measured if it may be beyond the limit; a model says it of the others."""


class ConstrainedFitness(Fitness):
    """Adds limits to another fitness: violators rank below every feasible architecture and are never scored.

    They use up none of a sampler's budget (:meth:`violates` finds them beforehand). Where latency is measured, it is
    predicted once enough was measured, and measured of what scores among the best.

    A violator's fitness is ``INFEASIBLE * (1 + violation)``, so that among violators less violation ranks higher.
    Costs are those of the very network that would be built: isomorphic architectures can differ in layers that
    nothing flows through, and such layers are parameters too. Counters, ``generating`` and everything else about the
    scores are the wrapped fitness's; cost checks are no look-ups.

    Args:
        fitness: what is maximised among feasible architectures.
        limits: what is allowed.
        cost_model: how costs are found; networks of the space's default size if omitted.

    Raises:
        ValueError: if latency is limited and the cost model has none.

    Examples:
        >>> from ednag.fitness import ZeroCostFitness
        >>> from ednag.spaces import NASBench201
        >>> fitness = ConstrainedFitness(ZeroCostFitness(["params"]), Limits(max_params=100_000))
        >>> fitness.setup(NASBench201())
        >>> fitness.violates(torch.tensor([[3] * 6, [0] * 6]), torch.tensor([True, True]))
        tensor([ True, False])
    """

    def __init__(self, fitness: Fitness, limits: Limits, cost_model: CostModel | None = None) -> None:
        self.fitness = fitness
        counts = fitness.lookups, fitness.evaluations, fitness.generating
        super().__init__()  # sets the counters, which are the wrapped fitness's
        self.lookups, self.evaluations, self.generating = counts
        self.limits = limits
        self.cost_model = CostModel() if cost_model is None else cost_model
        self.name = fitness.name
        self.screening = Screening(limits, self.cost_model)
        self._confirmed: dict[int, float] = {}
        if limits.max_latency_ms is not None and self.cost_model.latency_device is None:
            raise ValueError("max_latency_ms needs a latency; give the cost model a latency_device (e.g. cpu)")

    @property
    def lookups(self) -> int:
        """Feasible architectures asked for, repeats included."""
        return self.fitness.lookups

    @lookups.setter
    def lookups(self, value: int) -> None:
        self.fitness.lookups = value

    @property
    def evaluations(self) -> int:
        """Feasible architectures that were scored."""
        return self.fitness.evaluations

    @evaluations.setter
    def evaluations(self, value: int) -> None:
        self.fitness.evaluations = value

    @property
    def partial(self) -> bool:  # type: ignore[override]  # some know it only when they are set up
        """Whether ``-inf`` says that an architecture is unknown."""
        return self.fitness.partial

    @property
    def generating(self) -> bool:
        """Whether generation is under way."""
        return self.fitness.generating

    @generating.setter
    def generating(self, value: bool) -> None:
        self.fitness.generating = value

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Set up the wrapped fitness and the cost model; see :meth:`Fitness.setup`."""
        super().setup(space, data, device)
        self.fitness.setup(space, data, device)
        self.cost_model.setup(space, data)
        self.screening.setup()

    def costs(self, genes: Tensor) -> list[Costs]:
        """Costs of architectures, each distinct one found once.

        Args:
            genes: int64 ``(n, L)``.

        Returns:
            ``n`` costs.
        """
        return self.cost_model.of_each(genes)

    def explain(self) -> str:
        """Say what the limits are, and the least of each cost that any architecture had so far."""
        return self.screening.explain()

    @property
    def screen(self) -> Screening | None:
        """What limits say before an architecture is looked up, for the sampler; ``None`` without limits."""
        return self.screening if self.limits.any else None

    def violation(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Sum of relative excesses, float64 ``(*B,)``: 0 if every limit is met or the architecture is invalid.

        What costs no time is asked first, so that an architecture that violates a counted limit is never timed; see
        :meth:`~ednag.costs.screening.Screening.violation`.
        """
        violation = torch.zeros(valid.shape, dtype=torch.float64, device=genes.device)
        if self.limits.any and valid.any():
            violation[valid] = self.screening.violation(genes[valid])
        return violation

    def kept(self, genes: Tensor) -> bool:
        """Whether one architecture, int64 ``(L,)``, meets every limit, a latency as it is measured."""
        return float(self.screening.exact(genes[None])[0]) == 0

    def _among_the_best(self, genes: Tensor, scores: Tensor) -> Tensor:
        """Relative excesses of what would be among the :data:`CONFIRMED` best so far, as measured, float64 ``(n,)``.

        The others are believed to be within limits, as predicted: their latency doesn't matter. Nor is measured yet what is
        surely within.
        """
        excess, sure = torch.zeros_like(scores), self.screening.surely_within(genes)
        for i in scores.argsort(descending=True, stable=True).tolist():
            best = sorted(self._confirmed.values())[-CONFIRMED:]
            if not scores[i].isfinite() or (len(best) == CONFIRMED and scores[i] <= best[0]):
                break
            excess[i] = 0 if sure[i] else self.screening.exact(genes[i : i + 1])[0]
            if excess[i] == 0:
                self._confirmed[int(self.space.identity(genes[i]))] = float(scores[i])
        return excess

    def violates(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Mark which valid architectures violate a limit, bool ``(*B,)``; nothing is scored."""
        return self.violation(genes, valid) > 0

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score a batch, see :meth:`Fitness.__call__`; at or below ``INFEASIBLE`` where a limit is violated."""
        violation = self.violation(genes, valid)
        asked = valid & (violation == 0)
        scores = self.fitness(genes, asked)
        if self.screening.measures:
            violation[asked] += self._among_the_best(genes[asked], scores[asked])
        return torch.where(violation > 0, INFEASIBLE * (1 + violation), scores)

    def score(self, genes: Tensor) -> Tensor:
        """Score architectures, int64 ``(n, L)``, under the limits."""
        return self(genes, torch.ones(len(genes), dtype=torch.bool, device=genes.device))

    def standard_error(self, genes: Tensor, scores: Tensor) -> Tensor | None:
        """Standard errors of the wrapped fitness's scores, see :meth:`Fitness.standard_error`."""
        return self.fitness.standard_error(genes, scores)

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Parts of the wrapped fitness's scores, see :meth:`Fitness.details`."""
        return self.fitness.details(genes)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up test metrics in the wrapped fitness, see :meth:`Fitness.reveal`."""
        return self.fitness.reveal(genes)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped fitness's state, and the costs found so far."""
        costs = {"costs": self.cost_model.state_dict(), "screening": self.screening.state_dict()}
        return {"fitness": self.fitness.state_dict(), "confirmed": dict(self._confirmed), **costs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        self.fitness.load_state_dict(state["fitness"])
        self.cost_model.load_state_dict(state["costs"])
        self.screening.load_state_dict(state["screening"])
        self._confirmed = dict(state["confirmed"])
