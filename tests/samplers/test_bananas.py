import pytest
import torch

from ednag.samplers import Bananas, RandomSearch, Sampler
from ednag.samplers.bananas import Known, _forward
from ednag.spaces import NASBench101
from ednag.testing import SPACE, SamplerChecks, closeness

SMALL = {"epochs": 20, "ensemble": 3, "candidates": 40}


class TestBananas(SamplerChecks):
    budget = 60

    def make(self) -> Sampler:
        return Bananas(**SMALL)


class TestSmallWindowOneHot(SamplerChecks):
    budget = 40

    def make(self) -> Sampler:
        return Bananas(window=12, batch=4, encoding="one-hot", **SMALL)


@pytest.mark.slow
def test_it_finds_more_than_random_search() -> None:
    seeds = list(range(6))
    found = Bananas().sample(SPACE, closeness, seeds, 80).archive.fitness.amax(1).mean()
    assert found > RandomSearch().sample(SPACE, closeness, seeds, 80).archive.fitness.amax(1).mean() + 5


def test_it_works_inside_inference_mode_and_in_a_space_with_invalid_strings() -> None:
    with torch.inference_mode():
        state = Bananas(**SMALL).sample(NASBench101(), lambda g, v: g.sum(-1).double().where(v, -torch.inf), [0], 30)
    assert state.archive.count.tolist() == [30]
    assert NASBench101().valid(state.archive.genes[0, :30]).all()


@pytest.mark.slow
def test_an_ensemble_learns_and_doubts() -> None:
    """On what it has seen the ensemble ranks well; where nothing was seen its members disagree more."""
    sampler = Bananas(epochs=200)
    state = sampler.sample(SPACE, closeness, [0], 60)
    known = sampler._known(state)
    mean, deviation = sampler._predict(state, known, known.genes)
    gap = known.fitness.max() - known.fitness
    assert torch.corrcoef(torch.stack([mean[0], gap[0]]))[0, 1] > 0.8
    assert (deviation > 0).all()


def test_the_loss_is_the_absolute_percentage_error_above_the_bound() -> None:
    """Worked by hand: fitness 10, 8, 6, failed; gaps 0, 1, 2 in units of the median's 2, and 3 for what failed."""
    fitness = torch.tensor([[10.0, 8.0, 6.0, -torch.inf, 99.0]]).double()
    real = torch.tensor([[True, True, True, True, False]])
    gap, weight = Bananas(bound=0.5)._targets(Known(torch.zeros(1, 5, 6).long(), fitness, real))
    assert gap[0, :4].tolist() == [0.0, 1.0, 2.0, 3.0]
    expected = torch.tensor([1 / 0.5, 1 / 1.5, 1 / 2.5, 1 / 3.5, 0.0]).double()
    assert torch.allclose(weight[0], expected / expected.sum())


def test_networks_are_independent() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (1, 3), (3, 3), (1, 3), (3, 1), (1, 1)]
    weights = [torch.randn(2, *shape, generator=generator) for shape in shapes]
    x = torch.randn(2, 5, 4, generator=generator)
    for i in range(2):
        w1, b1, w2, b2, w3, b3 = (w[i] for w in weights)
        expected = (((x[i] @ w1 + b1).relu() @ w2 + b2).relu() @ w3) + b3
        assert torch.allclose(_forward(x, weights)[i], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"initial": 0}, "initial"),
        ({"candidates": 3}, "candidates"),
        ({"bound": 0.0}, "bound"),
        ({"encoding": "x"}, "one-hot"),
    ],
)
def test_bad_arguments_are_refused(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bananas(**option)
