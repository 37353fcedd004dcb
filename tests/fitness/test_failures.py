"""Architectures whose evaluation fails, and spaces and budgets at their edges."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ednag.costs.model import Limits
from ednag.fitness import Fitness
from ednag.fitness.base import FAILURES
from ednag.generation.run import Generation
from ednag.samplers import ArchiveDiffusion, LocalSearch, RandomSearch, RegularisedEvolution, Sampler
from ednag.spaces import NASBench201, SearchSpace


class Fragile(Fitness):
    """The sum of the genes; raises for cells that begin with 0, is NaN for 1 and infinite for 2."""

    name = "fragile"

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def score(self, genes: Tensor) -> Tensor:
        self.batches.append(len(genes))
        if (genes[:, 0] == 0).any():
            raise ArithmeticError("division by zero")
        scores = genes.sum(-1).double()
        return scores.where(genes[:, 0] != 1, torch.nan).where(genes[:, 0] != 2, torch.inf)


class Broken(Fragile):
    def score(self, genes: Tensor) -> Tensor:
        self.batches.append(len(genes))
        raise OSError("the cluster is down")


class Blank(Fragile):
    def score(self, genes: Tensor) -> Tensor:
        self.batches.append(len(genes))
        return torch.full((len(genes),), torch.nan)


class Constant(Fitness):
    name = "constant"

    def score(self, genes: Tensor) -> Tensor:
        return torch.full((len(genes),), 4.5)


class Tiny(NASBench201):
    """48 gene strings."""

    cardinalities = (2, 3, 1, 2, 4, 1)
    random = SearchSpace.random  # each gene by itself


def generation(fitness: Fitness, sampler: Sampler | None = None, **options: object) -> Generation:
    defaults = {"space": NASBench201(), "fitness": fitness, "sampler": sampler or RandomSearch(), "evaluations": 60}
    made = Generation(**{**defaults, **options})  # type: ignore[arg-type]
    made.setup(None, "cpu")
    return made


def test_only_the_architectures_to_blame_fail(caplog: pytest.LogCaptureFixture) -> None:
    fitness = Fragile()
    fitness.setup(NASBench201())
    genes = torch.tensor(
        [[3, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [4, 3, 0, 2, 0, 1], [1, 3, 3, 3, 3, 3], [2, 3, 3, 3, 3, 3]]
    )
    valid = torch.tensor([True] * 5)
    inf = torch.inf
    assert fitness(genes, valid).tolist() == [4.0, -inf, 10.0, -inf, -inf]
    assert fitness.batches == [5, 1, 1, 1, 1, 1]
    assert (fitness.failures, fitness.evaluations, fitness.lookups) == (3, 5, 5)
    assert "division by zero" in caplog.text
    assert fitness(genes, valid)[1] == -inf
    assert len(fitness.batches) == 6, "a failure is not tried again"
    saved = fitness.state_dict()
    resumed = Fragile()
    resumed.load_state_dict(saved)
    assert resumed.failures == 3


@pytest.mark.parametrize("sampler", [RandomSearch(), LocalSearch(), ArchiveDiffusion(), RegularisedEvolution()],
                         ids=lambda sampler: type(sampler).__name__)  # fmt: skip
@pytest.mark.parametrize(("kind", "words"), [(Broken, "OSError: the cluster is down"), (Blank, "not finite")])
def test_a_fitness_that_always_fails_is_given_up_with_one_error(
    kind: type[Fragile], words: str, sampler: Sampler, tmp_path: Path
) -> None:
    fitness = kind()
    with pytest.raises(RuntimeError, match=rf"failed for all of the first \d+ architectures.*{words}"):
        generation(fitness, sampler, evaluations=500).run(tmp_path)
    assert sum(fitness.batches) <= 2 * FAILURES + 30


def test_a_budget_too_small_to_give_up_says_what_failed(tmp_path: Path) -> None:
    made = generation(Blank(), evaluations=4)
    state = made.run(tmp_path)
    with pytest.raises(ValueError, match="4 were evaluated and none has a score"):
        made.report(state)


def test_failures_are_in_the_report(tmp_path: Path) -> None:
    fitness = Fragile()
    made = generation(fitness)
    state = made.run(tmp_path)
    counts = made.report(state).counts
    genes = state.archive.genes[state.archive.filled]
    assert counts["failed_evaluations"] == int((genes[:, 0] < 3).sum()) > 0
    assert counts["distinct_evaluations"] == 60
    assert counts["feasible_evaluations"] == 60 - counts["failed_evaluations"]


@pytest.mark.slow
def test_violators_cost_no_evaluation_and_are_counted_apart(tmp_path: Path) -> None:
    fitness = Constant()
    made = generation(fitness, limits=Limits(max_params=400_000), evaluations=25, seeds=(0, 1), top_k=1000)
    state = made.run(tmp_path)
    report = made.report(state)
    costs = [made.constrained.costs(genes[None])[0].params for genes in state.archive.genes[state.archive.filled]]
    assert report.counts["violators"] == sum(c > 400_000 for c in costs) > 0
    assert report.counts["distinct_evaluations"] == sum(c <= 400_000 for c in costs) == 50
    assert report.counts["feasible_evaluations"] == 50
    assert max(c.evaluation for c in report.candidates) == 25
    assert made.history[-1]["evaluations"] == 25
    assert made.history[-1]["violators"] == report.counts["violators"] / 2
    compact = state.archive.evaluated()
    assert compact.count.tolist() == [25, 25]
    assert (compact.fitness[compact.filled] == 4.5).all()


def test_limits_that_nothing_meets_end_after_a_bounded_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = generation(Constant(), limits=Limits(max_params=10.0), evaluations=4)
    state = made.run(tmp_path)
    assert state.archive.count.tolist() == [0]  # counts say so before anything is looked up
    with pytest.raises(
        ValueError, match=r"no feasible architecture: 0 violated .*max_params 10; the least that was seen"
    ):
        made.report(state)


@pytest.mark.parametrize("sampler", [RandomSearch(), LocalSearch(), ArchiveDiffusion(), RegularisedEvolution(5, 2)],
                         ids=lambda sampler: type(sampler).__name__)  # fmt: skip
def test_a_space_smaller_than_the_budget_ends_and_says_so(
    sampler: Sampler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = Tiny()
    genes = torch.cartesian_prod(*[torch.arange(k) for k in space.cardinalities])
    classes = len(space.identity(genes).unique())
    made = generation(Constant(), sampler, space=space, evaluations=400, seeds=(0, 1))
    with caplog.at_level(logging.WARNING):
        state = made.run(tmp_path)
    assert state.archive.count.tolist() == [classes, classes]
    assert f"after {classes} evaluations: the whole space has been seen" in caplog.text
    counts = made.report(state).counts
    assert counts["exhausted_runs"] == 2
    assert counts["distinct_evaluations_over_all_runs"] == classes


def test_a_budget_below_the_first_population_and_ties_end_cleanly(tmp_path: Path) -> None:
    made = generation(Constant(), RegularisedEvolution(), evaluations=7, top_k=20, seeds=(3,))
    report = made.report(made.run(tmp_path))
    assert [c.evaluation for c in report.candidates] == list(range(1, 8)), "ties in the order of evaluation"
    assert report.counts["distinct_evaluations"] == 7
    assert report.counts["exhausted_runs"] == 0
