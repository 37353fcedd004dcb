"""TransNAS-Bench-101 against its table, graph isomorphism, ResNet-18 and counts by hand."""

import itertools
from collections.abc import Iterable

import networkx as nx
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from ednag.core.noise import Noise
from ednag.costs.counting import count_costs
from ednag.spaces.transnas101 import TransNAS101Macro, TransNAS101Micro
from ednag.spaces.transnas101_cells import isomorphism_classes
from ednag.spaces.transnas101_networks import BasicBlock, Cell, FactorizedReduction
from ednag.testing import SpaceChecks
from tests.conftest import TABLES

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
MICRO, MACRO = TransNAS101Micro(), TransNAS101Macro()


class SmallNetworks:
    """Networks of 8 channels instead of 64: the checks stay fast."""

    def test_networks_classify_images(self) -> None:
        for genes in self.sample(3):  # type: ignore[attr-defined]
            network = self.space.build(genes, 7, in_channels=2, channels=8, stem_stride=1).eval()  # type: ignore[attr-defined]
            for size in (32, 33):
                assert network(torch.randn(2, 2, size, size)).shape == (2, 7)


class TestTransNAS101Micro(SmallNetworks, SpaceChecks):
    space = MICRO
    texts = ("64-41414-1_02_333", "64-41414-0_00_000", "64-41414-3_33_333", "64-41414-3_12_031")
    bad_texts = (
        "",
        "64-41414-1_02_33",
        "64-41414-1_02_334",
        "64-41414-4_02_333",
        "64-4141-1_02_333",
        "32-41414-1_02_333",
        "64-41414-102333",
        "64-1234-basic",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    )


class TestTransNAS101Macro(SmallNetworks, SpaceChecks):
    space = MACRO
    texts = ("64-1234-basic", "64-4111-basic", "64-133342-basic", "64-43243-basic")
    bad_texts = (
        "",
        "64-123-basic",
        "64-1234123-basic",
        "64-1235-basic",
        "64-1034-basic",
        "64-1234",
        "32-1234-basic",
        "64-41414-1_02_333",
        "64-1111-basic",
        "64-2222-basic",
        "64-1333-basic",
        "64-33343-basic",
    )


# ---- micro ----------------------------------------------------------------------------------------------------------


def operator_graph(cell: Iterable[int], reduction: bool) -> nx.DiGraph:
    """What a cell computes, written another way: chains of skip connections followed recursively from the output."""
    ops = list(cell)

    def reaching(node: int) -> list[object]:
        if node == 0:
            return ["in"]
        found: list[object] = []
        for edge, (source, target) in enumerate(EDGES):
            if target != node or ops[edge] == 0:
                continue
            if ops[edge] == 1 and not (reduction and source == 0):
                found += reaching(source)
            elif reaching(source):
                found.append(edge)
        return found

    graph = nx.DiGraph()
    graph.add_node("in", op="in")
    graph.add_node("out", op="out")
    waiting: list[tuple[object, int]] = [("out", 3)]
    while waiting:
        reader, node = waiting.pop()
        for source in reaching(node):
            if isinstance(source, int) and source not in graph:
                graph.add_node(source, op=ops[source])
                waiting.append((source, EDGES[source][0]))
            times = graph.edges[source, reader]["n"] if graph.has_edge(source, reader) else 0
            graph.add_edge(source, reader, n=times + 1)
    return graph


def isomorphic(a: Iterable[int], b: Iterable[int]) -> bool:
    a, b = list(a), list(b)
    return all(
        nx.is_isomorphic(
            operator_graph(a, reduction),
            operator_graph(b, reduction),
            node_match=lambda x, y: x["op"] == y["op"],
            edge_match=lambda x, y: x["n"] == y["n"],
        )
        for reduction in (False, True)
    )


def test_identity_is_graph_isomorphism() -> None:
    """All 4,096 cells were compared once (1,376 classes); here a sample, with the pairs that are hardest to tell."""
    classes = isomorphism_classes()
    assert len(classes.unique()) == 1376
    assert classes[classes].equal(classes)  # smallest member stands for the class
    cells = list(itertools.product(range(4), repeat=6))
    rng = np.random.default_rng(0)
    for code in rng.choice(4096, 80, replace=False):
        assert isomorphic(cells[code], cells[classes[code]])
    representatives = classes.unique().tolist()
    compared = 0
    for i, j in rng.choice(representatives, (3000, 2)):
        if i != j and sorted(cells[i]) == sorted(cells[j]):
            assert not isomorphic(cells[i], cells[j])
            compared += 1
    assert compared > 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0_00_000", "3_33_000", True),  # nothing reaches the output
        ("0_30_003", "3_00_030", True),  # a node renamed
        ("0_00_300", "0_02_300", True),  # an edge out of an empty node
        ("3_00_010", "0_00_300", True),  # a skip connection behind a convolution passes it on
        ("1_00_030", "0_00_300", False),  # one in front is a convolution where the resolution halves
        ("3_30_011", "3_01_011", False),  # f(x) + g(x) is not f(x) + f(x)
        ("2_00_030", "3_00_020", False),  # order matters
        ("0_00_100", "0_00_000", False),
    ],
)
def test_known_pairs_of_cells(one: str, other: str, same: bool) -> None:
    a, b = MICRO.parse(f"64-41414-{one}"), MICRO.parse(f"64-41414-{other}")
    assert (MICRO.identity(a) == MICRO.identity(b)) == same == isomorphic(a.tolist(), b.tolist())


def test_random_cells_are_uniform_over_classes() -> None:
    genes = MICRO.random(Noise([0, 1]), 20_000)
    keys = MICRO.identity(genes).flatten()
    _, place = torch.unique(keys, return_inverse=True)
    count = torch.bincount(place)
    assert len(count) == 1376
    expected = 40_000 / 1376
    chi = ((count - expected) ** 2 / expected).sum()
    assert abs(chi - 1375) < 5 * (2 * 1375) ** 0.5
    # members of the largest class (no output) turn up alike
    nothing = genes[MICRO.identity(genes) == 0].unique(dim=0)
    assert len(nothing) > 10
    assert torch.equal(MICRO.random(Noise([1]), 20_000)[0], genes[1])


def test_micro_table_lists_every_cell_in_the_order_of_codes() -> None:
    with np.load(TABLES / "transnas101_micro.npz") as table:
        genes = torch.from_numpy(table["genes"]).long()
    assert MICRO.code(genes).tolist() == list(range(4096))


def test_features_count_paths() -> None:
    genes = torch.cartesian_prod(*[torch.arange(4)] * 6)
    features = MICRO.features(genes)
    assert features.shape == (4096, 32)
    empty = MICRO.features(MICRO.parse("64-41414-0_00_000"))
    one = MICRO.features(MICRO.parse("64-41414-3_00_010"))
    assert empty.sum() == 0
    assert one.sum() == 1
    assert torch.equal(one, MICRO.features(MICRO.parse("64-41414-0_00_300")))


# ---- macro ----------------------------------------------------------------------------------------------------------


def all_macro_genes() -> torch.Tensor:
    return torch.cartesian_prod(*(torch.arange(n) for n in MACRO.cardinalities))


def test_valid_skeletons_are_those_of_a_plain_count() -> None:
    expected = set()
    for length in (4, 5, 6):
        for types in itertools.product("1234", repeat=length):
            doubles, halves = sum(t in "24" for t in types), sum(t in "34" for t in types)
            if 1 <= doubles <= 3 and 1 <= halves <= 4:
                expected.add(f"64-{''.join(types)}-basic")
    genes = all_macro_genes()
    valid = genes[MACRO.valid(genes)]
    found = [f"64-{''.join(str(t) for t in row if t)}-basic" for row in MACRO.modules(valid).tolist()]
    assert [MACRO.describe(row) for row in valid[::80]] == found[::80]
    assert len(found) == len(set(found)) == 3256
    assert set(found) == expected


def test_validity_agrees_with_the_table() -> None:
    with np.load(TABLES / "transnas101_macro.npz") as table:
        listed = {tuple(row) for row in table["genes"].tolist()}
    genes = all_macro_genes()
    in_table = torch.tensor([tuple(row) in listed for row in MACRO.modules(genes).tolist()])
    assert torch.equal(MACRO.valid(genes), in_table)
    assert int(in_table.sum()) == len(listed) == 3256
    for row in list(listed)[:50]:
        text = f"64-{''.join(str(kind) for kind in row if kind)}-basic"
        assert tuple(MACRO.modules(MACRO.parse(text)).tolist()) == row


def test_random_skeletons_are_uniform() -> None:
    keys = MACRO.identity(MACRO.random(Noise([5]), 60_000)).flatten()
    count = torch.bincount(torch.unique(keys, return_inverse=True)[1])
    assert len(count) == 3256
    expected = 60_000 / 3256
    assert abs(((count - expected) ** 2 / expected).sum() - 3255) < 5 * (2 * 3255) ** 0.5


def test_features_say_at_which_shape_each_module_works() -> None:
    for genes in MACRO.random(Noise([8]), 4)[0]:
        encoder = MACRO.encoder(genes, channels=2, stem_stride=1).eval()
        x, widths, sizes = torch.zeros(1, 2, 32, 32), [], []
        for module in encoder.stages:
            x = module(x)
            widths.append(int(np.log2(x.shape[1] // 2)))
            sizes.append(int(np.log2(32 // x.shape[2])))
        absent = 6 - len(widths)
        expected = widths + widths[-1:] * absent + sizes + sizes[-1:] * absent + [len(widths)]
        assert MACRO.features(genes).tolist() == expected
    assert MACRO.features(MACRO.random(Noise([8, 9]), 3)).shape == (2, 3, 13)


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ((1, 1, 1, 1, 0, 0), "got 0.*got 0"),
        ((4, 4, 4, 4, 0, 0), "got 4.*got 4"),
        ((3, 3, 3, 3, 4, 0), "got 1.*got 5"),
        ((1, 2, 3, 4, 0, 1), r"modules \[1, 2, 3, 4, 0, 1\] are no skeleton"),
    ],
)
def test_skeletons_outside_the_benchmark_are_refused(modules: tuple[int, ...], problem: str) -> None:
    genes = torch.tensor(modules) - torch.tensor([1, 1, 1, 1, 0, 0])
    assert not MACRO.valid(genes)
    for use in (MACRO.check, MACRO.describe, lambda genes: MACRO.build(genes, 3)):
        with pytest.raises(ValueError, match=problem):
            use(genes)


# ---- networks -------------------------------------------------------------------------------------------------------


def on_meta(text: str, classes: int) -> nn.Module:
    """The published network, without its values."""
    space = MACRO if text.endswith("basic") else MICRO
    genes = space.parse(text)
    with torch.device("meta"):
        return space.build(genes, classes)


def images(*shape: int) -> torch.Tensor:
    return torch.zeros(1, *shape, device="meta")


def test_a_macro_encoder_has_the_modules_of_resnet18() -> None:
    """Types 1, 4, 4, 4 after a stem of stride 4 are the four stages of ResNet-18, but for the order of layers."""
    ours = on_meta("64-1444-basic", 1000)[0]
    with torch.device("meta"):
        theirs = torchvision.models.resnet18()
    for module, stage in zip(ours.stages, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
        shapes = [sorted(tuple(p.shape) for p in net.parameters()) for net in (module, stage)]
        assert shapes[0] == shapes[1]
    stages = nn.Sequential(theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
    assert count_costs(ours.stages, (64, 56, 56)) == count_costs(stages, (64, 56, 56))
    assert ours(images(3, 224, 224)).shape == (1, 512, 7, 7)


def conv_bn(kernel: int, inputs: int, outputs: int) -> int:
    return kernel * kernel * inputs * outputs + 2 * outputs


STEM = 9 * 3 * 32 + 2 * 32 + conv_bn(3, 32, 64)


@pytest.mark.parametrize("cell", ["3_33_333", "1_02_333", "2_11_010"])
def test_micro_parameters_by_hand(cell: str) -> None:
    ops = [int(c) for c in cell.replace("_", "")]
    total, width = STEM, 64
    for kind in "41414":
        for block in range(2):
            changes = kind == "4" and block == 0
            into, width = width, width * 2 if changes else width
            for op, (source, _) in zip(ops, EDGES, strict=True):
                first = into if source == 0 else width
                reduces = changes and source == 0  # a skip connection from the input: two halves of a 1x1 convolution
                total += {0: 0, 1: conv_bn(1, first, width) if reduces else 0}.get(
                    op, conv_bn(2 * op - 3, first, width)
                )
    assert width == 512
    network = on_meta(f"64-41414-{cell}", 75)
    assert sum(p.numel() for p in network.parameters()) == total + 512 * 75 + 75
    assert network[0](images(3, 256, 256)).shape == (1, 512, 8, 8)


def test_macro_parameters_and_macs_by_hand() -> None:
    modules = ((64, 64, 1), (64, 128, 1), (128, 128, 2), (128, 256, 2))  # 1 2 3 4
    params, size = STEM, 64
    macs = 9 * 3 * 32 * 128**2 + 9 * 32 * 64 * 64**2
    for into, width, stride in modules:
        size //= stride
        convs = [(3, into, width), (3, width, width), (3, width, width), (3, width, width)]
        convs += [(1, into, width)] if (into, stride) != (width, 1) else []
        params += sum(conv_bn(*conv) for conv in convs)
        macs += sum(k * k * i * o * size**2 for k, i, o in convs)
    network = on_meta("64-1234-basic", 47)
    costs = count_costs(network, (3, 256, 256))
    assert costs.params == params + 256 * 47 + 47
    assert costs.macs == macs + 256 * 47 + 47


def test_every_module_type_changes_the_shape_as_named() -> None:
    for genes in MACRO.random(Noise([2]), 3)[0]:
        types = [t for t in MACRO.modules(genes).tolist() if t]
        encoder = MACRO.encoder(genes, channels=4, stem_stride=1).eval()
        x = encoder.stem(torch.randn(1, 3, 32, 32))
        assert x.shape == (1, 4, 32, 32)
        for kind, module in zip(types, encoder.stages, strict=True):
            width, size = x.shape[1] * (2 if kind in (2, 4) else 1), x.shape[2] // (2 if kind in (3, 4) else 1)
            x = module(x)
            assert x.shape == (1, width, size, size)
        assert encoder.out_channels == x.shape[1]


@pytest.mark.parametrize("reduction", [False, True])
def test_a_cell_computes_its_graph(reduction: bool) -> None:
    """Against sums written out: 1_02_333 of the benchmark's own description."""
    into, out, stride = (4, 8, 2) if reduction else (4, 4, 1)
    encoder = MICRO.encoder(MICRO.parse("64-41414-1_02_333"), channels=4, stem_stride=1).eval()
    cell = encoder.stages[0][0] if reduction else None
    if cell is None:
        encoder = MICRO.encoder(MICRO.parse("64-41414-1_02_333"), channels=2, stem_stride=1).eval()
        cell = encoder.stages[0][1]
    assert isinstance(cell, Cell)
    skip01, conv12, conv03, conv13, conv23 = cell.operations
    assert isinstance(skip01, FactorizedReduction if reduction else nn.Identity)
    x = torch.randn(2, into, 9, 9)
    node1 = skip01(x)
    node2 = conv12(node1)
    expected = conv03(x) + conv13(node1) + conv23(node2)
    assert torch.equal(cell(x), expected)
    assert expected.shape == (2, out, -(-9 // stride), -(-9 // stride))


def test_a_factorized_reduction_sees_both_diagonals() -> None:
    layer = FactorizedReduction(1, 2, 2).eval()
    with torch.no_grad():
        for conv in layer.convs:
            conv.weight.fill_(1.0)
        x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
        out = layer(x) * (1 + layer.norm.eps) ** 0.5
    torch.testing.assert_close(out[0, 0], x[0, 0, ::2, ::2])
    torch.testing.assert_close(out[0, 1], x[0, 0, 1::2, 1::2])


def test_networks_start_as_the_benchmark_starts_them() -> None:
    torch.manual_seed(0)
    block = BasicBlock(64, 128, 2)
    encoder = MACRO.encoder(MACRO.parse("64-4111-basic"), channels=64)
    assert isinstance(encoder.stages[0][0], BasicBlock)
    weight = encoder.stages[0][0].body[0][1].weight
    assert weight.shape == block.body[0][1].weight.shape
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)  # He et al., fan out


def test_cells_without_signal_still_train() -> None:
    network = MICRO.build(MICRO.parse("64-41414-0_00_000"), 3, channels=4, stem_stride=1)
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    assert network[-1].bias.grad is not None


def test_jigsaw_networks_share_one_encoder_over_tiles() -> None:
    genes = MICRO.parse("64-41414-3_00_010")
    network = MICRO.build_jigsaw(genes, 11, tiles=4, channels=4).eval()
    x = torch.randn(2, 4, 3, 32, 32)
    pooled = torch.cat([network.encoder(x[:, i]).mean((2, 3)) for i in range(4)], 1)
    torch.testing.assert_close(network(x), network.classifier(pooled))
    with pytest.raises(ValueError, match=r"\(batch, 4, channels, h, w\) tiles, got \(2, 9"):
        network(torch.randn(2, 9, 3, 32, 32))
    with torch.device("meta"):
        published = MICRO.build_jigsaw(genes)
    assert published.classifier.weight.shape == (1000, 9 * 512)


@pytest.mark.parametrize("channels", [0, 7])
def test_odd_widths_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"even and >= 2, got {channels}"):
        MACRO.build(MACRO.parse("64-1234-basic"), 3, channels=channels)


def test_shortcuts_of_the_macro_space_are_normalised_as_in_the_benchmark_or_plainly() -> None:
    genes = MACRO.parse("64-1213-basic")  # modules 2 and 4 change the shape
    for benchmark_norm, expected in ((True, {(1.0, 1.0)}), (False, {(1e-5, 0.1)})):
        network = MACRO.build(genes, 10, channels=8, benchmark_norm=benchmark_norm)
        shortcuts = [m.shortcut for m in network.modules() if isinstance(m, BasicBlock)]
        norms = [s[1] for s in shortcuts if isinstance(s, torch.nn.Sequential)]
        assert len(norms) == 2
        assert {(norm.eps, norm.momentum) for norm in norms} == expected
        others = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d) and m not in norms]
        assert {(norm.eps, norm.momentum) for norm in others} == {(1e-5, 0.1)}
    # with eps = 1 a shortcut of small values is hardly scaled up
    x = 1e-3 * torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    block = BasicBlock(8, 16, 2)
    with torch.no_grad():
        projected = block.shortcut[0](x)
        expected_output = (projected - projected.mean((0, 2, 3), keepdim=True)) / (
            projected.var((0, 2, 3), correction=0, keepdim=True) + 1
        ).sqrt()
        torch.testing.assert_close(block.shortcut(x), expected_output)
