"""Members of a space, run inside their parent."""

from collections.abc import Callable

import pytest
import torch

from ednag.core.noise import Noise
from ednag.spaces import MobileNetV3, PretrainedLite
from ednag.spaces.inheritance import InheritingSpace
from ednag.spaces.inside import run_inside
from ednag.spaces.inverted_residual import InvertedResidualNetwork

LITE = PretrainedLite(resolutions=(32, 64))


def parent(space: InheritingSpace) -> InvertedResidualNetwork:
    options = {"pretrained": False} if isinstance(space, PretrainedLite) else {}
    torch.manual_seed(0)
    network = space.build(space.largest, 3, **options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))  # statistics under which images differ in their logits
    return network.eval()


@pytest.mark.parametrize("space", [LITE, MobileNetV3()])
def test_the_whole_parent_is_a_member(space: InheritingSpace) -> None:
    network, images = parent(space), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(run_inside(network, space.plan(space.largest), images), network(images))


@pytest.mark.parametrize("space", [LITE, MobileNetV3()])
def test_a_member_is_the_parent_without_what_it_lacks(space: InheritingSpace) -> None:
    network, images = parent(space), torch.randn(4, 3, 64, 64)
    for genes in space.random(Noise([3]), 3)[0]:
        layers = space.plan(genes)
        widths = {layer.place: layer.inner for layer in layers}
        cut = parent(space)
        for layer, block in ((layer, block) for stage in cut.stages() for layer, block in stage):
            if layer.place not in widths and block.residual:
                torch.nn.init.zeros_(block.conv.point_linear.bn.weight)
                torch.nn.init.zeros_(block.conv.point_linear.bn.bias)
        with torch.no_grad():
            deep = run_inside(network, [one for one in network.layers if one.place in widths], images)
            assert torch.allclose(deep, cut(images), atol=1e-5)
            narrow = run_inside(network, layers, images)
        assert narrow.shape == (4, 3)
        assert not torch.allclose(narrow, deep, atol=1e-3)


def test_inner_channels_that_a_member_lacks_count_by_their_means() -> None:
    network, images = parent(LITE), torch.randn(4, 3, 64, 64)
    genes = LITE.parse("d=2,2,3,3,4,1 e=3,3,3,3,3,3 k=3,5,3,5,5,3 head=yes r=64")
    layers = LITE.plan(genes)
    widths = {layer.place: layer.inner for layer in layers if layer.stage}

    def flatten(place: int) -> Callable[..., torch.Tensor]:
        def hook(module: torch.nn.Module, inputs: object, out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            out[:, widths[place] :] = out[:, widths[place] :].mean((0, 2, 3), keepdim=True)
            return out

        return hook

    with torch.no_grad():
        found = run_inside(network, layers, images)
        for layer, block in ((layer, block) for stage in network.stages() for layer, block in stage):
            if layer.stage:
                block.conv.depth_conv.register_forward_hook(flatten(layer.place))
        assert torch.allclose(found, network(images), atol=1e-5)
