"""What limits say of architectures before anything is evaluated or measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ednag.core.numerals import written_out
from ednag.costs.latency_guess import middle
from ednag.costs.model import COUNTED, LIMITED, CostModel, Limits

ENOUGH = 12
"""Measurements before the first prediction is held against a limit: what is dropped wrongly doesn't come back."""


class Screening:
    """Tells how far architectures exceed limits: exactly where costs are counted or looked up, else as predicted.

    A latency that would have to be measured is predicted from those that were measured so far
    (:class:`~ednag.costs.latency_guess.LatencyGuess`), from the first :data:`ENOUGH` on. What is among the best is measured
    all the same, unless it is surely within (:class:`~ednag.fitness.constrained.ConstrainedFitness`), and so is what is
    reported in the end.

    Args:
        limits: what is allowed.
        model: how costs are found.

    Attributes:
        dismissed: proposals that were dropped because of limits, without being looked at further.
    """

    def __init__(self, limits: Limits, model: CostModel) -> None:
        self.limits, self.model = limits, model
        self.dismissed = 0
        self._least: dict[str, float] = {}

    def setup(self) -> None:
        """Find out what is known at once; call after the cost model was set up."""
        self._closed = self.model.counts_at_once()

    @property
    def measures(self) -> bool:
        """Whether a latency is limited that has to be measured."""
        return self.limits.max_latency_ms is not None and not self.model.tabled

    @property
    def quick(self) -> bool:
        """Whether :meth:`excess` can be asked of thousands of architectures at once, and has something to say."""
        tabled = self.limits.max_latency_ms is not None and self.model.tabled
        return (self._closed and bool(self.limits.counted)) or tabled or self.measures

    def excess(self, genes: Tensor, sure: bool = False) -> Tensor:
        """Sum of the relative excesses, as known or predicted without building or measuring a network.

        Args:
            genes: valid architectures, int64 ``(n, L)``.
            sure: whether a predicted latency counts as the least that it may be, not as what it most likely is.

        Returns:
            float64 ``(n,)``, 0 where every limit is met, as far as is known.
        """
        nothing = torch.zeros(len(genes), dtype=torch.float64, device=genes.device)
        excess, most = self._counted(genes) if self._closed else nothing, self.limits.max_latency_ms
        if most is None:
            return excess
        if self.model.tabled:
            return excess + self._timed(genes, most)
        bounds = self._bounds(genes)
        if bounds is None:
            return excess
        return excess + ((self.model.least(bounds, most) if sure else middle(bounds)) / most - 1).clamp(min=0)

    def violation(self, genes: Tensor) -> Tensor:
        """Sum of relative excesses, float64 ``(n,)``, measured where that is in doubt.

        An architecture that surely violates a limit is not measured, nor is one that most likely doesn't.
        """
        most = self.limits.max_latency_ms
        if most is None or self.model.tabled:
            return self.exact(genes)
        excess, bounds = self._counted(genes), self._bounds(genes)
        for i in range(len(genes)) if bounds is None else middle(bounds).argsort(stable=True).tolist():
            doubtful = bool(excess[i] == 0)
            if doubtful and bounds is not None:  # what the last measurement says may count already
                one = bounds[0][i : i + 1], bounds[1][i : i + 1]
                excess[i] = (self.model.least(one, most)[0] / most - 1).clamp(min=0)
                doubtful = bool((excess[i] == 0) & (middle(one)[0] > most))
            if doubtful:
                excess[i] = self._timed(genes[i : i + 1], most)[0]
        return excess

    def exact(self, genes: Tensor) -> Tensor:
        """Sum of relative excesses, all costs counted, looked up or measured, float64 ``(n,)``."""
        excess = self._counted(genes)
        most = self.limits.max_latency_ms
        if most is not None:
            excess = excess + self._timed(genes, most)
        return excess

    def surely_within(self, genes: Tensor) -> Tensor:
        """Mark architectures whose latency, which has to be measured, is surely within its limit; bool ``(n,)``."""
        most, bounds = self.limits.max_latency_ms, self._bounds(genes)
        if most is None or bounds is None:
            return torch.zeros(len(genes), dtype=torch.bool, device=genes.device)
        return bounds[1] <= most

    def key(self, genes: Tensor, identity: Tensor) -> Tensor:
        """Number architectures so that those of one number are within limits together, or beyond them together.

        Isomorphic architectures can differ in layers that nothing flows through, which cost all the same.

        Args:
            genes: int64 ``(*B, L)``, in range.
            identity: of each, int64 ``(*B,)``, see :meth:`ednag.spaces.SearchSpace.identity`.

        Returns:
            int64 ``(*B,)``, non-negative.
        """
        if self._closed and self.measures:
            counts = self.model.counts(genes)
            mixed = identity * 0x1E3779B97F4A7C15 + counts[..., 0] * 0x3F58476D1CE4E5B9 + counts[..., 1]
            return mixed & (2**63 - 1)
        code = self.model.space.code(genes)
        if not self._closed:
            return code
        violates = self.excess(genes.reshape(-1, genes.shape[-1])).view(identity.shape) > 0
        return torch.where(violates, code ^ 2**62, identity)

    def explain(self) -> str:
        """Say what the limits are, and the least of each cost that any architecture had so far."""
        parts = [
            f"{name} {written_out(limit)}; the least that was seen is {written_out(self._least.get(name, torch.nan))}"
            for name, limit in vars(self.limits).items()
            if limit is not None
        ]
        return ", ".join(parts) or "none"

    def state_dict(self) -> dict[str, Any]:
        """How many proposals were dropped."""
        return {"dismissed": self.dismissed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        self.dismissed = state["dismissed"]

    def _bounds(self, genes: Tensor) -> tuple[Tensor, Tensor] | None:
        """Least and most that latencies may be; ``None`` before enough of them were measured."""
        return None if self.model.measured < ENOUGH else self.model.bounds(genes)

    def _counted(self, genes: Tensor) -> Tensor:
        """Sum of relative excesses over counted limits, float64 ``(n,)``."""
        excess = torch.zeros(len(genes), dtype=torch.float64, device=genes.device)
        if self.limits.counted:
            counts = self.model.counts(genes).double()
            for name, limit in self.limits.counted.items():
                excess += self._over(name, limit, counts[:, COUNTED.index(LIMITED[name])])
        return excess

    def _timed(self, genes: Tensor, most: float) -> Tensor:
        """Relative excesses of latencies, looked up or measured, float64 ``(n,)``."""
        return self._over("max_latency_ms", most, self.model.latencies(genes))

    def _over(self, name: str, limit: float, cost: Tensor) -> Tensor:
        """Relative excess of costs ``(n,)`` over a limit; the least of them is remembered."""
        if len(cost):
            self._least[name] = min(self._least.get(name, torch.inf), float(cost.min()))
        return (cost / limit - 1).clamp(min=0)
