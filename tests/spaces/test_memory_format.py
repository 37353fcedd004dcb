"""Which networks keep away from channels_last."""

import pytest
import torch
from torch import nn

from ednag.spaces import DARTS, NASBench201, TransNAS101Macro, TransNAS101Micro
from ednag.spaces.memory_format import suits_channels_last


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "suits"),
    [(4, 1, 2, False), (15, 1, 2, False), (16, 1, 2, True), (1, 1, 2, False), (4, 1, 1, True), (4, 3, 2, True)],
)
def test_only_strided_1x1_convolutions_of_few_channels_matter(
    channels: int, kernel: int, stride: int, suits: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(1, channels, 3), nn.Sequential(nn.Conv2d(channels, 8, kernel, stride)))
    assert suits_channels_last(network) is suits
    depthwise = nn.Conv2d(max(channels, 2), max(channels, 2), kernel, stride, groups=max(channels, 2))
    assert suits_channels_last(depthwise)


def test_networks_of_the_benchmarks_own_width_suit_and_narrow_ones_need_not() -> None:
    micro, macro = TransNAS101Micro(), TransNAS101Macro()
    cell, skeleton = micro.parse("64-41414-2_13_013"), macro.parse("64-4231-basic")
    genotype, same = torch.zeros(22, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    with torch.device("meta"):
        assert suits_channels_last(micro.build(cell, 10))
        assert suits_channels_last(macro.build(skeleton, 10))
        assert suits_channels_last(DARTS().build(genotype, 10, channels=16, cells=8))
        assert suits_channels_last(NASBench201().build(same, 10, channels=4))
        assert not suits_channels_last(micro.build(cell, 10, channels=8))
        assert not suits_channels_last(macro.build(skeleton, 10, channels=8))
