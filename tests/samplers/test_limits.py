"""Proposals within limits: tight ones are met, and no evaluation and no look-up goes to a violator."""

import pytest
import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs.model import CostModel, Limits
from ednag.fitness.base import Fitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.samplers import ArchiveDiffusion, Problem
from ednag.samplers.limits import permitted, within_limits
from ednag.samplers.priors import Priors
from ednag.spaces import MobileNetV3, NASBench101, NASBench201, SearchSpace, TransNAS101Macro


class Large(Fitness):
    """The larger the genes, the better: limits decide where the optimum lies."""

    def score(self, genes: Tensor) -> Tensor:
        return genes.sum(-1).double()


def tight(space: SearchSpace, share: float) -> tuple[Problem, ConstrainedFitness, float]:
    """Limit multiply-accumulates to what a share of random architectures meets."""
    genes = space.random(Noise([0]), 20_000)[0]
    genes = genes[space.valid(genes)]
    macs = space.count(genes, 10, (3, 64, 64))[:, 1].double()
    limit = float(macs.sort().values[int(share * len(macs))])
    fitness = ConstrainedFitness(Large(), Limits(max_flops=limit), CostModel(input_shape=(3, 64, 64)))
    fitness.setup(space)
    return Problem(space, screen=fitness.screen), fitness, limit


@pytest.mark.parametrize(
    ("space", "share"),
    [(MobileNetV3(), 0.001), (NASBench201(), 0.005), (NASBench101(), 0.02), (TransNAS101Macro(), 0.02)],
)
def test_proposals_are_brought_within_limits(space: SearchSpace, share: float) -> None:
    problem, _, limit = tight(space, share)
    genes = space.random(Noise([5, 6]), 64)
    found = within_limits(problem, genes, Noise([1, 2]))
    fine = permitted(problem, found)
    assert fine.double().mean() > 0.5 > 10 * permitted(problem, genes).double().mean()
    assert (space.count(found[fine], 10, (3, 64, 64))[:, 1] <= limit).all()
    asked = permitted(problem, genes)
    assert torch.equal(found[asked], genes[asked]), "what was within stays"
    alone = within_limits(problem, genes[1:], Noise([2]))
    assert torch.equal(alone[0], found[1])


@pytest.mark.parametrize(("space", "share"), [(MobileNetV3(), 0.001), (NASBench201(), 0.005)])
def test_a_run_under_a_tight_limit_spends_nothing_on_violators(space: SearchSpace, share: float) -> None:
    problem, fitness, limit = tight(space, share)
    archive = ArchiveDiffusion().sample(problem.space, fitness, [0, 1], 40).archive
    assert archive.violators.tolist() == [0, 0]
    assert archive.paid.min() >= 30
    assert (space.count(archive.genes[archive.filled], 10, (3, 64, 64))[:, 1] <= limit).all()


@pytest.mark.parametrize(("space", "share"), [(MobileNetV3(), 0.001), (NASBench201(), 0.05)])
def test_what_priors_open_with_is_within_limits_and_near_them(space: SearchSpace, share: float) -> None:
    problem, fitness, limit = tight(space, share)

    def macs(genes: Tensor, valid: Tensor) -> Tensor:
        counted = space.count(genes, 10, (3, 64, 64))[..., 1].double()
        return counted.where(valid, -torch.inf)

    best = Priors([macs], problem).best
    costs = macs(best, torch.ones(len(best), dtype=torch.bool))
    assert len(best) == 64
    assert 0.8 * limit < float(costs[0]) <= limit
    assert costs.tolist() == sorted(costs.tolist(), reverse=True)
    first = ArchiveDiffusion(priors=[macs]).sample(problem.space, fitness, [3], 6).archive
    assert torch.isin(problem.key(best[:3]), first.keys[0]).all()


def test_without_limits_nothing_is_drawn_or_changed() -> None:
    space, noise = NASBench201(), Noise([0])
    genes = space.random(noise, 8)
    before = noise.state_dict()["streams"]
    assert within_limits(Problem(space), genes, noise) is genes
    assert all(torch.equal(a, b) for a, b in zip(noise.state_dict()["streams"], before, strict=True))
    assert permitted(Problem(space), genes).all()


def test_a_space_is_exhausted_when_all_within_limits_are_evaluated() -> None:
    space = TransNAS101Macro()
    problem, fitness, limit = tight(space, 0.01)
    every = problem.every_architecture()
    within = int((space.count(every, 10, (3, 64, 64))[:, 1] <= limit).sum())
    state = ArchiveDiffusion().sample(space, fitness, [0], 500)
    assert 0 < within < 100
    assert int(state.archive.paid[0]) == within
    assert bool(state.problem.exhausted(state.archive)[0])


def test_isomorphic_architectures_are_one_unless_limits_tell_them_apart() -> None:
    space = NASBench201()
    genes = torch.tensor([[0, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0], [1, 0, 0, 0, 0, 0]])  # all compute nothing
    macs = space.count(genes, 10)[:, 1]
    fitness = ConstrainedFitness(Large(), Limits(max_flops=float(macs[0])))
    fitness.setup(space)
    keys = Problem(space, screen=fitness.screen).key(genes).tolist()
    assert len(set(space.identity(genes).tolist())) == 1
    assert keys[0] == keys[2] != keys[1]
