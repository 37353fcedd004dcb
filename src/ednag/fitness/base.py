"""The interface of a fitness: each architecture is scored once, and evaluations are counted."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.spaces import SearchSpace

log = logging.getLogger(__name__)

FAILURES = 20
"""Abort after this many failures if nothing has ever been scored."""


class SealedError(RuntimeError):
    """Raised when test metrics are requested during generation; it never counts as a failed architecture."""


class Measured(NamedTuple):
    """What a fitness measures, for prior knowledge to leave out.

    Attributes:
        dataset: name of the data set or task.
        space: name of the space in whose order of codes the values are.
        values: float64 ``(P,)`` by the name of the metric.
    """

    dataset: str
    space: str
    values: dict[str, Tensor]


class Fitness(ABC):
    """Score architectures; higher is better.

    A subclass implements :meth:`score` for distinct, valid architectures. The base class handles invalid ones, scores
    isomorphic ones once (whichever run asks), survives failures, and counts. If :meth:`score` raises for a batch, each
    architecture of the batch is scored alone, so that only those that cause the error fail.

    Attributes:
        lookups: valid architectures asked for, repeats included.
        evaluations: architectures that :meth:`score` was called with.
        generating: whether generation is under way; :meth:`reveal` is refused then.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> class Convolutions(Fitness):
        ...     def score(self, genes):
        ...         return (genes == 3).sum(-1).double()
        >>> fitness = Convolutions()
        >>> fitness.setup(NASBench201())
        >>> fitness(torch.tensor([[3] * 6, [0] * 6, [3] * 6]), torch.tensor([True, True, False]))
        tensor([6., 0., -inf], dtype=torch.float64)
        >>> fitness.evaluations
        2
    """

    partial: bool = False
    """Whether ``-inf`` means that an architecture is unknown rather than bad."""

    unknown: int = 0
    """Architectures asked for that a partial table does not know (they score ``-inf``)."""

    failures: int = 0
    """Architectures for which :meth:`score` raised, or returned NaN or ``+inf`` (they score ``-inf``)."""

    parallel: bool = False
    """Whether a score takes so long that it is worth another process (see :meth:`measure`)."""

    name: str = "fitness"
    """Name of the scores in reports and on axes."""

    def __init__(self) -> None:
        self.lookups = 0
        self.evaluations = 0
        self.generating = False
        self._known: dict[int, float] = {}
        self._succeeded = False
        self._elsewhere: Callable[[Tensor], None] | None = None

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
            ``(n,)``, any floating type; NaN and ``+inf`` count as failed, ``-inf`` says that there is no score.
        """

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Score a batch of architectures.

        Args:
            genes: int64 ``(*B, L)``.
            valid: bool ``(*B,)``; invalid architectures are not scored.

        Returns:
            float64 ``(*B,)``: ``-inf`` if invalid or failed.

        Raises:
            RuntimeError: if all of the first architectures failed, :data:`FAILURES` or more.
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
            if self._elsewhere is not None:
                self._elsewhere(asked[order])
                order = [i for i in order if keys[i] not in self._known]
        if fresh and order:
            scores = self._attempt(asked[order])
            self._known.update((keys[i], value) for i, value in zip(order, scores.tolist(), strict=True))
            self.evaluations += len(order)
        out[valid] = torch.tensor([self._known[key] for key in keys], dtype=torch.float64, device=genes.device)
        return out

    def knows(self, genes: Tensor) -> bool:
        """Whether an architecture, int64 ``(L,)``, has been scored."""
        return int(self.space.identity(genes)) in self._known

    def measure(self, genes: Tensor) -> dict[str, Any]:
        """Score one architecture in another process, int64 ``(L,)``.

        Returns:
            plain values by name, which :meth:`remember` understands: ``score`` alone by default.
        """
        return {"score": float(self.score(genes[None])[0])}

    def remember(self, genes: Tensor, found: Mapping[str, Any]) -> None:
        """Take in what :meth:`measure` has returned elsewhere for an architecture.

        Args:
            genes: int64 ``(L,)``.
            found: what it returned, or ``{"error": why it returned nothing}``.

        Raises:
            RuntimeError: if all of the first architectures failed, as in a call.
        """
        score = float(found.get("score", torch.nan))
        self.evaluations += 1
        if math.isnan(score) or score == math.inf:
            self._note(genes[None], RuntimeError(found["error"]) if "error" in found else None)
            score = -torch.inf
        else:
            self._succeeded = True
        self._known[int(self.space.identity(genes))] = score

    @contextmanager
    def measured_by(self, measure_all: Callable[[Tensor], None]) -> Iterator[None]:
        """Let others score for a while.

        Args:
            measure_all: given distinct, valid architectures, int64 ``(n, L)``; calls :meth:`remember` for each.
        """
        self._elsewhere = measure_all
        try:
            yield
        finally:
            self._elsewhere = None

    def _attempt(self, genes: Tensor) -> Tensor:
        """Score architectures, float64 ``(n,)``, ``-inf`` for failures; abort if nothing has ever been scored."""
        try:
            scores = self.score(genes).double()
        except SealedError:
            raise
        except Exception as error:
            if len(genes) > 1:
                return torch.cat([self._attempt(one) for one in torch.split(genes, 1)])
            scores = torch.full((1,), torch.nan, dtype=torch.float64, device=genes.device)
            self._note(genes, error)
        else:
            failed = scores.isnan() | scores.isposinf()
            self._succeeded |= not bool(failed.all())
            for place in failed.nonzero():
                self._note(genes[place], None)
        return scores.where(scores.isfinite(), -torch.inf)

    def _note(self, genes: Tensor, error: Exception | None) -> None:
        """Count a failed architecture and log the first few; abort if none has ever been scored.

        Raises:
            RuntimeError: in that case.
        """
        self.failures += 1
        reason = "the score is not finite" if error is None else f"{type(error).__name__}: {error}"
        architecture = self.space.describe(genes[0])
        if self.failures <= 3:
            log.warning("%s failed for %s: %s", self.name, architecture, reason)
        if self.failures >= FAILURES and not self._succeeded:
            raise RuntimeError(
                f"{self.name} failed for all of the first {self.failures} architectures; the last one was "
                f"{architecture}: {reason}"
            ) from error

    def measured(self) -> Measured | None:
        """Return the table that this fitness looks up, with its test metrics: only what is to be left out may see it."""
        return None

    def unlearn(self, target: Fitness) -> None:  # noqa: B027 (most know nothing of any target)
        """Leave out what was learned from the data set that another fitness measures; called before :meth:`setup`."""

    def notes(self) -> list[str]:
        """Say what the scores mean and how far they can be trusted, in lines for the report; nothing by default."""
        return []

    def standard_error(self, genes: Tensor, scores: Tensor) -> Tensor | None:
        """Return how far scores may be from the truth by chance; ``None``, the default, declares nothing.

        A sampler then trusts uncertain scores less, and the report chooses by posterior mean, not by the luckiest draw.

        Args:
            genes: evaluated architectures, int64 ``(*B, L)``.
            scores: their scores, float64 ``(*B,)``; anything where not finite.

        Returns:
            standard errors >= 0 in the units of the scores, float64 ``(*B,)``.
        """
        return None

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Return the components of the scores of evaluated architectures; none by default.

        Args:
            genes: evaluated architectures, int64 ``(n, L)``.

        Returns:
            ``(n,)`` values by name.
        """
        return {}

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Look up what may be seen only after generation (a benchmark's test metrics); nothing by default.

        Args:
            genes: the reported architectures, int64 ``(n, L)``.

        Returns:
            ``(n,)`` values by name.

        Raises:
            SealedError: if generation is under way.
        """
        if self.generating:
            raise SealedError(f"{self.name}: test metrics can't be looked up while generation is under way")
        return {}

    @property
    def optimum(self) -> float | None:
        """Largest fitness there is, if it is known."""
        return None

    def optimum_keys(self) -> Tensor | None:
        """Identities of the architectures with the largest fitness, int64 ``(k,)``, if they are known."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Scores and counts so far, so that a resumed run evaluates nothing twice."""
        counts = {name: getattr(self, name) for name in ("lookups", "evaluations", "failures")}
        return {"known": self._known, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        self._known = dict(state["known"])
        self._succeeded = any(value > -torch.inf for value in self._known.values())
        self.lookups, self.evaluations = state["lookups"], state["evaluations"]
        self.failures = state.get("failures", 0)


def merge_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the :meth:`Fitness.state_dict` of several processes that scored for different runs.

    Counts are added, and scores and masks united; everything else is equal, and taken from the first.
    """

    def join(name: str, parts: list[Any]) -> Any:
        first = parts[0]
        if isinstance(first, dict):
            names = dict.fromkeys(key for part in parts for key in part)
            return {key: join(str(key), [part[key] for part in parts if key in part]) for key in names}
        if name in ("lookups", "evaluations", "failures", "unknown", "dismissed"):
            return sum(parts)
        if isinstance(first, Tensor) and first.dtype == torch.bool:
            return torch.stack(parts).any(0)
        return first

    joined: dict[str, Any] = join("", list(states))
    return joined
