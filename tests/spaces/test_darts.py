import random
from collections import Counter
from itertools import combinations, permutations
from math import comb

import pytest
import torch
from scipy.stats import spearmanr

from ednag.core.noise import Noise
from ednag.samplers.parts import normal_scores
from ednag.samplers.surrogate import GaussianProcess
from ednag.spaces.darts import CELL, CHOICES, DARTS, PAIRS, _symmetries, smallest_code
from ednag.spaces.darts_network import OPERATIONS, Cell
from ednag.testing import SpaceChecks

SPACE = DARTS()

# As released with the paper (Liu et al. 2019).
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
SORTED = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('avg_pool_3x3', 0), ('dil_conv_5x5', 2), "
    "('max_pool_3x3', 1), ('skip_connect', 3), ('dil_conv_3x3', 3), ('sep_conv_3x3', 4)], "
    "normal_concat=range(2, 6), reduce=[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), "
    "('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)], "
    "reduce_concat=range(2, 6))"
)
SMALL = {"channels": 4, "cells": 3}


class TestDARTS(SpaceChecks):
    space = SPACE
    texts = (SORTED,)
    bad_texts = (
        "",
        "64-41414-1_02_333",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        SORTED[:-1],
        SORTED.replace("Genotype", "print"),
        SORTED.replace("reduce_concat=", "concat="),
        SORTED.replace("range(2, 6))", "range(2, 6), extra=[])"),
        SORTED.replace("range(2, 6))", "range(2, 6), **{})"),
        SORTED.replace("normal_concat=range(2, 6)", "normal_concat=range(2, 5)"),
        SORTED.replace("normal_concat=range(2, 6)", "normal_concat=range(0, 10 ** 12)"),
        SORTED.replace("range(2, 6)", "__import__('os').getcwd()"),
        SORTED.replace("('skip_connect', 3)", "('sep_conv_7x7', 3)"),
        SORTED.replace("('skip_connect', 3)", "('none', 3)"),
        SORTED.replace("('skip_connect', 3)", "('skip_connect', 4)"),  # its own output: a cycle
        SORTED.replace("('skip_connect', 3)", "('skip_connect', 5)"),  # a later node
        SORTED.replace("('skip_connect', 3)", "('skip_connect', -1)"),
        SORTED.replace("('skip_connect', 3)", "('skip_connect', 1)"),  # the same input twice
        SORTED.replace("('skip_connect', 3)", "('skip_connect', True)"),
        SORTED.replace("('skip_connect', 3)", "(['skip_connect'], 3)"),
        SORTED.replace("('skip_connect', 3)", "'skip_connect'"),
        SORTED.replace("('skip_connect', 3), ", ""),
        "(" * 5000,
        "x" * 100_000,
    )

    def test_networks_classify_images(self) -> None:
        for genes, options in zip(self.sample(2), ({}, {"stem": "imagenet"}), strict=True):
            network = self.space.build(genes, 7, in_channels=2, **SMALL, **options).eval()
            assert network(torch.randn(2, 2, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("('skip_connect', 3)", "('sep_conv_7x7', 3)", "unknown operation 'sep_conv_7x7' in normal; allowed: max_pool"),
        ("('skip_connect', 3)", "('skip_connect', 4)", r"node 2 of normal must have two distinct inputs in 0\.\.3"),
        ("normal_concat=range(2, 6)", "normal_concat=[3, 4, 5]", r"normal_concat must be range\(2, 6\)"),
    ],
)
def test_errors_name_what_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.parse(SORTED.replace(old, new))


def test_lists_ranges_keywords_and_positions_mean_the_same() -> None:
    genes = SPACE.parse(SORTED)
    for text in (
        SORTED.replace("range(2, 6)", "[2, 3, 4, 5]"),
        SORTED.replace("range(2, 6)", "(2, 3, 4, 5)"),
        SORTED.replace("normal=", "")
        .replace("normal_concat=", "")
        .replace("reduce=", "")
        .replace("reduce_concat=", ""),
    ):
        assert torch.equal(SPACE.parse(text), genes)


def test_the_genotype_is_read_edge_by_edge() -> None:
    normal, reduction = SPACE.cells(SPACE.parse(V2))
    pairs = [set(normal[i : i + 2]) for i in range(0, 8, 2)]
    assert pairs[2] == {("sep_conv_3x3", 1), ("skip_connect", 0)}
    assert pairs[3] == {("skip_connect", 0), ("dil_conv_3x3", 2)}
    assert [name for name, _ in reduction].count("max_pool_3x3") == 5
    drawn = SPACE.edges(SPACE.parse(V2))["normal cell"]
    assert ("0", "3", "dil_conv_3x3") in drawn
    assert ("c(k-2)", "3", "skip_connect") in drawn
    assert len(drawn) == 12


# --- identity -------------------------------------------------------------------------------------------------------


def renumberings(cell: Cell) -> set[tuple[tuple[tuple[int, str], ...], ...]]:
    """All topological numberings of a cell, written out node by node, edges of a node sorted."""
    found = set()
    for order in permutations(range(4)):
        name = {0: 0, 1: 1} | {node + 2: place + 2 for place, node in enumerate(order)}
        nodes = [tuple(sorted((name[s], op) for op, s in cell[2 * n : 2 * n + 2])) for n in order]
        if all(source < place + 2 for place, node in enumerate(nodes) for source, _ in node):
            found.add(tuple(nodes))
    return found


def as_text(cells: list[tuple[tuple[tuple[int, str], ...], ...]]) -> str:
    parts = [[(op, source) for node in cell for source, op in node[::-1]] for cell in cells]
    return f"Genotype(normal={parts[0]}, normal_concat=range(2, 6), reduce={parts[1]}, reduce_concat=range(2, 6))"


def test_every_numbering_and_order_of_edges_is_one_architecture() -> None:
    shuffle = random.Random(0)
    for genes in SPACE.random(Noise([1]), 20)[0]:
        versions = [sorted(renumberings(cell)) for cell in SPACE.cells(genes)]
        for _ in range(6):
            other = SPACE.parse(as_text([shuffle.choice(version) for version in versions]))
            assert SPACE.identity(other) == SPACE.identity(genes)


def test_identities_differ_exactly_where_graphs_are_not_isomorphic() -> None:
    networkx = pytest.importorskip("networkx")

    def graph(cell: Cell) -> object:
        made = networkx.DiGraph()
        made.add_nodes_from((node, {"name": node if node < 2 else "node"}) for node in range(6))
        made.add_edges_from((source, edge // 2 + 2, {"op": op}) for edge, (op, source) in enumerate(cell))
        return made

    genes = torch.randint(0, 2, (40, 22), generator=torch.Generator().manual_seed(0))
    genes[:, 3:8] = 0  # few graphs and operations, so that isomorphic pairs turn up
    cells = [SPACE.cells(row)[0] for row in genes]
    keys = smallest_code(genes[:, : len(CELL)])
    same = 0
    for i, j in combinations(range(40), 2):
        expected = networkx.is_isomorphic(
            graph(cells[i]),
            graph(cells[j]),
            node_match=lambda a, b: a["name"] == b["name"],
            edge_match=lambda a, b: a["op"] == b["op"],
        )
        assert expected == bool(keys[i] == keys[j])
        same += expected and cells[i] != cells[j]
    assert same > 3


def test_identity_is_the_code_of_a_member_and_both_cells_count() -> None:
    genes = SPACE.random(Noise([2]), 200)[0]
    identity = SPACE.identity(genes)
    digits, rest = [], identity
    for cardinality in reversed(SPACE.cardinalities):
        digits.append(rest % cardinality)
        rest = rest // cardinality
    named = torch.stack(digits[::-1], -1)
    assert torch.equal(SPACE.code(named), identity)
    assert torch.equal(SPACE.identity(named), identity)
    assert (SPACE.code(genes) >= identity).all()
    assert int(SPACE.code(torch.tensor(SPACE.cardinalities) - 1)) == SPACE.size - 1 < 2**60
    swapped = genes.roll(11, -1)
    assert (SPACE.identity(swapped) != identity).sum() >= 199


# --- uniform sampling -----------------------------------------------------------------------------------------------


def test_number_of_classes_agrees_with_counting() -> None:
    table = _symmetries()
    cycles = torch.tensor([len(set(row)) for row in table.orbits.tolist()])
    two = table.weights * (2 / len(OPERATIONS)) ** cycles  # Burnside's count for an alphabet of two operations
    all_two = torch.cartesian_prod(*map(torch.arange, (*CHOICES, *(2,) * 8)))
    assert len(smallest_code(all_two).unique()) == round(float(two.sum()))
    independent = (table.inputs == 0).all(-1)  # every node reads both inputs: a multiset of four of 49 pairs
    assert round(float(table.weights[independent].sum())) == comb(49 + 3, 4)


def test_random_architectures_are_uniform_over_classes() -> None:
    genes = SPACE.random(Noise([5]), 500)[0]
    sizes = torch.tensor([len(renumberings(cell)) for row in genes for cell in SPACE.cells(row)], dtype=torch.float64)
    strings = 180 * 7**8
    expected = strings / round(float(_symmetries().weights.sum()))  # mean size of a class
    assert abs(float(sizes.mean()) - expected) < 4 * float(sizes.std()) / len(sizes) ** 0.5
    uniform = torch.randint(0, 7, (500, 22), generator=torch.Generator().manual_seed(0))
    uniform = uniform % torch.tensor(SPACE.cardinalities)
    biased = torch.tensor([len(renumberings(SPACE.cells(row)[0])) for row in uniform], dtype=torch.float64)
    assert float(biased.mean()) > expected + 6 * float(sizes.std()) / len(sizes) ** 0.5  # the test can tell them apart


def test_runs_draw_the_same_alone_and_together() -> None:
    together = SPACE.random(Noise([7, 8]), 40)
    assert torch.equal(together[1], SPACE.random(Noise([8]), 40)[0])


# --- features ---------------------------------------------------------------------------------------------------------


def test_inputs_of_nodes_are_all_unordered_pairs() -> None:
    assert [len(pairs) for pairs in PAIRS] == [comb(node + 2, 2) for node in range(4)]


def test_features_count_operations_and_are_those_of_the_isomorphism_class() -> None:
    genes = SPACE.random(Noise([4]), 60)[0].view(2, 30, 22)
    features = SPACE.features(genes)
    assert features.shape == (2, 30, 14)
    for found, one in zip(features.flatten(0, 1).tolist(), genes.flatten(0, 1), strict=True):
        cells = [Counter(operation for operation, _ in cell) for cell in SPACE.cells(one)]
        assert found == [count[name] for count in cells for name in OPERATIONS]
    code, digits = SPACE.identity(genes), []
    for cardinality in reversed(SPACE.cardinalities):
        digits.append(code % cardinality)
        code = code // cardinality
    canonical = torch.stack(digits[::-1], -1)
    assert (canonical != genes).any(-1).sum() > 10
    assert torch.equal(SPACE.features(canonical), features)


@pytest.mark.slow
def test_features_help_to_predict_what_genes_alone_hide() -> None:
    genes = SPACE.random(Noise([11]), 90)[0]
    with torch.device("meta"):
        networks = [SPACE.build(one, 10, 1, **SMALL) for one in genes]
    size = torch.tensor([float(sum(p.numel() for p in network.parameters())) for network in networks])
    member = torch.ones(1, 45, dtype=torch.bool)
    target = normal_scores(size[:45].argsort(descending=True).argsort()[None].double(), member)
    found = {}
    for features in (False, True):
        model = GaussianProcess(features=features)
        rows = model.kernel.embed(SPACE, genes)[None]
        mean, *_ = model.predict(SPACE, rows[:, :45], target, member, rows[:, 45:])
        found[features] = float(spearmanr(mean[0], size[45:]).statistic)
    assert found[True] > found[False] + 0.1, found
