"""Fitness by training: real, repeatable, and sealed."""

import pytest
import torch
from torch import nn

from ednag.data.datasets import Digits
from ednag.data.sampling import Images
from ednag.fitness.training import Budget, TrainingFitness, batches, fit, relative_rate
from ednag.fitness.zero_cost import ZeroCostFitness
from ednag.spaces import NASBench201, TransNAS101Micro
from ednag.spaces.building import build_network

CONVOLUTIONS = [3, 0, 1, 0, 0, 3]
SKIPS = [1, 1, 1, 1, 1, 1]
NOTHING = [0, 0, 0, 0, 0, 0]


def fitness(**options: object) -> TrainingFitness:
    out = TrainingFitness(
        budget=Budget(steps=40, batch_size=32, learning_rate=0.05),
        images={"train": 400, "val": 200, "test": 200},
        image_size=8,
        network={"channels": 4, "cells": 1},
        **options,
    )
    out.setup(NASBench201(), Digits(image_size=8))
    return out


def test_training_learns_and_tells_architectures_apart() -> None:
    scored = fitness()
    genes = torch.tensor([CONVOLUTIONS, NOTHING])
    state = torch.random.get_rng_state()
    values = scored(genes, torch.ones(2, dtype=torch.bool))
    assert torch.equal(state, torch.random.get_rng_state())
    assert values[0] > 40
    assert values[1] < values[0] - 10  # a cell without a connection leaves the reductions only
    tested = scored.reveal(genes)["test accuracy (%)"]
    assert (tested - values).abs().max() < 15
    scored.generating = True
    with pytest.raises(RuntimeError, match="can't be looked up"):
        scored.reveal(genes)


@pytest.mark.slow
def test_an_architecture_trains_the_same_alone_and_after_others_and_isomorphs_are_one() -> None:
    first, second = fitness(), fitness()
    alone = first.train(torch.tensor(SKIPS))
    second.train(torch.tensor(CONVOLUTIONS))
    after = second.train(torch.tensor(SKIPS))
    assert (alone["valid"], alone["test"], alone["seed"]) == (after["valid"], after["test"], after["seed"])
    a, b = torch.tensor([0, 0, 3, 3, 0, 0]), torch.tensor([0, 0, 1, 3, 0, 0])  # the third edge leads nowhere
    assert int(NASBench201().identity(a)) == int(NASBench201().identity(b))
    assert first.train(a)["valid"] == first.train(b)["valid"]


def test_the_loop_is_nesterov_sgd_on_shuffled_batches() -> None:
    """Against steps written out: v = 0.9 v + g, w -= lr (g + 0.9 v)."""
    generator = torch.Generator().manual_seed(3)
    images = Images(torch.randn(48, 4, generator=generator), torch.arange(48) % 3)
    budget = Budget(steps=7, batch_size=16, learning_rate=0.2, weight_decay=0.01)
    network = nn.Linear(4, 3, bias=False)
    weight = network.weight.detach().clone()
    fit(network, images, budget, seed=5)
    velocity = torch.zeros_like(weight)
    rates = [0.2 * relative_rate(step, 7) for step in range(7)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[1] == pytest.approx(0.2)
    assert rates[4] == pytest.approx(0.1)  # half way down
    for rate, index in zip(rates, batches(48, budget, torch.Generator().manual_seed(5)), strict=True):
        x, y = images.pixels[index], nn.functional.one_hot(images.labels[index], 3)
        gradient = ((x @ weight.T).softmax(1) - y).T @ x / 16 + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - rate * (gradient + 0.9 * velocity)
    assert torch.allclose(network.weight, weight, atol=1e-5)


def test_every_image_is_seen_equally_often() -> None:
    budget = Budget(steps=15, batch_size=20)
    seen = torch.cat(list(batches(100, budget, torch.Generator().manual_seed(0))))
    assert seen.bincount().tolist() == [3] * 100


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="needs images"):
        TrainingFitness().setup(NASBench201())
    with pytest.raises(ValueError, match="no option 'width'"):
        TrainingFitness(network={"width": 3}).setup(NASBench201(), Digits(image_size=8))
    with pytest.raises(ValueError, match="steps and batch_size >= 2"):
        Budget(steps=0)


def test_weights_do_not_depend_on_the_global_state() -> None:
    torch.manual_seed(1)
    one = build_network(NASBench201(), torch.tensor(SKIPS), 3, 3, {"channels": 4, "cells": 1}, seed=9)
    torch.manual_seed(2)
    two = build_network(NASBench201(), torch.tensor(SKIPS), 3, 3, {"channels": 4, "cells": 1}, seed=9)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_networks_that_channels_last_would_crash_are_trained_and_measured() -> None:
    """Micro cells of 4 channels have strided 1x1 convolutions, see :mod:`ednag.spaces.memory_format`."""
    space = TransNAS101Micro()
    network = {"channels": 4, "stem_stride": 1}
    data = Digits(image_size=16, in_channels=3)
    trained = TrainingFitness(Budget(steps=3, batch_size=16), {"train": 64, "val": 64, "test": 64}, network=network)
    proxies = ZeroCostFitness(["snip"], batch_size=16, network=network, reference_size=4)
    genes = space.parse("64-41414-2_13_013")[None]
    for fitness in (trained, proxies):
        fitness.setup(space, data)
        assert fitness(genes, torch.ones(1, dtype=torch.bool)).isfinite().all()
