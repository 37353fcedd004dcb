import numpy as np
import pytest
import torch

from ednag.samplers import LocalSearch, Problem, RandomSearch, RegularisedEvolution, Sampler
from ednag.samplers.ageing import Herd
from ednag.spaces import SearchSpace
from ednag.testing import SPACE, TARGET, SamplerChecks, closeness


class TestRandomSearch(SamplerChecks):
    def make(self) -> Sampler:
        return RandomSearch()


class TestRegularisedEvolution(SamplerChecks):
    def make(self) -> Sampler:
        return RegularisedEvolution(population=20, tournament=6)


class TestLocalSearch(SamplerChecks):
    def make(self) -> Sampler:
        return LocalSearch()

    def test_it_climbs_a_smooth_hill_to_the_top(self) -> None:
        """Every one-gene improvement exists, so no run may end below the optimum."""
        state = LocalSearch().sample(SPACE, closeness, list(range(5)), 200)
        assert torch.isin(state.archive.keys, SPACE.identity(TARGET)).any(1).all()


def test_a_herd_knows_what_was_evaluated_and_nothing_at_first() -> None:
    keys, scores = np.array([7, 3, 9]), np.array([0.5, -np.inf, 0.25])
    assert [Herd([], [], keys, scores).known(key) for key in (9, 3, 7, 4)] == [0.25, -np.inf, 0.5, None]
    assert Herd([], [], keys[:0], scores[:0]).known(7) is None


def test_the_oldest_member_dies_first() -> None:
    sampler = RegularisedEvolution(population=5, tournament=5)
    state = sampler.init(SPACE, [0])
    state, genes, _ = sampler.round(state, closeness)
    state, child, _ = sampler.round(state, closeness)
    assert torch.equal(state.memory["genes"], torch.cat([genes[:, 1:], child], 1))
    fitness = closeness(genes, SPACE.valid(genes))[0]
    winners = genes[0, fitness == fitness.max()]
    assert ((child[0] != winners).sum(-1) == 1).any()


def test_a_space_smaller_than_the_budget_is_evaluated_whole() -> None:
    class Tiny(type(SPACE)):  # type: ignore[misc]
        cardinalities = (2, 2, 1, 1, 1, 1)
        random = SearchSpace.random  # each gene by itself

    state = RandomSearch().sample(Problem(Tiny(), "genes"), closeness, [0, 1], 500)
    assert state.archive.count.tolist() == [4, 4]


def test_an_endless_sampler_needs_a_budget() -> None:
    with pytest.raises(ValueError, match="evaluations"):
        RandomSearch().sample(SPACE, closeness, [0])


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="batch"):
        RandomSearch(0)
    with pytest.raises(ValueError, match="tournament"):
        RegularisedEvolution(10, 11)


def test_mutants_that_are_known_become_members_and_are_counted() -> None:
    """In a small space most mutants are known: one evaluation a round all the same, and no run gives up."""

    class Small(type(SPACE)):  # type: ignore[misc]
        cardinalities = (3, 3, 3, 1, 1, 1)
        random = SearchSpace.random

    sampler, told = RegularisedEvolution(population=5, tournament=5), []
    state = sampler.sample(
        Problem(Small(), "genes"),
        closeness,
        [0],
        20,
        after_round=lambda state, *_: told.append(int(state.archive.count)),
    )
    assert int(state.archive.count) == 20
    assert int(state.archive.lookups) > 25
    assert len(told) * 4 < int(state.archive.lookups)


def test_runs_that_are_over_cost_nothing_more() -> None:
    """A run ends as it does alone, and the fitness is not asked about it again."""
    asked: list[int] = []

    def fitness(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        asked.append(len(genes))
        return closeness(genes, valid)

    rows: list[int] = []
    sampler = LocalSearch()
    state = sampler.sample(
        SPACE, fitness, [0, 1, 2, 3], 40, after_round=lambda _, genes, values: rows.append(len(genes) + len(values))
    )
    assert asked[0] == 4
    assert asked[-1] < 4
    assert set(rows) == {8}
    for seed in range(4):
        alone = sampler.sample(SPACE, closeness, [seed], 40)
        assert torch.equal(alone.archive.keys[0, :40], state.archive.keys[seed, :40])
        assert int(alone.archive.lookups) == int(state.archive.lookups[seed])
