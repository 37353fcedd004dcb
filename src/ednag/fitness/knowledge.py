"""Fitness from what ships: benchmark tables of other data sets, smoothed. No training, no images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.core.inputs import InputFile
from ednag.fitness.base import Fitness, Measured
from ednag.predictor.budgets import PlannedTraining
from ednag.predictor.foresight import Foresight, foresee, predictor_of, weight_of
from ednag.predictor.knowledge import Source, common, load_sources, pick, teachers
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings


class SourceScore:
    """What one source says; for samplers, which trust each by itself.

    Args:
        scores: float64 ``(P,)`` in the order of codes, NaN if unknown.
        space: what the genes mean.
    """

    tabulated = True

    def __init__(self, scores: Tensor, space: SearchSpace) -> None:
        self._scores, self._space = scores, space

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """Look up genes, int64 ``(*B, L)``: float64 ``(*B,)``, NaN if unknown, ``-inf`` if not ``valid``."""
        return self._scores[self._space.code(genes.where(valid[..., None], 0))].where(valid, -torch.inf)


class KnowledgeFitness(Fitness):
    """Score architectures by how well they did on other data sets, in benchmark tables that ship with EDNAG.

    The score is the mean over the sources (one for each data set or task whose table ships), in standard deviations above
    a random architecture. Sources of the data set that is searched are left out: by the name of the fitness's table or of
    the images, and by the content of that table. As prior of a sampler, each source is trusted by itself.

    The tables are of long trainings. For a shorter ``budget``, the shipped predictor of the space is asked too, which
    learned from short ones, see :func:`ednag.predictor.foresight.weight_of`.

    Args:
        sources: names such as ``nasbench201/cifar100`` or ``cifar100``; by default all of the search space, and those of a
            related space if the target was the only one. NAS-Bench-201 and TransNAS-Bench-101 (micro) are related: their
            cells are the same, but for pooling.
        exclude: names of data sets to leave out too.
        budget: the training that is planned for what is found, on the images at hand; the long training of the tables if
            omitted.

    Examples:
        >>> import torch
        >>> from ednag.spaces import NASBench201
        >>> space, fitness = NASBench201(), KnowledgeFitness(exclude=["cifar10"])
        >>> fitness.setup(space)
        >>> genes = torch.tensor([[3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 1]])
        >>> scores = fitness(genes, torch.ones(2, dtype=torch.bool))
        >>> bool(scores[0] > 1 > -1 > scores[1])
        True
    """

    name = "expected score"

    tabulated = True

    def __init__(
        self, sources: Sequence[str] = (), exclude: Sequence[str] = (), budget: PlannedTraining | None = None
    ) -> None:
        super().__init__()
        self.sources, self.exclude, self.budget = list(sources), list(exclude), budget
        self._foreseen: Foresight | None = None
        self._target: Measured | None = None
        self._files: list[InputFile] = []
        self._left_out: list[str] = []

    def unlearn(self, target: Fitness) -> None:
        """Leave out, in :meth:`setup`, what was learned from the data set that another fitness measures."""
        self._target = target.measured()

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Read the sources; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if there is none for that space, or of a name that was asked for, or only the target's own; or if
                there is a budget, and no images that tell the rest of it.
        """
        super().setup(space, data, device)
        own, files = load_sources(space)
        sources = own
        names = {name for source in sources for name in (source.name, source.dataset)}
        if not names.issuperset(self.sources) or not self._teachers(sources, data):
            related, more = load_sources(space, related=True)
            files += more
            sources = [*sources, *related] if self.sources else related or sources
        wanted = pick(sources, self.sources, space.name) if self.sources else sources
        taught = self._teachers(wanted, data)
        self._left_out = [source.name for source in wanted if source not in taught]
        if self._left_out and (self.sources or not taught):
            raise ValueError(
                f"{', '.join(self._left_out)} would teach about its own data set; "
                "name sources of other data sets, or another fitness: --fitness CLASS"
            )
        self._foreseen = self._foresee(data, own)
        self._use(taught, files)

    def _foresee(self, data: pl.LightningDataModule | None, own: Sequence[Source]) -> Foresight | None:
        """Ask the shipped predictor about a training that is shorter than the tables', unless the target taught it."""
        if self.budget is None:
            return None
        if data is None:
            raise ValueError(
                "a budget is of a training on images, and there are none: give --data CLASS, or leave the budget out"
            )
        model = predictor_of(self.space)
        if model is None or weight_of(planned := self.budget.on(data)) == 0:
            return None
        taught = [source for source in own if source.dataset in model.learned_from]
        if len(self._teachers(taught, data)) < len(taught):
            return None
        return foresee(model, self.space, planned, self.device)

    def _teachers(self, sources: Sequence[Source], data: pl.LightningDataModule | None) -> list[Source]:
        """Return the sources that are not of the target's own data set."""
        target = self._target or Measured("", "", {})
        return teachers(sources, [*self.exclude, *data_names(data), target.dataset], target.space, target.values)

    def _use(self, taught: list[Source], files: list[InputFile]) -> None:
        """Score by these sources."""
        self._taught, self._files = taught, files
        self._scores = common(taught).to(self.device)
        if (foreseen := self._foreseen) is not None:
            self._scores = (self._scores + foreseen.weight * foreseen.scores) / (1 + foreseen.weight)
        spread = torch.stack([source.scores for source in taught])
        self._spread = (spread - spread.nanmean(0)).square().nanmean(0).sqrt()
        known = self._scores.isfinite()
        self.partial = bool((self.space.valid(gene_strings(self.space.cardinalities, self.device)) & ~known).any())

    def parts(self) -> list[SourceScore]:
        """Return what each source says by itself, the predictor among them; needs :meth:`setup`."""
        known = [source.scores for source in self._taught]
        if self._foreseen is not None:
            known.append(self._foreseen.scores)
        return [SourceScore(scores.to(self.device), self.space) for scores in known]

    def score(self, genes: Tensor) -> Tensor:
        """Look the mean of the sources up, ``-inf`` if none knows; see :meth:`Fitness.score`."""
        return self._scores[self.space.code(genes)].nan_to_num(nan=-torch.inf)

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Return the standard deviation over the sources, ``(n,)``."""
        return {"disagreement": self._spread[self.space.code(genes).cpu()]}

    def notes(self) -> list[str]:
        """Say what the score means, how far it can be trusted, and who taught it."""
        held_out = [source.held_out for source in self._taught if source.space == self.space.name]
        lines = [
            "score: standard deviations above a random architecture, after the long training of the benchmark tables; "
            "mean of what other data sets' tables say",
            *self._told_of_budget(),
            f"sources: {', '.join(source.name for source in self._taught)}"
            + (f"; left out as the target's own: {', '.join(self._left_out)}" if self._left_out else ""),
        ]
        return [*lines, *_worth(held_out)] if held_out else lines

    def _told_of_budget(self) -> list[str]:
        """Say what the planned training changes."""
        if (foreseen := self._foreseen) is None:
            return []
        plan = foreseen.planned
        return [
            f"planned: {plan.steps:,.0f} steps on {plan.images:,.0f} images of {plan.image_size:.0f} pixels; as that is "
            f"shorter, the predictor that knows short trainings counts {foreseen.weight:.2f} beside 1 of the tables"
            + (
                f" (beyond what it learned from, it answers for the nearest: {foreseen.beyond})"
                if foreseen.beyond
                else ""
            )
        ]

    def _teaching(self) -> list[str]:
        """Name what scores depend on."""
        plan = [] if self._foreseen is None else [f"predictor for {self._foreseen.planned}"]
        return [source.name for source in self._taught] + plan

    def state_dict(self) -> dict[str, Any]:
        """Scores so far, and what they depend on."""
        return {**super().state_dict(), "taught": self._teaching()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved.

        Raises:
            ValueError: if it was saved with other sources.
        """
        if state["taught"] != self._teaching():
            raise ValueError(
                f"the saved scores are of the sources {', '.join(state['taught'])}; resume with the same, "
                "or start a new run"
            )
        super().load_state_dict(state)


def data_names(data: pl.LightningDataModule | None) -> list[str]:
    """Names that images go by: that of their data module's class, and that of their folder."""
    if data is None:
        return []
    root = getattr(data, "root", None)
    return [type(data).__name__, *([Path(root).name] if isinstance(root, (str, Path)) else [])]


def _worth(held_out: Sequence[Mapping[str, float]]) -> list[str]:
    """Say what the first choice was worth on data sets whose own table was left out."""
    beaten, error, first, largest, gain, over = (
        [row[name] for row in held_out] for name in ("beaten", "error", "first", "largest", "gain", "gain_largest")
    )
    ahead = [one - other for one, other in zip(first, largest, strict=True)]
    points = [(a, b) for a, b in zip(gain, over, strict=True) if math.isfinite(a)]
    return [
        f"uncertainty: each table predicted by the others, errors have a standard deviation of {min(error):.2f} to "
        f"{max(error):.2f} among the best tenth",
        f"expected: there, the first choice beat {100 * sum(beaten) / len(beaten):.1f} % of all architectures (at worst "
        f"{100 * min(beaten):.1f} %), and was {sum(first) / len(first):.1f} above a random one and "
        f"{sum(ahead) / len(ahead):.1f} above the one of most parameters"
        + (f" ({_range([a for a, _ in points])} and {_range([b for _, b in points])} points)" if points else ""),
    ]


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"
