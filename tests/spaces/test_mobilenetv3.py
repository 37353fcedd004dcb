import json
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ednag.core.noise import Noise
from ednag.costs.counting import count_costs
from ednag.spaces.inverted_residual import InvertedResidual, Layer, round_channels
from ednag.spaces.mobilenetv3 import DEPTHS, MobileNetV3
from ednag.testing import SpaceChecks
from tests.conftest import TABLES

SPACE = MobileNetV3()
TEXT = "ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4"
GENES = SPACE.parse(TEXT)


class TestMobileNetV3(SpaceChecks):
    space = SPACE
    texts = (TEXT, "ks=7777,7777,7777,7777,7777 e=6666,6666,6666,6666,6666 d=4,4,4,4,4")
    bad_texts = (
        "",
        "64-1234-basic",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        TEXT.replace("ks=35", "ks=38"),
        TEXT.replace("e=36", "e=35"),
        TEXT.replace("ks=35", "ks=353"),
        TEXT.replace("d=2,3,4,2,4", "d=2,3,4,2,5"),
        TEXT.replace("d=2,3,4,2,4", "d=2,3,4,2"),
        TEXT.replace("ks=35,", "ks=3,").replace("e=36,", "e=3,").replace("d=2,", "d=1,"),
        '{"ks": [3, 5], "e": [3], "d": [2]}',
        '{"ks": "7", "e": [3], "d": [2]}',
        '{"ks": [3, 5',
    )

    @pytest.mark.parametrize("name", ["layout", "published_layout"])
    def test_decoding_undoes_encoding(self, name: str) -> None:
        genes = SPACE.canonical(self.sample().unflatten(0, (4, 16)))
        layout = getattr(SPACE, name)
        x = layout.encode(genes)
        assert x.shape == (4, 16, {"layout": 5 * 3 + 40 * 3, "published_layout": 22 * 12}[name])
        assert torch.equal(layout.decode(x), genes)


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(TABLES / "ofa_mobilenetv3.npz", allow_pickle=False) as table:
        return {name.removeprefix("dynas_"): table[name] for name in table.files if name.startswith("dynas_")}


def genes_of(measured: dict[str, np.ndarray], row: int) -> torch.Tensor:
    return SPACE.from_settings(*(measured[name][row].tolist() for name in ("ks", "e", "d")))


def closed_form(ks: list[int], e: list[int], d: list[int]) -> tuple[int, int]:
    """Parameters and multiply-accumulates for 1,000 classes at 224 pixels, by hand: no bias, no normalisation."""
    params, macs = 3 * 9 * 16 + 2 * 16, 3 * 9 * 16 * 112**2
    params, macs = params + 9 * 16 + 2 * 16 + 16 * 16 + 2 * 16, macs + (9 * 16 + 16 * 16) * 112**2
    size, channels = 112, 16
    for stage, (out, stride) in enumerate(((24, 2), (40, 2), (80, 2), (112, 1), (160, 2))):
        for place in range(4 * stage, 4 * stage + d[stage]):
            inner, before = channels * e[place], size
            size = size // stride if place == 4 * stage else size
            depthwise = inner * ks[place] ** 2
            macs += channels * inner * before**2 + (depthwise + inner * out) * size**2
            params += channels * inner + 2 * inner + depthwise + 2 * inner + inner * out + 2 * out
            if stage in (1, 3, 4):
                squeezed = (inner // 4 + 4) // 8 * 8
                squeezed += 8 * (squeezed < 0.9 * (inner // 4))  # 18 becomes 24, not 16
                macs += 2 * inner * squeezed
                params += 2 * inner * squeezed + inner + squeezed
            channels = out
    macs += 160 * 960 * size**2 + 960 * 1280 + 1280 * 1000
    return params + 160 * 960 + 2 * 960 + 960 * 1280 + 1280 * 1000 + 1000, macs


def test_closed_form_equals_all_measured_sub_networks(measured: dict[str, np.ndarray]) -> None:
    lists = (measured[name].tolist() for name in ("ks", "e", "d"))
    counted = np.array([closed_form(*settings) for settings in zip(*lists, strict=True)])
    assert counted.shape == (2162, 2)
    assert np.array_equal(counted[:, 0], measured["params"])
    assert np.array_equal(counted[:, 1], measured["macs"])


def counted(genes: torch.Tensor) -> tuple[int, int]:
    """Parameters and multiply-accumulates of the built network."""
    with torch.device("meta"):
        network = SPACE.build(genes, 1000)
    costs = count_costs(network, (3, 224, 224))
    # every biased layer has one output pixel; the benchmark doesn't count the additions, count_costs does
    biases = sum(
        layer.bias.numel()
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None
    )
    return costs.params, costs.macs - biases


@pytest.mark.parametrize("row", [0, 1000, 2161])
def test_built_networks_equal_the_measured_sub_networks(measured: dict[str, np.ndarray], row: int) -> None:
    assert counted(genes_of(measured, row)) == (measured["params"][row], measured["macs"][row])


def test_built_networks_equal_the_closed_form() -> None:
    for genes in SPACE.random(Noise([1]), 3)[0]:
        assert counted(genes) == closed_form(**SPACE.settings(genes))


def test_all_measured_sub_networks_round_trip_and_are_told_apart(measured: dict[str, np.ndarray]) -> None:
    genes = torch.stack([genes_of(measured, row) for row in range(2162)])
    settings = [SPACE.settings(some) for some in genes]
    for name in ("ks", "e", "d"):
        assert np.array_equal(np.array([some[name] for some in settings]), measured[name])
    assert len(SPACE.identity(genes).unique()) == len({SPACE.describe(some) for some in genes}) == 2162


def test_number_of_architectures() -> None:
    per_stage = sum(1 for depth in DEPTHS for _ in product(range(3), repeat=2 * depth))
    assert SPACE.architectures == per_stage**5 == 21_758_655_492_572_485_851
    assert SPACE.size == 3**45


def stage_genes(depth: int) -> torch.Tensor:
    """Every gene string of one stage, the others at their smallest, ``(6561, 45)``."""
    genes = torch.zeros(3**8, 45, dtype=torch.int64)
    genes[:, 1] = depth
    genes[:, 5 + 8 : 5 + 16] = torch.cartesian_prod(*[torch.arange(3)] * 8)
    return genes


def test_identities_of_a_stage_are_as_many_as_its_architectures() -> None:
    genes = torch.cat([stage_genes(depth) for depth in range(3)])
    identity = SPACE.identity(genes)
    assert len(identity.unique()) == 81 + 729 + 6561
    texts = {SPACE.describe(some) for some in genes[:: 3**4]}
    assert len(texts) == len(identity[:: 3**4].unique())


def test_genes_beyond_the_depth_are_inert_and_the_others_are_not() -> None:
    genes = SPACE.parse(TEXT)
    active = torch.cat([torch.ones(5, dtype=torch.bool), SPACE.active(genes).repeat_interleave(2)])
    for gene in range(5, 45):
        changed = genes.clone()
        changed[gene] = (changed[gene] + 1) % 3
        assert (SPACE.identity(changed) != SPACE.identity(genes)) == active[gene]
        assert (SPACE.describe(changed) != TEXT) == active[gene]
        assert (SPACE.features(changed) != SPACE.features(genes)).any() == active[gene]
    assert active.sum() == 5 + 2 * (2 + 3 + 4 + 2 + 4)


def test_identity_is_the_rank_in_mixed_radix() -> None:
    """Restated with Python's integers, which don't wrap."""
    genes = torch.cat([SPACE.random(Noise([5]), 40)[0], torch.full((1, 45), 2)])
    for some in genes:
        rank = 0
        for stage in range(5):
            depth = int(some[stage]) + 2
            layers = some[5 + 8 * stage :].tolist()
            number = sum(9**shallower for shallower in range(2, depth))
            number += sum((3 * layers[2 * i] + layers[2 * i + 1]) * 9**i for i in range(depth))
            rank = rank * 7371 + number
        assert int(SPACE.identity(some)) == rank % 2**63
    assert rank == SPACE.architectures - 1


def test_random_is_uniform_over_architectures() -> None:
    genes = SPACE.random(Noise([0, 1]), 10_000)
    assert torch.equal(genes[1], SPACE.random(Noise([1]), 10_000)[0])
    depths = genes[..., :5].flatten().bincount(minlength=3) / genes[..., :5].numel()
    expected = torch.tensor([81.0, 729.0, 6561.0]) / 7371
    assert torch.allclose(depths, expected, atol=4 * (0.1 / 1e5) ** 0.5)
    layers = genes[..., 5:].flatten().bincount(minlength=3) / genes[..., 5:].numel()
    assert torch.allclose(layers, torch.full((3,), 1 / 3), atol=4 * (0.23 / 8e5) ** 0.5)


def test_once_for_all_settings_are_read_as_json() -> None:
    genes = SPACE.parse(TEXT)
    settings = SPACE.settings(genes)
    noisy = {**settings, "ks": [value or 7 for value in settings["ks"]], "r": [224]}
    assert torch.equal(SPACE.parse(json.dumps(noisy)), genes)
    with pytest.raises(ValueError, match=r"kernel of layer 4 is 4; allowed: 3, 5, 7"):
        SPACE.from_settings([*settings["ks"][:4], 4, *settings["ks"][5:]], settings["e"], settings["d"])


def test_features_count_levels() -> None:
    small, large = torch.zeros(45, dtype=torch.int64), torch.full((45,), 2)
    assert SPACE.features(small).sum() == 10
    assert SPACE.features(large).sum() == 100
    assert SPACE.features(small.expand(2, 3, 45)).shape == (2, 3, 100)


@pytest.mark.parametrize(("width", "channels"), [(1.0, [16, 24, 40, 80, 112, 160]), (1.2, [24, 32, 48, 96, 136, 192])])
def test_widths(width: float, channels: list[int]) -> None:
    with torch.device("meta"):
        network = MobileNetV3(width).build(GENES, 1000)
    assert sorted({layer.out_channels for layer in network.layers}) == channels
    assert network.classifier.linear.in_features == round_channels(1280 * width) == {1.0: 1280, 1.2: 1536}[width]
    assert network.final_expand_layer.conv.out_channels == {1.0: 960, 1.2: 1152}[width]


def test_channels_are_rounded_to_eighths_and_never_far_down() -> None:
    for channels in np.arange(1, 2000, 0.7):
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert rounded - channels <= 8


def plain_layer(block: InvertedResidual, x: torch.Tensor) -> torch.Tensor:
    """Howard et al. 2019, figure 4, in eval mode with functions instead of modules."""

    def norm(y: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
        scale = bn.weight / (bn.running_var + 1e-5).sqrt()
        return (y - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]

    def swish(y: torch.Tensor) -> torch.Tensor:
        return y * F.relu6(y + 3) / 6

    expand, depth, project = block.conv
    y = swish(norm(F.conv2d(x, expand.conv.weight), expand.bn))
    y = swish(norm(F.conv2d(y, depth.conv.weight, padding=2, groups=y.shape[1]), depth.bn))
    mean = y.mean((2, 3))
    inner = F.relu(mean @ depth.se.fc.reduce.weight[:, :, 0, 0].T + depth.se.fc.reduce.bias)
    gate = F.relu6(inner @ depth.se.fc.expand.weight[:, :, 0, 0].T + depth.se.fc.expand.bias + 3) / 6
    return x + norm(F.conv2d(y * gate[:, :, None, None], project.conv.weight), project.bn)


def test_a_layer_computes_what_the_paper_draws() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = InvertedResidual(Layer(8, 8, 5, 4, 1, squeeze=True, activation="hswish", place=1)).eval()
        for parameter in block.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
        for bn in (part.bn for part in block.conv):
            bn.running_mean.uniform_(-1, 1)
            bn.running_var.uniform_(0.5, 2)
        x = torch.randn(2, 8, 9, 7)
        torch.testing.assert_close(block(x), plain_layer(block, x))


def test_batch_normalisation_and_places_as_in_the_supernet() -> None:
    with torch.device("meta"):
        network = SPACE.build(GENES, 10)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    assert [layer.place for layer in network.layers] == [0, 1, 2, 5, 6, 7, 9, 10, 11, 12, 13, 14, 17, 18, 19, 20]
    squeezed = [any(part.endswith("se") for part, _ in block.named_modules()) for block in network.blocks]
    assert squeezed == [False, False, False, *[True] * 3, *[False] * 4, *[True] * 6]
    swishing = [any(isinstance(part, nn.Hardswish) for part in block.modules()) for block in network.blocks]
    assert swishing == [False] * 6 + [True] * 10


def test_resolution_scales_images_and_stem_stride_keeps_small_ones_large() -> None:
    genes = torch.zeros(45, dtype=torch.int64)
    with torch.device("meta"):
        scaled, plain, fine = (SPACE.build(genes, 10, **o) for o in ({"resolution": 128}, {}, {"stem_stride": 1}))
        costs = [count_costs(network, (3, size, size)) for network, size in ((scaled, 32), (plain, 128), (fine, 64))]
    assert costs[0] == costs[1]
    # a stride of 1 on half the side gives the same maps
    assert costs[2] == costs[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 120}, "multiple of 4 in 128..224"),
        ({"resolution": 130}, "multiple of 4 in 128..224"),
        ({"stem_stride": 4}, "stem_stride must be 1 or 2"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.build(torch.zeros(45, dtype=torch.int64), 10, **options)


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"width must be 1\.0 or 1\.2"):
        MobileNetV3(1.1)


def test_published_layout_is_one_hot_in_every_row_and_inert_genes_leave_no_trace() -> None:
    layout, genes = SPACE.published_layout, SPACE.random(Noise([5]), 200)[0]
    genes[:, :5] = torch.randint(3, (200, 5), generator=torch.Generator().manual_seed(0))
    rows = layout.encode(genes).view(200, 22, 12)
    assert torch.equal(rows.sum(-1), torch.ones(200, 22))
    assert (rows[:, 0, 10] == 1).all()
    assert (rows[:, 21, 11] == 1).all()
    assert torch.equal(layout.encode(SPACE.canonical(genes)), rows.flatten(1))
    text = "ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4"
    symbols = layout.encode(SPACE.parse(text)).view(22, 12).argmax(-1).tolist()
    assert symbols == [10, 0, 5, 9, 9, 0, 4, 8, 9, 2, 2, 2, 2, 6, 6, 9, 9, 4, 8, 4, 8, 11]


def test_published_layout_reads_any_values_as_its_rows_say() -> None:
    x = torch.randn(500, 264, generator=torch.Generator().manual_seed(1))
    genes = SPACE.published_layout.decode(x)
    assert SPACE.valid(genes).all()
    assert genes[:, :5].unique().tolist() == [0, 1, 2]
    for values, found in zip(x.view(500, 22, 12)[:, 1:-1], genes, strict=True):
        kernels, expansions, depths = [], [], []
        for stage in range(5):
            depth = 0
            for place in range(4 * stage, 4 * stage + 4):
                choices = values[place, : 10 if place % 4 > 1 else 9].tolist()
                best = choices.index(max(choices))
                if best == 9:
                    break
                depth += 1
                kernels.append((3, 5, 7)[best // 3])
                expansions.append((3, 4, 6)[best % 3])
            depths.append(depth)
        settings = SPACE.settings(found)
        active = SPACE.active(found).tolist()
        assert depths == settings["d"]
        assert kernels == [k for k, there in zip(settings["ks"], active, strict=True) if there]
        assert expansions == [e for e, there in zip(settings["e"], active, strict=True) if there]
