"""Costs in closed form against the networks as they are built."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ednag.core.noise import Noise
from ednag.costs.counting import count_costs
from ednag.spaces import (
    DARTS,
    MobileNetV3,
    NASBench101,
    NASBench201,
    PretrainedLite,
    SearchSpace,
    TransNAS101Macro,
    TransNAS101Micro,
)
from ednag.spaces.building import count_in_closed_form
from ednag.spaces.tally import Grid, Tally, convolution, linear

SPACES: list[SearchSpace] = [
    NASBench201(),
    NASBench101(),
    DARTS(),
    TransNAS101Micro(),
    TransNAS101Macro(),
    MobileNetV3(),
    MobileNetV3(width=1.2),
    PretrainedLite(),
]

CASES: list[tuple[SearchSpace, tuple[int, int, int], int, dict[str, Any]]] = [
    (NASBench201(), (3, 32, 32), 10, {}),
    (NASBench201(), (1, 17, 30), 3, {"channels": 6, "cells": 2, "stem_stride": 2}),
    (NASBench101(), (3, 32, 32), 10, {}),
    (NASBench101(), (1, 19, 33), 7, {"channels": 13, "stacks": 4, "cells": 1, "stem_stride": 2}),
    (NASBench101(), (4, 8, 8), 2, {"channels": 5, "stacks": 1, "cells": 2, "benchmark_norm": True}),
    (DARTS(), (3, 32, 32), 10, {"channels": 16, "cells": 8}),
    (DARTS(), (1, 21, 35), 4, {"channels": 5, "cells": 5, "auxiliary": True, "drop_path": 0.2}),
    (DARTS(), (3, 65, 64), 100, {"channels": 8, "cells": 7, "stem": "imagenet", "auxiliary": True}),
    (DARTS(), (3, 16, 16), 9, {"channels": 3, "cells": 1}),
    (TransNAS101Micro(), (3, 32, 32), 10, {"stem_stride": 1}),
    (TransNAS101Micro(), (2, 61, 90), 75, {"channels": 10}),
    (TransNAS101Macro(), (3, 64, 64), 47, {}),
    (TransNAS101Macro(), (1, 37, 50), 5, {"channels": 6, "stem_stride": 1, "benchmark_norm": False}),
    (MobileNetV3(), (3, 32, 32), 10, {}),
    (MobileNetV3(width=1.2), (1, 45, 38), 6, {"stem_stride": 1, "dropout": 0.1}),
    (MobileNetV3(), (3, 32, 32), 1000, {"resolution": 132}),
    (PretrainedLite(), (3, 50, 50), 10, {"pretrained": False}),
    (PretrainedLite("lite2", resolutions=(32, 64)), (1, 9, 9), 4, {"pretrained": False, "dropout": 0.2}),
]


def drawn(space: SearchSpace, number: int, seed: int = 3) -> Tensor:
    genes = space.random(Noise([seed]), number)[0]
    return genes[space.valid(genes)]


@pytest.mark.parametrize(("space", "shape", "classes", "options"), CASES)
def test_counts_are_those_of_the_built_networks(
    space: SearchSpace, shape: tuple[int, int, int], classes: int, options: dict[str, Any]
) -> None:
    genes = drawn(space, 6)
    counted = count_in_closed_form(space, genes, classes, shape, options)
    assert counted is not None
    assert counted.dtype == torch.int64
    for one, costs in zip(genes, counted.tolist(), strict=True):
        with torch.device("meta"):
            network = space.build(one, classes, in_channels=shape[0], **options)
        built = count_costs(network, shape)
        assert costs == [built.params, built.macs], space.describe(one)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{getattr(space, 'width', '')}")
def test_any_batch_is_counted_alike(space: SearchSpace) -> None:
    genes = drawn(space, 24)[:12]
    whole = space.count(genes, 10)
    assert whole is not None
    alone = [space.count(one, 10) for one in genes]
    assert torch.equal(torch.stack([one for one in alone if one is not None]), whole)
    assert torch.equal(space.count(genes.unflatten(0, (3, 4)), 10), whole.unflatten(0, (3, 4)))
    assert space.count(genes[:0], 10).shape == (0, 2)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{getattr(space, 'width', '')}")
def test_a_thousand_take_milliseconds(space: SearchSpace) -> None:
    genes = drawn(space, 1200)[:1000]
    space.count(genes, 10)
    begun = time.process_time()
    for _ in range(5):
        space.count(genes, 10)
    assert (time.process_time() - begun) / 5 / len(genes) < 2e-4, "0.2 ms each is four times what is promised"


def test_a_cell_that_only_passes_its_input_on_is_counted() -> None:
    space = NASBench101()
    genes = torch.zeros(26, dtype=torch.int64)
    genes[5] = 1  # from the input to the output
    built = count_costs(space.build(genes, 10, channels=8), (3, 16, 16))
    assert space.count(genes, 10, (3, 16, 16), channels=8).tolist() == [built.params, built.macs]


class Wider(NASBench201):
    """Builds networks of its own, and counts nothing."""

    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3, **options: int) -> nn.Sequential:  # type: ignore[override]
        return super().build(genes, num_classes, in_channels, channels=32)


class Counted(Wider):
    """Counts what it builds."""

    def count(self, genes: Tensor, num_classes: int, image_shape: tuple[int, int, int] = (3, 32, 32)) -> Tensor:  # type: ignore[override]
        return super().count(genes, num_classes, image_shape, channels=32)


def test_a_subclass_that_builds_other_networks_is_not_counted_as_its_parent_is() -> None:
    genes = drawn(NASBench201(), 2)
    assert count_in_closed_form(Wider(), genes, 10, (3, 32, 32), {}) is None
    counted = count_in_closed_form(Counted(), genes, 10, (3, 32, 32), {})
    built = [count_costs(Counted().build(one, 10), (3, 32, 32)) for one in genes]
    assert counted is not None
    assert counted.tolist() == [[one.params, one.macs] for one in built]


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (NASBench101(), {"channels": 4}),
        (DARTS(), {"cells": 0}),
        (TransNAS101Micro(), {"channels": 7}),
        (TransNAS101Macro(), {"channels": 7}),
        (MobileNetV3(), {"resolution": 100}),
    ],
)
def test_options_out_of_range_are_refused_as_by_building(space: SearchSpace, options: dict[str, Any]) -> None:
    genes = drawn(space, 20)[0]
    with pytest.raises(ValueError) as built:  # noqa: PT011 (compared below)
        space.build(genes, 10, **options)
    with pytest.raises(ValueError) as counted:  # noqa: PT011
        space.count(genes[None], 10, **options)
    assert str(counted.value) == str(built.value)


def test_tallies_add_up() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 6, 3, 2, padding=1, bias=False), nn.BatchNorm2d(6))
    size = Grid(9, 12).shrunk(2)
    built = count_costs(layer, (4, 9, 12))
    found = convolution(4, 6, 3, size.pixels)
    assert (found.params, found.macs) == (built.params, built.macs)
    depthwise = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)
    built = count_costs(depthwise, (6, 4, 4))
    assert convolution(6, 6, 5, 16, depthwise=True, norm=False) == Tally(built.params, built.macs)
    built = count_costs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    assert linear(12, 5) == Tally(built.params, built.macs)
    assert 3 * (linear(12, 5) + Tally(1, 2)) == Tally(198, 201)
    assert Tally(torch.tensor([1, 2]), 5).stacked().tolist() == [[1, 5], [2, 5]]
