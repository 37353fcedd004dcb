"""Several samplers on one problem: the same seeds, the same budget, and statistics of what each reached."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from ednag.core.archive import Archive, feasible
from ednag.core.distributed import world
from ednag.core.storage import write_csv, write_json
from ednag.fitness import Fitness
from ednag.generation.figures import Curve, comparison_figure
from ednag.generation.metrics import best_so_far
from ednag.generation.run import Generation
from ednag.samplers import Sampler
from ednag.spaces import SearchSpace


@dataclass(frozen=True)
class Outcome:
    """What one sampler reached on all seeds.

    Attributes:
        name: of the sampler.
        best: best fitness after each distinct evaluation, float64 ``(R, E)``; a run that ended early keeps its last.
        first_hit: distinct evaluations until a member of the optimum's class was evaluated, ``(R,)``; infinite if none
            was, NaN if the optimum is unknown.
        selected: metrics of each run's best architecture, looked up after it had ended, ``(R,)`` each.
        evaluations: distinct architectures each run evaluated, int64 ``(R,)``.
        lookups: architectures each run asked for, int64 ``(R,)``.
        seconds: wall-clock for all runs.
        first_value: as ``first_hit``, until the optimal value was reached: later where a benchmark trained the members of
            a class one by one, with different outcomes.
    """

    name: str
    best: Tensor
    first_hit: Tensor
    selected: dict[str, Tensor]
    evaluations: Tensor
    lookups: Tensor
    seconds: float
    first_value: Tensor | None = None


class Comparison:
    """Run samplers on the same seeds and budget; the first one is what the others are tested against.

    Args:
        space: where architectures come from.
        fitness: the score to maximise.
        samplers: by name.
        seeds: one run each, the same for all.
        evaluations: distinct architectures that a run may evaluate.
        checkpoints: numbers of evaluations at which success and regret are reported.
        together: runs that advance in one batch; bounds memory.

    Raises:
        ValueError: if there is no sampler, or a number is out of range.

    Examples:
        >>> from ednag.fitness import ZeroCostFitness
        >>> from ednag.samplers import LocalSearch, RandomSearch
        >>> from ednag.spaces import NASBench201
        >>> samplers = {"local": LocalSearch(), "random": RandomSearch()}
        >>> Comparison(NASBench201(), ZeroCostFitness(["params"]), samplers, range(4), 20, [10, 20]).seeds
        range(0, 4)
    """

    def __init__(
        self,
        space: SearchSpace,
        fitness: Fitness,
        samplers: Mapping[str, Sampler],
        seeds: Sequence[int],
        evaluations: int,
        checkpoints: Sequence[int] = (50, 100, 200),
        together: int = 250,
    ) -> None:
        if not samplers:
            raise ValueError("name at least one sampler to compare")
        if odd := [name for name in samplers if not re.fullmatch(r"\w[\w .+-]*", name)]:
            raise ValueError(
                f"a sampler's name is a folder of the run: letters, digits, and . + - _ in it; got {odd[0]!r}"
            )
        if len(seeds) < 1 or evaluations < 1 or together < 1:
            raise ValueError(
                f"need runs, evaluations and together >= 1, got {len(seeds)}, {evaluations} and {together}"
            )
        if min(checkpoints, default=0) < 1:
            raise ValueError(f"checkpoints must be numbers of evaluations >= 1, got {list(checkpoints)}")
        self.space, self.fitness, self.samplers = space, fitness, dict(samplers)
        self.seeds, self.evaluations, self.together = seeds, evaluations, together
        self.checkpoints = sorted({min(point, evaluations) for point in checkpoints} | {evaluations})

    def run(
        self,
        folder: Path,
        data: pl.LightningDataModule | None = None,
        device: torch.device | str = "cpu",
        observe: Callable[[str, int], None] | None = None,
    ) -> list[Outcome]:
        """Run everything; what ``folder`` already holds is not run again.

        Args:
            folder: states are kept below ``folder/NAME``.
            data: images of the task, for a fitness that looks at them.
            device: where everything is computed.
            observe: called with a sampler's name and how many more of its runs have ended.
        """
        return [self._run_one(name, folder / name, data, device, observe) for name in self.samplers]

    def _run_one(
        self,
        name: str,
        folder: Path,
        data: pl.LightningDataModule | None,
        device: torch.device | str,
        observe: Callable[[str, int], None] | None,
    ) -> Outcome:
        parts: list[Outcome] = []
        starts = list(range(0, len(self.seeds), self.together))
        if len(starts) > 1 and len(self.seeds) - starts[-1] < world():
            del starts[-1]  # every process needs a run: the last ones join those before
        for first, end in zip(starts, [*starts[1:], len(self.seeds)], strict=True):
            seeds = self.seeds[first:end]
            fitness = copy.deepcopy(self.fitness)  # no sampler profits from what another has paid for
            generation = Generation(self.space, fitness, self.samplers[name], seeds, self.evaluations)
            generation.setup(data, device)
            archive = generation.run(folder / f"{seeds[0]}").archive
            parts.append(self._outcome(name, fitness, archive, generation.seconds))
            if observe is not None:
                observe(name, len(seeds))
        return Outcome(
            name=name,
            best=torch.cat([part.best for part in parts]),
            first_hit=torch.cat([part.first_hit for part in parts]),
            selected={key: torch.cat([part.selected[key] for part in parts]) for key in parts[0].selected},
            evaluations=torch.cat([part.evaluations for part in parts]),
            lookups=torch.cat([part.lookups for part in parts]),
            seconds=sum(part.seconds for part in parts),
            first_value=torch.cat([part.first_value for part in parts if part.first_value is not None]),
        )

    def _outcome(self, name: str, fitness: Fitness, archive: Archive, seconds: float) -> Outcome:
        best = archive.fitness.argmax(1)
        chosen = archive.genes.gather(1, best[:, None, None].expand(-1, 1, archive.genes.shape[-1])).squeeze(1)
        return Outcome(
            name=name,
            best=best_so_far(archive, self.evaluations).cpu(),
            first_hit=first_place(self._hits(fitness, archive), fitness.optimum).cpu(),
            selected={key: value.cpu() for key, value in fitness.reveal(chosen).items()},
            evaluations=archive.count.cpu(),
            lookups=archive.lookups.cpu(),
            seconds=seconds,
            first_value=first_place(reached(fitness, archive), fitness.optimum).cpu(),
        )

    def _hits(self, fitness: Fitness, archive: Archive) -> Tensor:
        """Mark the entries that are of the optimum's isomorphism class, or have its value, bool ``(R, M)``.

        An architecture is evaluated once, through any member of its class: whichever that is, the class was found.
        """
        keys, found = fitness.optimum_keys(), reached(fitness, archive)
        if keys is None:
            return found
        return found | (torch.isin(archive.keys, keys.to(archive.keys.device)) & archive.filled)

    def rows(self, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        """Sum the outcomes up, one row a sampler.

        Success is the share of runs that have evaluated a member of the optimum's class (``value`` beside it: that have
        reached the optimal value), ``evaluations_to_optimum`` the mean number until that class, misses as the whole budget;
        regret the mean distance of the best so far from it (from the best that any run found, if the optimum is
        unknown). ``p_value`` is of Wilcoxon's signed-rank
        test, paired by seed, on the mean regret over the whole budget against the first sampler, Holm-corrected.
        """
        known = self.fitness.optimum
        target = known if known is not None else max(float(outcome.best.max()) for outcome in outcomes)
        worst = min((float(o.best[feasible(o.best)].min()) for o in outcomes if feasible(o.best).any()), default=target)
        areas = [mean_regret(outcome, target, worst) for outcome in outcomes]
        p_values = holm([signed_rank(areas[0], area) for area in areas[1:]])
        return [
            self._row(outcome, target, float(area.mean()), p_value)
            for outcome, area, p_value in zip(outcomes, areas, [None, *p_values], strict=True)
        ]

    def _row(self, outcome: Outcome, target: float, area: float, p_value: float | None) -> dict[str, Any]:
        runs = len(outcome.best)
        row: dict[str, Any] = {"sampler": outcome.name, "runs": runs}
        if not bool(outcome.first_hit.isnan().any()):
            for point in self.checkpoints:
                row[f"success@{point}"] = float((outcome.first_hit <= point).double().mean())
            row["evaluations_to_optimum"] = float(outcome.first_hit.clamp(max=self.evaluations).mean())
        if outcome.first_value is not None and not bool(outcome.first_value.isnan().any()):
            for point in self.checkpoints:
                row[f"value@{point}"] = float((outcome.first_value <= point).double().mean())
        for point in self.checkpoints:
            row[f"regret@{point}"] = float((target - outcome.best[:, point - 1]).mean())
        row["mean_regret"] = area
        for name, values in outcome.selected.items():
            row[f"{name} mean"] = float(values.double().mean())
            row[f"{name} sd"] = float(values.double().std(correction=0))
        row["evaluations"] = float(outcome.evaluations.double().mean())
        row["lookups"] = float(outcome.lookups.double().mean())
        row["ms_a_run"] = outcome.seconds / runs * 1000
        row["p_value"] = p_value
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }

    def save(self, folder: Path, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        """Write the comparison as JSON, CSV, PNG and SVG, each atomically; return the rows."""
        rows = self.rows(outcomes)
        lines = {outcome.name: curve_rows(outcome) for outcome in outcomes}
        write_json(folder / "comparison.json", {"fitness": self.fitness.name, "rows": rows})
        write_csv(folder / "comparison.csv", rows)
        write_csv(folder / "curves.csv", [line for some in lines.values() for line in some])
        curves = [draw(name, some) for name, some in lines.items()]
        comparison_figure(curves, self.fitness.name, [folder / "comparison.png", folder / "comparison.svg"])
        return rows


def reached(fitness: Fitness, archive: Archive) -> Tensor:
    """Mark the entries with the optimal fitness, bool ``(R, M)``; none if it is not known."""
    optimum = torch.inf if fitness.optimum is None else fitness.optimum
    return (archive.fitness >= optimum) & archive.filled


def first_place(hits: Tensor, optimum: float | None) -> Tensor:
    """Place, from 1, of the first entry that is marked, float64 ``(R,)``: infinite if none is, NaN without an optimum."""
    if optimum is None:
        return torch.full((len(hits),), torch.nan, dtype=torch.float64)
    place = hits.int().argmax(1).double() + 1
    return place.where(hits.any(1), torch.inf)


def mean_regret(outcome: Outcome, target: float, worst: float) -> Tensor:
    """Regret of each run, averaged over its evaluations, ``(R,)``; failures count as the ``worst`` success of all."""
    best = outcome.best
    return (target - best.where(feasible(best), worst)).mean(1)


def signed_rank(a: Tensor, b: Tensor) -> float:
    """P-value of Wilcoxon's signed-rank test (two-sided) on pairs; 1 where all are equal."""
    return 1.0 if torch.equal(a, b) else float(wilcoxon(a.numpy(), b.numpy()).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing by Holm's step-down procedure (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def curve_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Best fitness against distinct evaluations: mean, quartiles, and the share of runs that had hit the optimum."""
    quartiles = outcome.best.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=outcome.best.dtype), 0)
    known = not bool(outcome.first_hit.isnan().any())
    return [
        {
            "sampler": outcome.name,
            "evaluations": i + 1,
            "mean": float(outcome.best[:, i].mean()),
            "quartile_1": float(quartiles[0, i]),
            "median": float(quartiles[1, i]),
            "quartile_3": float(quartiles[2, i]),
            "success": float((outcome.first_hit <= i + 1).double().mean()) if known else None,
        }
        for i in range(outcome.best.shape[1])
    ]


def draw(name: str, lines: Sequence[Mapping[str, Any]]) -> Curve:
    """Turn the rows of a sampler's curve into what the figure draws."""
    columns = {key: [line[key] for line in lines] for key in ("median", "quartile_1", "quartile_3", "success")}
    success = columns.pop("success")
    return Curve(name, success=None if success[0] is None else success, **columns)
