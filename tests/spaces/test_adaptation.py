"""Adapted weights: moments and least squares against values computed here, for both kinds of parent."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ednag.core.storage import save_state
from ednag.spaces import MobileNetV3, PretrainedLite
from ednag.spaces.adaptation import Adaptation
from ednag.spaces.inheritance import InheritingSpace
from ednag.spaces.inverted_residual import InvertedResidualNetwork
from ednag.spaces.matching import few, forward_selection
from tests.retraining.test_supernet import official

LITE = PretrainedLite(resolutions=(32,))
WHOLE = "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes r=32"
HALF = "d=1,2,2,3,2,1 e=3,4,2,6,3,4 k=3,3,3,5,3,3 head=yes r=32"


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Blurred noise, which has edges and colours of some size."""
    noise = torch.randn(80, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    return 3 * torch.nn.functional.avg_pool2d(noise, 9, 1, 4)[..., 4:36, 4:36]


def after(module: nn.Module, network: InvertedResidualNetwork, images: Tensor) -> Tensor:
    """Output of one module of a network."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    with torch.no_grad():
        network.features(images)
    handle.remove()
    return found[0]


def lite(text: str) -> InvertedResidualNetwork:
    return LITE.build(LITE.parse(text), 4).eval()


@pytest.mark.slow
def test_the_parent_itself_stays_as_it_is(images: Tensor) -> None:
    network, plain = lite(WHOLE), lite(WHOLE)
    features = Adaptation(LITE, images[:40], images[40:]).adapt(network)
    with torch.no_grad():
        torch.testing.assert_close(features, plain.features(images[40:]), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(network.features(images), plain.features(images), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_features_are_those_of_the_network_that_comes_out(images: Tensor) -> None:
    network = lite(HALF)
    features = Adaptation(LITE, images[:40], images[40:]).adapt(network)
    with torch.no_grad():
        torch.testing.assert_close(features, network.features(images[40:]), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("place", [(1, "inverted_bottleneck"), (3, "depth_conv"), (4, "point_linear")])
def test_moments_after_normalisation_are_the_parents(images: Tensor, place: tuple[int, str]) -> None:
    """Without least squares, which change the moments behind projections."""
    network, parent = lite(HALF), lite(WHOLE)
    adaptation = Adaptation(LITE, images[:40], ridge=None)
    adaptation.adapt(network)
    adaptation.adapt(parent)  # sorts its channels in the same way
    index, part = place
    mine = next(i for i, layer in enumerate(network.layers) if layer.place == {1: 1, 3: 3, 4: 4}[index])
    found = after(network.blocks[mine].conv.get_submodule(part).bn, network, images[:40])
    wanted = after(parent.blocks[index].conv.get_submodule(part).bn, parent, images[:40])
    count = found.shape[1]
    torch.testing.assert_close(found.mean((0, 2, 3)), wanted.mean((0, 2, 3))[:count], rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(found.std((0, 2, 3)), wanted.std((0, 2, 3))[:count], rtol=1e-2, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("mine", "parents"), [(1, 2), (2, 3)])
def test_projections_are_least_squares_fits(images: Tensor, mine: int, parents: int) -> None:
    """With next to no ridge, the residual is orthogonal to what the projection reads.

    Of stage 2's only layer, where the parent has two, and of the first of two in stage 3, which the parent has as well.
    """
    network, parent = lite(HALF), lite(WHOLE)
    adaptation = Adaptation(LITE, images[:40], ridge=1e-7)
    adaptation.adapt(network)
    block = network.blocks[mine]
    inner = after(block.conv.depth_conv, network, images[:40]).transpose(0, 1).flatten(1)
    found = after(block, network, images[:40]).transpose(0, 1).flatten(1)
    wanted = after(parent.blocks[parents], parent, images[:40]).transpose(0, 1).flatten(1)
    design = torch.cat([inner, torch.ones_like(inner[:1])]).T.double()
    best = torch.linalg.lstsq(design, wanted.T.double(), driver="gelsd").solution
    expected = (design @ best).T
    error, least = (found - wanted).square().mean(), (expected - wanted).square().mean()
    assert 0.999 * least <= error <= 1.001 * least


@pytest.mark.slow
def test_a_refit_comes_closer_to_the_parent_on_other_images(images: Tensor) -> None:
    parent = lite(WHOLE)
    wanted = after(parent.blocks[4], parent, images[40:])
    errors = []
    for ridge in (None, 0.3):
        network = lite(HALF)
        Adaptation(LITE, images[:40], ridge=ridge).adapt(network)
        errors.append(float((after(network.blocks[3], network, images[40:]) - wanted).square().mean()))
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.slow
def test_results_are_the_same_whatever_was_adapted_before(images: Tensor) -> None:
    texts = (HALF, HALF.replace("d=1,2,2,3,2,1", "d=1,2,2,3,1,1"), WHOLE)
    shared = Adaptation(LITE, images[:40], images[40:])
    small = Adaptation(LITE, images[:40], images[40:], memory=1)  # forgets everything at once
    for text in texts:
        alone = Adaptation(LITE, images[:40], images[40:]).adapt(lite(text))
        assert torch.equal(shared.adapt(lite(text)), alone)
        assert torch.equal(small.adapt(lite(text)), alone)


def test_few_images_are_enough_where_maps_are_large() -> None:
    assert few(torch.empty(500, 1, 16, 16, device="meta")) == 500
    assert few(torch.empty(500, 1, 64, 64, device="meta")) == 64
    assert few(torch.empty(500, 1, 256, 256, device="meta")) == 32


@pytest.mark.slow
def test_once_for_all_sub_networks_are_adapted_by_the_same_machinery(tmp_path: Path) -> None:
    """A supernet of random weights; the untouched one keeps its features, and a smaller one gets its moments."""
    generator, plain = torch.Generator().manual_seed(0), MobileNetV3()
    state = {}
    for name, value in plain.build(plain.largest, 5).state_dict().items():
        state[official(name)] = value
        if name.endswith("depth_conv.conv.weight") and not name.startswith("blocks.0."):
            for matrix, side in (("7to5_matrix", 25), ("5to3_matrix", 9)):
                state[official(name).replace("conv.weight", matrix)] = torch.eye(side)
    save_state(tmp_path / "supernet", state)
    space: InheritingSpace = MobileNetV3(supernet=tmp_path / "supernet")
    images = torch.randn(24, 3, 32, 32, generator=generator)
    adaptation = Adaptation(space, images[:16], images[16:])
    whole = space.build(space.largest, 5).eval()
    whole.load_state_dict(space.parent().weights(whole), strict=False)
    with torch.no_grad():
        expected = whole.features(images[16:])
    torch.testing.assert_close(adaptation.adapt(space.build(space.largest, 5)), expected, rtol=1e-3, atol=1e-5)
    small = space.build(torch.zeros_like(space.largest), 5)
    features = adaptation.adapt(small)
    assert features.shape == expected.shape
    found = after(small.final_expand_layer.get_submodule("bn"), small, images[:16])
    wanted = after(whole.final_expand_layer.get_submodule("bn"), whole, images[:16])
    torch.testing.assert_close(found.mean((0, 2, 3)), wanted.mean((0, 2, 3)), rtol=1e-2, atol=1e-3)
    with pytest.raises(FileNotFoundError, match=r"--space.supernet FILE"):
        MobileNetV3().parent()


def test_channels_are_chosen_one_after_the_other_by_least_squares() -> None:
    """Against a fit of all candidates at each step; of two channels that say the same, one comes last, however active."""
    generator = torch.Generator().manual_seed(1)
    inner = torch.randn(30, 6, 4, 4, generator=generator)
    inner[:, 5] = 3 * inner[:, 2] + 0.001 * inner[:, 5]
    weight = torch.randn(3, 6, generator=generator)
    ridge = 1e-9
    x = inner.transpose(0, 1).flatten(1).double()
    x = x - x.mean(1, keepdim=True)
    wanted = weight.double() @ x

    def error(kept: list[int]) -> float:
        fit = torch.linalg.lstsq(x[kept].T, wanted.T).solution
        return float((x[kept].T @ fit - wanted.T).square().sum())

    expected: list[int] = []
    for _ in range(5):
        left = [channel for channel in range(6) if channel not in expected]
        expected.append(min(left, key=lambda channel: error([*expected, channel])))
    found = forward_selection(weight, inner, ridge).tolist()
    assert sorted(found) == list(range(6))
    assert found[:5] == expected
    assert found[-1] in {2, 5}
