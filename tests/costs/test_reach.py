"""The least that networks of a space cost, and limits below it."""

import pytest
import torch

from ednag.core.noise import Noise
from ednag.costs import CostModel, Limits
from ednag.costs.reach import cheapest, refuse_hopeless
from ednag.spaces import MobileNetV3, NASBench201, PretrainedLite, SearchSpace


def model_of(space: SearchSpace) -> CostModel:
    model = CostModel(input_shape=(3, 96, 96), num_classes=10)
    model.setup(space)
    return model


def test_the_cheapest_is_found() -> None:
    space = NASBench201()
    model = model_of(space)
    everything = torch.cartesian_prod(*(torch.arange(n) for n in space.cardinalities))
    costs = model.counts(everything[space.valid(everything)])
    assert [cheapest(model, column) for column in (0, 1)] == costs.amin(0).tolist()


@pytest.mark.parametrize("space", [PretrainedLite(), MobileNetV3()], ids=lambda space: space.name)
def test_nothing_random_is_cheaper_than_the_cheapest_sub_network(space: SearchSpace) -> None:
    model = model_of(space)
    costs = model.counts(space.random(Noise([1], torch.device("cpu")), 20_000)[0])
    assert cheapest(model, 0) <= int(costs[:, 0].min())
    assert cheapest(model, 1) <= int(costs[:, 1].min())


def test_limits_below_the_least_are_refused() -> None:
    model = model_of(PretrainedLite())
    least = cheapest(model, 1)
    refuse_hopeless(Limits(max_flops=least, max_latency_ms=None), model)
    refuse_hopeless(Limits(), model)
    with pytest.raises(ValueError, match=rf"max_flops is 1,000, the least is {least:,}; relax them"):
        refuse_hopeless(Limits(max_params=10e6, max_flops=1000), model)
