"""One generation: a sampler run to its end with everything saved on the way, and the report of what it found."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from ednag.core.archive import Archive, feasible
from ednag.core.distributed import everyone, gather, rank, share, world
from ednag.core.fingerprint import describe_object, fingerprint
from ednag.core.interruption import Stopped
from ednag.core.reading import reading
from ednag.core.storage import load_state, save_state
from ednag.costs.model import CostModel, Limits
from ednag.costs.reach import refuse_hopeless
from ednag.data.digests import identity
from ednag.fitness import Fitness
from ednag.fitness.base import merge_states
from ednag.fitness.constrained import ConstrainedFitness
from ednag.generation.front import Front
from ednag.generation.history import Round, Row, rates, summed_up
from ednag.generation.measuring import Measuring
from ednag.generation.report import Candidate, Report
from ednag.generation.saved import check_runs, check_same, own_part
from ednag.samplers import ParetoDiffusion, Problem, Sampler, State
from ednag.samplers.asynchronous import Asynchronous
from ednag.samplers.posterior import likely_worth
from ednag.spaces import SearchSpace
from ednag.spaces.inheritance import InheritingSpace


def _save_seconds() -> float:
    """Least time between two saved states, as the environment says.

    Raises:
        ValueError: if that is no number, or none that time can reach.
    """
    told = os.environ.get("EDNAG_SAVE_SECONDS", "5")
    try:
        seconds = float(told)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"EDNAG_SAVE_SECONDS must be a number of seconds, 0 or more, got {told!r}")
    return seconds


@dataclass
class Generation:
    """What to generate, and how.

    Attributes:
        space: where architectures come from.
        fitness: the score to maximise.
        sampler: the method.
        seeds: one run each.
        evaluations: distinct architectures that a run may evaluate; ``None`` leaves the end to the sampler.
        top_k: distinct architectures in the report; a front is reported whole.
        limits: constraints on cost.
        cost_model: how costs are counted or measured.
        objective: cost that fitness is traded off against (see :class:`ednag.costs.objective.CostObjective`); ``None`` for none.
        reference: cost and fitness of a reference point for the hypervolume of the front.
        distinct: what counts as one architecture, and is evaluated once in a run: ``isomorphism`` (under limits, if all are
            within) or ``genes``. If omitted, ``isomorphism``, but ``genes`` with an objective, as isomorphic architectures
            can differ in cost.
        save_seconds: least time between two saved states; 5, or the environment variable ``EDNAG_SAVE_SECONDS``.

    Examples:
        >>> import tempfile
        >>> from ednag.fitness import ZeroCostFitness
        >>> from ednag.samplers import RandomSearch
        >>> from ednag.spaces import NASBench201
        >>> generation = Generation(NASBench201(), ZeroCostFitness(["params"]), RandomSearch(), evaluations=20, top_k=1)
        >>> generation.setup(None, torch.device("cpu"))
        >>> state = generation.run(Path(tempfile.mkdtemp()))
        >>> generation.report(state).counts["distinct_evaluations"]
        20
    """

    space: SearchSpace
    fitness: Fitness
    sampler: Sampler
    seeds: Sequence[int] = (0,)
    evaluations: int | None = None
    top_k: int = 5
    limits: Limits = field(default_factory=Limits)
    cost_model: CostModel = field(default_factory=CostModel)
    objective: str | None = None
    reference: tuple[float, float] | None = None
    distinct: Literal["isomorphism", "genes"] | None = None
    save_seconds: float = field(default_factory=_save_seconds)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {self.top_k}")
        if self.evaluations is None and self.sampler.steps is None:
            name = type(self.sampler).__name__
            raise ValueError(
                f"{name} has no last step of its own; say how many evaluations it may spend: --evaluations"
            )
        if self.objective is None and isinstance(self.sampler, ParetoDiffusion):
            raise ValueError(
                "ParetoDiffusion trades fitness off against a cost; say which: --objective params, flops or latency_ms"
            )
        against = () if self.objective is None else (self.objective,)
        self.constrained = ConstrainedFitness(self.fitness, self.limits, self.cost_model)
        self.front = None if self.objective is None else Front(self.objective, self.constrained, self.reference)
        self.problem = Problem(
            self.space,
            self.distinct or ("isomorphism" if self.front is None else "genes"),
            self.fitness.partial,
            None if self.front is None else self.front.cost,
            screen=self.constrained.screen,
        )
        parts = (self.space, self.fitness, self.sampler, self.limits, self.cost_model, self.problem.distinct)
        self.plan = fingerprint(*parts, *against)
        self.history: list[Row] = []
        self.search: Asynchronous | None = None
        self._pending: list[Tensor] = []
        self.seconds = 0.0

    def setup(self, data: pl.LightningDataModule | None, device: torch.device | str) -> None:
        """Prepare fitness and costs on a device; see :meth:`Fitness.setup`."""
        self.device, self._data = torch.device(device), data
        self.constrained.setup(self.space, data, device)
        for prior in self.priors:
            prior.unlearn(self.fitness)
            prior.setup(self.space, data, device)
        if self.front is not None:
            self.front.setup()

    def refuse_hopeless(self, data: pl.LightningDataModule | None) -> None:
        """Refuse limits that no sub-network meets, before its parent is trained; other spaces are tried.

        Raises:
            ValueError: with the least that there is.
        """
        if isinstance(self.space, InheritingSpace):
            self.cost_model.setup(self.space, data)
            refuse_hopeless(self.limits, self.cost_model)

    @property
    def priors(self) -> list[Fitness]:
        """What the sampler believes before any evaluation, as far as it is a fitness."""
        return [prior for prior in getattr(self.sampler, "priors", []) if isinstance(prior, Fitness)]

    def run(
        self,
        folder: Path,
        observe: Callable[[Row], None] | None = None,
        measuring: Callable[[Fitness], Measuring] | None = None,
        asynchronous: bool = True,
    ) -> State:
        """Sample to the end, from the last state saved in ``folder`` if there is one.

        In a distributed Trainer each process advances its share of the seeds. All take the same number of rounds, write
        the same history, and return the same state but for its ``noise`` and ``memory``, which are of the own share.

        Args:
            folder: where ``state.pt`` is kept.
            observe: called with each new row of the history.
            measuring: makes what scores on an executor, from the fitness and the folder, once both are ready; the fitness scores in
                this process if omitted.
            asynchronous: with several workers and one run, let the sampler go on while evaluations are under way, if it can.

        Raises:
            ValueError: if the saved state is of other seeds or a larger budget. A smaller one is extended, to what a run
                with this budget from the start would have found.
        """
        path = folder / "state.pt"
        seeds = share(self.seeds)
        self._images = {} if self._data is None else json.loads(json.dumps(identity(self._data)))
        state = None
        if path.exists():
            kind = "a saved state of this version of EDNAG"
            with reading(path, kind, "delete it to start over", passes=(ValueError,)):
                state = self._restore(load_state(path, self.device), seeds)
        begun = time.perf_counter() - self.seconds
        saved = time.perf_counter()
        finished: dict[str, Any] | None = None

        def after_round(state: State, genes: Tensor, values: Tensor) -> None:
            nonlocal saved, finished
            due = time.perf_counter() - saved >= self.save_seconds
            rounds = gather(Round(state.archive, genes, values, due).shared())
            self.history.append(summed_up(self.space, state.step, rounds, self.history, self.cost_model.measured))
            self.seconds = time.perf_counter() - begun
            finished = self._state_dict(state)
            if observe is not None:
                observe(self.history[-1])
            if rounds[0].save:
                self._save(path, finished)
                saved = time.perf_counter()

        self.constrained.generating = True
        try:
            state = self._sample(seeds, state, after_round, measuring, asynchronous)
        except (Stopped, KeyboardInterrupt, SIGTERMException):
            if finished is not None and world() == 1:  # several processes can't agree on a round any more
                save_state(path, finished)
            raise
        finally:
            self.constrained.generating = False
        self._save(path, self._state_dict(state))
        if world() > 1:
            self.constrained.load_state_dict(merge_states(gather(self.constrained.state_dict())))
            state = replace(state, archive=Archive.join(gather(state.archive.to("cpu"))).to(self.device))
        return state

    def _sample(
        self,
        seeds: Sequence[int],
        state: State | None,
        after_round: Callable[[State, Tensor, Tensor], None],
        measuring: Callable[[Fitness], Measuring] | None,
        asynchronous: bool,
    ) -> State:
        """Sample to the end: round by round, or without waiting for slow evaluations."""
        sampler, fitness, budget = self.sampler, self.constrained, self.evaluations
        if measuring is None:
            return sampler.sample(self.problem, fitness, seeds, budget, self.device, state, after_round, everyone)
        elsewhere = measuring(self.fitness)
        if asynchronous and sampler.asynchronous and len(seeds) == 1 and elsewhere.executor.workers > 1:
            begun = sampler.init(self.problem, seeds, self.device) if state is None else state
            self.search = Asynchronous(sampler, begun, fitness, budget, self._pending, after_round=after_round)
            return self.search.run(elsewhere.measure)
        with elsewhere.kept(), self.fitness.measured_by(elsewhere.measure_all):
            return sampler.sample(self.problem, fitness, seeds, budget, self.device, state, after_round, everyone)

    def report(self, state: State) -> Report:
        """Report the best architectures of all runs; test metrics are looked up here and nowhere else.

        Raises:
            ValueError: if no run has found an architecture that is valid and meets the limits.
        """
        if self.front is not None and bool((feasible(state.archive.fitness) & state.archive.filled).any()):
            self.front.settle(state.archive)
        candidates = self._candidates(state.archive)
        if not candidates:
            raise ValueError(
                f"no feasible architecture: {int(state.archive.violators.sum())} violated the limits "
                f"({self.constrained.explain()}), "
                f"{int(state.archive.paid.sum())} were evaluated and none has a score; relax the limits or give more "
                "evaluations"
            )
        return Report(
            space=describe_object(self.space),
            fitness=self.fitness.name,
            candidates=candidates,
            counts=self._counts(state.archive),
            notes=[*self.fitness.notes(), *(f"prior {line}" for p in self.priors for line in p.notes())],
            front=None if self.front is None else self.front.summary(state.archive),
            limits={name: value for name, value in vars(self.limits).items() if value is not None},
        )

    def _candidates(self, archive: Archive) -> list[Candidate]:
        """Best distinct architectures of all runs, or the front; ties by the earlier evaluation, then the lower seed.

        If the fitness declares its standard errors, best means the posterior mean, not the luckiest draw.
        """
        noisy = replace(self.problem, error=None if self.front else self.fitness.standard_error)
        worth = likely_worth(noisy, archive)
        ok = (feasible(worth) & archive.filled).nonzero()
        order = ok[ok[:, 1].argsort(stable=True)]
        order = order[worth[order[:, 0], order[:, 1]].argsort(descending=True, stable=True)]
        chosen: dict[int, tuple[int, int]] = {} if self.front is None else dict(enumerate(self.front.places(archive)))
        for run, place in order.tolist() if self.front is None else ():
            identity, genes = int(self.space.identity(archive.genes[run, place])), archive.genes[run, place]
            if identity not in chosen and self.constrained.kept(genes):
                chosen[identity] = run, place
            if len(chosen) == self.top_k:
                break
        if not chosen:
            return []
        genes = torch.stack([archive.genes[run, place] for run, place in chosen.values()])
        scores = {**self.fitness.details(genes), **self.fitness.reveal(genes)}
        if worth is not archive.fitness:
            scores["posterior mean"] = torch.stack([worth[run, place] for run, place in chosen.values()])
        costs = self.constrained.costs(genes)
        return [
            Candidate(
                architecture=self.space.describe(genes[i]),
                genes=genes[i].tolist(),
                fitness=float(archive.fitness[run, place]),
                scores={name: float(value[i]) for name, value in scores.items() if value[i].isfinite()},
                costs={name: value for name, value in vars(costs[i]).items() if value is not None},
                seed=int(self.seeds[run]),
                evaluation=place + 1 - int(archive.violates[run, :place].sum()),
            )
            for i, (run, place) in enumerate(chosen.values())
        ]

    def _counts(self, archive: Archive) -> dict[str, float]:
        keys = archive.keys[archive.filled & ~archive.violates]
        return {
            "runs": len(self.seeds),
            "lookups": int(archive.lookups.sum()),
            "distinct_evaluations": int(archive.paid.sum()),
            "feasible_evaluations": int((feasible(archive.fitness) & archive.filled).sum()),
            "failed_evaluations": int((archive.fitness.isneginf() & archive.filled).sum()),
            "violators": int(archive.violators.sum()),
            "dismissed": self.constrained.screening.dismissed,
            "measured_latencies": self.cost_model.measured,
            "exhausted_runs": int(self.problem.exhausted(archive).sum()),
            "distinct_evaluations_over_all_runs": int(torch.unique(keys).numel()),
            "unknown": self.fitness.unknown,
            **rates(self.history),
        }

    def _save(self, path: Path, own: dict[str, Any]) -> None:
        """Save where everything stands, :meth:`_state_dict` of each process: one file, with a part for each."""
        shards = gather(own)
        if rank() == 0:
            save_state(path, shards[0] if len(shards) == 1 else {"shards": shards})

    def _state_dict(self, state: State) -> dict[str, Any]:
        return {
            "state": state.state_dict(),
            "fitness": self.constrained.state_dict(),
            "plan": self.plan,
            "images": self._images,
            "history": list(self.history),
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "pending": [] if self.search is None else [genes.tolist() for genes in self.search.pending],
        }

    def _restore(self, saved: dict[str, Any], own: Sequence[int]) -> State | None:
        saved = own_part(saved)
        more = check_runs(saved, own, self.evaluations)
        check_same(saved, self.plan, self._images)
        self.seconds = saved["seconds"]
        self.constrained.load_state_dict(saved["fitness"])
        self._pending = [torch.tensor(genes, device=self.device) for genes in saved.get("pending", [])]
        if more:  # the smaller budget cut its last rounds short: all are taken again, what is known is not paid again
            self.constrained.lookups = 0
            return None
        self.history = saved["history"]
        return self.sampler.resume(self.problem, saved["state"], self.device)
