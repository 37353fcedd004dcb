"""Optimisers of other libraries as samplers, to compare with: Optuna, Nevergrad, pymoo (extra ``ednag[compare]``)."""

from __future__ import annotations

import importlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ednag.samplers.base import Sampler, State


class Study(Protocol):
    """One run of a library's optimiser over genes that have a choice at all."""

    def ask(self) -> Sequence[Sequence[int]]:
        """Propose one or more architectures; nothing where the library has nothing new."""

    def tell(self, values: Sequence[float]) -> None:
        """Learn the finite values, higher is better, of what was asked last."""


@dataclass
class Run:
    """Where one run stands.

    Attributes:
        study: the library's optimiser.
        asked: how many architectures it proposed last.
        over: whether it has nothing left to learn: its budget is spent, or the library proposes nothing.
    """

    study: Study
    asked: int = 0
    over: bool = False


@dataclass
class Live:
    """The optimisers of a set of runs, as they stand after one state.

    Attributes:
        memory: of the state that they belong to; told apart by being the same object.
        runs: one for each seed.
    """

    memory: dict[str, Tensor] | None = None
    runs: list[Run] = field(default_factory=list)


def _live(state: State) -> Live:
    """The optimisers that go with a problem's runs."""
    return state.problem.derive("live optimisers", Live)


def _kept(state: State, runs: list[Run]) -> State:
    """A state that live optimisers belong to."""
    state = replace(state, memory={})
    live = _live(state)
    live.memory, live.runs = state.memory, runs
    return state


class LibrarySampler(Sampler):
    """Run an optimiser of another library, one instance a run, each seeded with the run's seed.

    What a library knows can't be saved as tensors. It is rebuilt where a saved state goes on: the optimiser is asked and
    told again what the archive says, step by step (nothing is evaluated), and goes on bit for bit as it would have.
    What it proposes twice, or isomorphic to something evaluated, is looked up and told, and not paid for.
    """

    leaves = False  # optimisers are kept by their places, and those that are over cost nothing

    package: str
    """What must be installed."""

    def __init__(self) -> None:
        require(self.package)

    @abstractmethod
    def open(self, choices: Sequence[int], seed: int) -> Study:
        """Start the library's optimiser.

        Args:
            choices: number of choices of each gene, all at least 2.
            seed: of everything random in it.
        """

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose what each library proposes; a run that is over, or proposed less than others, repeats itself."""
        runs = self._runs(state)
        genes = self._propose(runs, state)
        return _kept(state, runs), genes

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Tell each library what its own proposals are worth."""
        live = _live(state)
        if live.memory is state.memory:
            runs = live.runs
        else:
            runs = self._runs(state)
            self._propose(runs, state)
        self._learn(runs, state, genes, fitness)
        return _kept(state, runs)

    def _runs(self, state: State) -> list[Run]:
        """Optimisers as they stood after the last round of a state: the live ones, or new ones told all of it again.

        Raises:
            RuntimeError: if the library doesn't propose what it proposed when the state was saved.
        """
        live = _live(state)
        if live.memory is state.memory:
            return live.runs
        choices = [k for k in state.space.cardinalities if k > 1]
        runs = [Run(self.open(choices, seed)) for seed in state.noise.seeds]
        met: list[set[int]] = [set() for _ in runs]
        for _ in range(state.step):
            genes = self._propose(runs, state)
            keys, known, place = self._find(state, genes)
            values = state.archive.fitness.gather(1, place).where(known, -torch.inf)
            for seen, row, mask in zip(met, keys, known, strict=True):
                seen.update(row[mask].tolist())
            self._learn(runs, state, genes, values)
        if [len(seen) for seen in met] != state.archive.count.tolist():
            raise RuntimeError(
                f"{self.package} doesn't propose what it proposed when this run was saved; continue it with the "
                f"versions it began with, or start a new run"
            )
        return runs

    def _propose(self, runs: Sequence[Run], state: State) -> Tensor:
        """Ask every run that is not over, ``(R, N, L)``."""
        archive, space = state.archive, state.space
        free = [place for place, k in enumerate(space.cardinalities) if k > 1]
        rows: list[Tensor] = []
        for i, run in enumerate(runs):
            asked = [] if run.over else run.study.ask()
            run.asked, run.over = len(asked), len(asked) == 0
            full = torch.zeros((max(run.asked, 1), space.num_genes), dtype=torch.int64)
            if run.over:
                full[0] = archive.genes[i, 0]
            else:
                full[:, free] = torch.tensor(asked, dtype=torch.int64)
            rows.append(full)
        most = max(map(len, rows))
        padded = [torch.cat([row, row[:1].expand(most - len(row), -1)]) for row in rows]
        return torch.stack(padded).to(archive.genes.device)

    def _learn(self, runs: Sequence[Run], state: State, genes: Tensor, fitness: Tensor) -> None:
        """Tell every run; one whose proposals could not be paid for any more is over."""
        _, known, _ = self._find(state, genes)
        unpaid = (state.space.valid(genes) & ~known).tolist()
        values = fitness.clamp(min=FAILED).tolist()
        for run, row, missing in zip(runs, values, unpaid, strict=True):
            if run.over:
                continue
            if any(missing[: run.asked]):
                run.over = True
            else:
                run.study.tell(row[: run.asked])

    def _find(self, state: State, genes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys of architectures, which of them were evaluated, and their places in the archive."""
        valid = state.space.valid(genes)
        keys = state.problem.keys(genes, valid)
        known, place = state.archive.find(keys)
        return keys, known & valid, place


FAILED = -1e18
"""What a library is told of an architecture that is invalid or failed: finite, and below every other fitness."""


class OptunaTPE(LibrarySampler):
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011; Akiba et al. 2019), genes as categories.

    Args:
        startup: random architectures before the first model.
        candidates: samples of the model among which the best expected improvement is proposed.

    Examples:
        >>> state = OptunaTPE().sample(NASBench201(), fitness, evaluations=50)  # doctest: +SKIP
    """

    package = "optuna"

    def __init__(self, startup: int = 10, candidates: int = 24) -> None:
        super().__init__()
        if startup < 1 or candidates < 1:
            raise ValueError(f"startup and candidates must be >= 1, got {startup} and {candidates}")
        self.startup, self.candidates = startup, candidates

    def open(self, choices: Sequence[int], seed: int) -> Study:
        """Start a study; see :class:`LibrarySampler`."""
        optuna = require("optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line a trial
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup, n_ei_candidates=self.candidates, seed=seed % 2**32
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        categories = optuna.distributions.CategoricalDistribution
        return _OptunaStudy(study, {f"gene{i}": categories(range(k)) for i, k in enumerate(choices)})


class _OptunaStudy:
    def __init__(self, study: Any, distributions: dict[str, Any]) -> None:
        self.study, self.distributions = study, distributions

    def ask(self) -> Sequence[Sequence[int]]:
        self.trial = self.study.ask(self.distributions)
        return [[self.trial.params[name] for name in self.distributions]]

    def tell(self, values: Sequence[float]) -> None:
        self.study.tell(self.trial, values[0])


class Nevergrad(LibrarySampler):
    """An optimiser of Nevergrad (Rapin & Teytaud 2018), genes as ``TransitionChoice``, which it finds more with.

    Args:
        optimizer: name in Nevergrad's registry: ``DiscreteOnePlusOne``, ``NGOpt`` (its own choice), ...
        budget: evaluations that Nevergrad is told it has; some of its optimisers plan with it.

    Examples:
        >>> state = Nevergrad().sample(NASBench201(), fitness, evaluations=50)  # doctest: +SKIP
    """

    package = "nevergrad"

    def __init__(
        self,
        optimizer: str = "DiscreteOnePlusOne",
        budget: int = 200,
    ) -> None:
        super().__init__()
        if optimizer not in require("nevergrad").optimizers.registry:
            raise ValueError(
                f"Nevergrad has no optimizer {optimizer!r}; it has DiscreteOnePlusOne, NGOpt, PSO, DE, ..."
            )
        if budget < 1:
            raise ValueError(f"budget must be >= 1, got {budget}")
        self.optimizer, self.budget = optimizer, budget

    def open(self, choices: Sequence[int], seed: int) -> Study:
        """Start an optimiser; see :class:`LibrarySampler`."""
        ng = require("nevergrad")
        with global_numbers_kept():
            genes = ng.p.Tuple(*[ng.p.TransitionChoice(range(k)) for k in choices])
            genes.random_state = np.random.RandomState(seed % 2**32)
            return _NevergradStudy(ng.optimizers.registry[self.optimizer](genes, budget=self.budget, num_workers=1))


@contextmanager
def global_numbers_kept() -> Iterator[None]:
    """Leave numpy's global random numbers as they are: Nevergrad draws from them in places."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


class _NevergradStudy:
    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def ask(self) -> Sequence[Sequence[int]]:
        with global_numbers_kept():
            self.candidate = self.optimizer.ask()
        return [[int(value) for value in self.candidate.value]]

    def tell(self, values: Sequence[float]) -> None:
        with warnings.catch_warnings(), global_numbers_kept():
            warnings.simplefilter("ignore")  # of large losses: they mark what failed
            self.optimizer.tell(self.candidate, -values[0])


class PymooGA(LibrarySampler):
    """pymoo's genetic algorithm (Blank & Deb 2020): tournaments, uniform crossover, random genes, no duplicates.

    Args:
        population: members kept, and random architectures at the start.
        offspring: architectures per generation; as many as members if omitted.

    Examples:
        >>> state = PymooGA().sample(NASBench201(), fitness, evaluations=50)  # doctest: +SKIP
    """

    package = "pymoo"

    def __init__(
        self,
        population: int = 10,
        offspring: int | None = None,
    ) -> None:
        super().__init__()
        if population < 2 or (offspring is not None and offspring < 1):
            raise ValueError(f"need population >= 2 and offspring >= 1, got {population} and {offspring}")
        self.population, self.offspring = population, offspring

    def open(self, choices: Sequence[int], seed: int) -> Study:
        """Start the algorithm; see :class:`LibrarySampler`."""
        load = importlib.import_module
        high = np.array(choices) - 1
        options = {f"gene{i}": load("pymoo.core.variable").Choice(options=range(k)) for i, k in enumerate(choices)}
        problem = load("pymoo.core.problem").Problem(len(choices), 1, xl=np.zeros(len(high)), xu=high, vars=options)
        numbers = {"func": lambda population: population.get("X").astype(float)}
        algorithm = load("pymoo.algorithms.soo.nonconvex.ga").GA(
            pop_size=self.population,
            n_offsprings=self.offspring,
            sampling=load("pymoo.operators.sampling.rnd").IntegerRandomSampling(),
            crossover=load("pymoo.operators.crossover.ux").UX(),
            mutation=load("pymoo.operators.mutation.rm").ChoiceRandomMutation(),
            eliminate_duplicates=load("pymoo.core.duplicate").DefaultDuplicateElimination(**numbers),
        )
        endless = load("pymoo.core.termination").NoTermination()
        algorithm.setup(problem, termination=endless, seed=seed % 2**32, verbose=False)
        return _PymooStudy(algorithm, problem)


class _PymooStudy:
    def __init__(self, algorithm: Any, problem: Any) -> None:
        self.algorithm, self.problem = algorithm, problem

    def ask(self) -> Sequence[Sequence[int]]:
        self.asked = self.algorithm.ask()
        return [] if self.asked is None else [[int(gene) for gene in row] for row in self.asked.get("X")]

    def tell(self, values: Sequence[float]) -> None:
        known = importlib.import_module("pymoo.problems.static").StaticProblem(
            self.problem, F=-np.array(values)[:, None]
        )
        importlib.import_module("pymoo.core.evaluator").Evaluator().eval(known, self.asked)
        self.algorithm.tell(infills=self.asked)


def require(package: str) -> Any:
    """Import an optional package.

    Raises:
        ImportError: with what to do about it, if it is missing.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"this sampler needs {package}: pip install 'ednag[compare]'") from None
