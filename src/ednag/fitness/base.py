"""What a fitness is: a score for each architecture, paid for once, and counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.spaces import SearchSpace


class Fitness(ABC):
    """Score architectures; higher is better.

    A subclass implements :meth:`score` for distinct, valid architectures; the base class takes care of invalid ones,
    of isomorphic ones (scored once, whichever run asks) and of counting.

    Attributes:
        lookups: valid architectures asked for, repeats included.
        evaluations: architectures that :meth:`score` was called with.
        generating: whether generation is under way; :meth:`reveal` is refused then.
    """

    unknown: int = 0
    """Architectures asked for that a partial table does not know (they score ``-inf``)."""

    name: str = "fitness"
    """What the scores are, as in reports and on axes."""

    def __init__(self) -> None:
        self.lookups = 0
        self.evaluations = 0
        self.generating = False
        self._known: dict[int, float] = {}

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Prepare for scoring architectures of ``space`` on ``device``; called once before generation.

        Args:
            space: what the genes mean.
            data: images of the task, where the user gave any.
            device: where genes arrive and scores are expected.

        Raises:
            ValueError: if this fitness can't score that space or needs data and got none.
        """
        self.space = space
        self.device = torch.device(device)

    @abstractmethod
    def score(self, genes: Tensor) -> Tensor:
        """Score distinct, valid architectures.

        Args:
            genes: int64 ``(n, L)``.

        Returns:
            ``(n,)``, any floating type; a non-finite value counts as failed.
        """

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score a batch of architectures.

        Args:
            genes: int64 ``(*B, L)``.
            valid: bool ``(*B,)``; invalid architectures are not scored.

        Returns:
            float64 ``(*B,)``: ``-inf`` where invalid or failed.
        """
        out = torch.full(valid.shape, -torch.inf, dtype=torch.float64, device=genes.device)
        asked = genes[valid]
        if len(asked) == 0:
            return out
        self.lookups += len(asked)
        keys = self.space.identity(asked).tolist()
        fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}
        if fresh:
            order = sorted(fresh.values())
            scores = self.score(asked[order]).double()
            scores = scores.where(scores.isfinite(), -torch.inf)
            self._known.update((keys[i], value) for i, value in zip(order, scores.tolist(), strict=True))
            self.evaluations += len(order)
        out[valid] = torch.tensor([self._known[key] for key in keys], dtype=torch.float64, device=genes.device)
        return out

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Return the parts that the scores of evaluated architectures are made of; nothing by default.

        Args:
            genes: evaluated architectures, int64 ``(n, L)``.

        Returns:
            ``(n,)`` values by name.
        """
        return {}

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up what only a finished generation may see (a benchmark's test metrics); nothing by default.

        Args:
            genes: the reported architectures, int64 ``(n, L)``.

        Returns:
            ``(n,)`` values by name.

        Raises:
            RuntimeError: if generation is under way.
        """
        if self.generating:
            raise RuntimeError(f"{self.name}: test metrics can't be looked up while generation is under way")
        return {}

    @property
    def optimum(self) -> float | None:
        """Largest fitness there is, where it is known."""
        return None

    def optimum_keys(self) -> Tensor | None:
        """Identities of the architectures with the largest fitness, int64 ``(k,)``, where they are known."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Scores and counts so far, so that a resumed run pays nothing twice."""
        return {"known": self._known, "lookups": self.lookups, "evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        self._known = dict(state["known"])
        self.lookups, self.evaluations = state["lookups"], state["evaluations"]
