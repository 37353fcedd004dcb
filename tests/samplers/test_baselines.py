import pytest
import torch

from ednag.samplers import LocalSearch, Problem, RandomSearch, RegularisedEvolution, Sampler
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
