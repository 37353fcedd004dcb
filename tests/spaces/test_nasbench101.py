"""NAS-Bench-101, against the benchmark's own hashes and parameter counts, and against plain-loop restatements."""

import itertools

import numpy as np
import pytest
import torch

from ednag.core.noise import Noise
from ednag.spaces.classes import labelled_graphs
from ednag.spaces.nasbench101 import EDGES, MAX_EDGES, OPERATIONS, NASBench101, cell_genes, graph_hash, prune
from ednag.spaces.nasbench101_network import Cell, vertex_channels
from ednag.testing import SpaceChecks
from tests.conftest import TABLES

SPACE = NASBench101()
CELLS_IN_ALL = 423_624  # as published
BROKEN = "0100000000010000 input,conv3x3-bn-relu,maxpool3x3,output"
INCEPTION = (
    "0111010" + "0000001" + "0000001" + "0000100" + "0000001" + "0000001" + "0000000"
    " input,conv1x1-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,maxpool3x3,output"
)


class TestNASBench101(SpaceChecks):
    space = SPACE
    texts = (INCEPTION, "0100 input,output", "010001000 input,conv1x1-bn-relu,output")
    bad_texts = (
        "",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|none~2|",
        BROKEN,  # the output is not reached
        INCEPTION.replace("maxpool3x3", "sep_conv_3x3"),
        INCEPTION.replace("input,", "output,"),
        "0110 input,output",  # a cycle
        "010001000 input,output",
        "1" * 64 + " input,output",
        "".join("1" if a < b else "0" for a in range(5) for b in range(5))
        + " input,conv1x1-bn-relu,conv1x1-bn-relu,conv1x1-bn-relu,output",  # ten edges
    )


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    with np.load(TABLES / "nasbench101_sample.npz", allow_pickle=False) as table:
        return {name: table[name] for name in ("adjacency", "ops", "n_vertices", "module_hash", "params")}


def row_genes(table: dict[str, np.ndarray], row: int) -> torch.Tensor:
    n = int(table["n_vertices"][row])
    matrix = np.unpackbits(table["adjacency"][row])[:49].reshape(7, 7)
    return cell_genes(n, [tuple(e) for e in np.argwhere(matrix).tolist()], table["ops"][row, : n - 2].tolist())


def some_rows(table: dict[str, np.ndarray], step: int) -> list[int]:
    small = np.argwhere(table["n_vertices"] < 6).flatten().tolist()
    return [*range(0, len(table["params"]), step), *small[:: max(1, step // 30)]]


def test_hashes_and_identities_agree_with_the_benchmark(sample: dict[str, np.ndarray]) -> None:
    rows = some_rows(sample, 331)
    genes = torch.stack([row_genes(sample, row) for row in rows])
    assert SPACE.valid(genes).all()
    hashes = [sample["module_hash"][row].tobytes().hex() for row in rows]
    assert [SPACE.module_hash(cell) for cell in genes] == hashes
    assert SPACE.identity(genes).tolist() == [int(text, 16) >> 65 for text in hashes]


def test_parameters_equal_the_benchmark(sample: dict[str, np.ndarray]) -> None:
    for row in some_rows(sample, 1501):
        genes = row_genes(sample, row)
        with torch.device("meta"):
            network = SPACE.build(genes, 10)
        assert sum(p.numel() for p in network.parameters()) == sample["params"][row]


def plain_prune(genes: list[int]) -> set[tuple[int, int]]:
    """Edges on a path from vertex 0 to vertex 6: every path written out."""
    edges = {pair for pair, gene in zip(EDGES, genes, strict=False) if gene}
    kept = set()
    for k in range(6):
        for interior in itertools.combinations(range(1, 6), k):
            path = list(itertools.pairwise((0, *interior, 6)))
            if edges.issuperset(path):
                kept.update(path)
    return kept


def uniform_genes(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    high = torch.tensor(SPACE.cardinalities)
    return (torch.rand(n, 26, generator=generator) * high).long()


def test_pruning_and_validity_agree_with_all_paths_written_out() -> None:
    genes = uniform_genes(200)
    valid = SPACE.valid(genes).tolist()
    assert 0 < sum(valid) < 200
    for cell, pruned, ok in zip(genes.tolist(), prune(genes).tolist(), valid, strict=True):
        kept = plain_prune(cell)
        assert {pair for pair, gene in zip(EDGES, pruned, strict=False) if gene} == kept
        assert ok == (0 < len(kept) <= 9)
        for vertex in range(1, 6):
            alive = any(vertex in pair for pair in kept)
            assert pruned[20 + vertex] == (cell[20 + vertex] if alive else 0)


def test_isomorphic_cells_are_one_and_dangling_vertices_do_not_count() -> None:
    first = SPACE.parse("0110000100010000 input,conv3x3-bn-relu,maxpool3x3,output")
    other = SPACE.parse("0110000100010000 input,maxpool3x3,conv3x3-bn-relu,output")
    dangling = first.clone()
    dangling[EDGES.index((0, 4))] = 1
    dangling[20 + 4] = 2
    different = SPACE.parse("0110000100010000 input,maxpool3x3,maxpool3x3,output")
    keys = SPACE.identity(torch.stack([first, other, dangling, different]))
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert SPACE.features(first).equal(SPACE.features(other))


def test_all_relabelled_orders_of_random_cells_have_one_identity() -> None:
    for cell in SPACE.random(Noise([5]), 5)[0].tolist():
        labels = [-1, *cell[21:], -2]
        matrix = np.zeros((7, 7), dtype=int)
        for pair, gene in zip(EDGES, cell, strict=False):
            matrix[pair] = gene
        reference = graph_hash(matrix.tolist(), labels)
        for order in itertools.islice(itertools.permutations(range(1, 6)), 0, 120, 17):
            place = [0, *order, 6]
            moved = graph_hash(matrix[np.ix_(place, place)].tolist(), [labels[i] for i in place])
            assert moved == reference


def test_unconnected_genes_have_identity_zero_and_are_refused() -> None:
    assert SPACE.identity(torch.zeros(2, 26, dtype=torch.int64)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no path"):
        SPACE.describe(torch.zeros(26, dtype=torch.int64))
    full = torch.cat([torch.ones(21, dtype=torch.int64), torch.zeros(5, dtype=torch.int64)])
    with pytest.raises(ValueError, match="21 edges"):
        SPACE.build(full, 10)


def test_random_cells_are_the_same_alone_and_in_a_batch() -> None:
    together, alone = Noise([1, 2, 3]), Noise([2])
    for _ in range(2):
        assert torch.equal(SPACE.random(together, 7)[1], SPACE.random(alone, 7)[0])


def test_random_cells_are_uniform_over_distinct_ones() -> None:
    """20,000 draws from 423,624 equal chances: 423,624 (1 - (1 - 1 / 423,624)^20,000) different ones on average."""
    genes = SPACE.random(Noise([4]), 20_000)[0]
    assert bool(SPACE.valid(genes).all())
    times = torch.unique(SPACE.identity(genes), return_counts=True)[1]
    expected = CELLS_IN_ALL * (1 - (1 - 1 / CELLS_IN_ALL) ** 20_000)
    assert abs(len(times) - expected) < 5 * (20_000 - expected) ** 0.5
    assert int(times.max()) <= 4


def test_random_cells_are_uniform_in_a_small_space() -> None:
    """All graphs of up to three vertices between input and output, drawn often."""
    small = labelled_graphs(3, MAX_EDGES, len(OPERATIONS))
    drawn = small.draw(Noise([6]), 100_000)[0]
    pairs = list(itertools.combinations(range(5), 2))
    hashes = {}
    for row, number in zip(*(part.tolist() for part in torch.unique(drawn, dim=0, return_counts=True)), strict=True):
        used = sorted({v for pair, bit in zip(pairs, row, strict=False) if bit for v in pair})
        linked = {pair for pair, bit in zip(pairs, row, strict=False) if bit}
        matrix = [[int((a, b) in linked) for b in used] for a in used]
        name = graph_hash(matrix, [-1, *(row[len(pairs) + v - 1] for v in used[1:-1]), -2])
        hashes[name] = hashes.get(name, 0) + number
    classes = round(float(small.ends[-1]))
    assert len(hashes) == classes
    chi = sum((number - 100_000 / classes) ** 2 / (100_000 / classes) for number in hashes.values())
    assert abs(chi - (classes - 1)) < 5 * (2 * (classes - 1)) ** 0.5


def test_the_number_of_cells_is_the_published_one() -> None:
    assert float(labelled_graphs(5, MAX_EDGES, len(OPERATIONS)).ends[-1]) == pytest.approx(CELLS_IN_ALL, abs=1e-6)


def test_features_are_the_operations_along_paths() -> None:
    genes = SPACE.random(Noise([9]), 40)[0]
    columns = [seq for k in range(4) for seq in itertools.product(range(3), repeat=k)]
    for cell, row in zip(genes.tolist(), SPACE.features(genes).tolist(), strict=True):
        edges = {pair for pair, gene in zip(EDGES, cell, strict=False) if gene}
        paths = set()
        for k in range(4):
            for interior in itertools.combinations(range(1, 6), k):
                if edges.issuperset(itertools.pairwise((0, *interior, 6))):
                    paths.add(tuple(cell[20 + vertex] for vertex in interior))
        assert [seq for seq, on in zip(columns, row, strict=True) if on] == [seq for seq in columns if seq in paths]


def test_channels_are_shared_as_published() -> None:
    inception = [[int(bit) for bit in INCEPTION[7 * row : 7 * row + 7]] for row in range(7)]
    assert vertex_channels(inception, 128, 130) == [128, 33, 33, 32, 32, 32, 130]
    assert vertex_channels([[0, 1], [0, 0]], 3, 8) == [3, 8]


def test_a_cell_computes_its_graph() -> None:
    # 0 -> 1, 0 -> 2, 1 -> 2, 1 -> 3, 2 -> 3, 0 -> 3: widths 5 -> (4, 3) -> 7
    matrix = [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    torch.manual_seed(0)
    cell = Cell(matrix, ["conv3x3-bn-relu", "maxpool3x3"], 5, 7).eval()
    x = torch.randn(2, 5, 6, 6)
    a = cell.operations[0](cell.projections["1"](x))
    b = torch.nn.functional.max_pool2d(a[:, :3] + cell.projections["2"](x), 3, 1, 1)
    torch.testing.assert_close(cell(x), torch.cat([a, b], 1) + cell.projections["3"](x))


def test_options_of_the_network() -> None:
    genes = SPACE.parse(INCEPTION)
    network = SPACE.build(genes, 4, in_channels=1, channels=8, stacks=2, cells=1, stem_stride=2)
    assert network(torch.randn(2, 1, 29, 31)).shape == (2, 4)
    with pytest.raises(ValueError, match="channels must be >= 5"):
        SPACE.build(genes, 4, channels=4)


def test_running_statistics_move_as_in_the_benchmark_or_plainly() -> None:
    genes = SPACE.random(Noise([0]), 1)[0, 0]
    for benchmark_norm, momentum in ((True, 0.003), (False, 0.1)):
        network = SPACE.build(genes, 10, channels=16, stacks=1, cells=1, benchmark_norm=benchmark_norm)
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms
        assert {round(norm.momentum, 12) for norm in norms} == {momentum}
        assert {norm.eps for norm in norms} == {1e-5}


def test_layers_of_the_pruned_cell() -> None:
    text = "0100 0010 0001 0000".replace(" ", "") + " input,conv3x3-bn-relu,maxpool3x3,output"
    kinds = ["conv3x3-bn-relu", "maxpool3x3"]
    found = NASBench101().layers(NASBench101().parse(text)).tolist()
    assert [found[OPERATIONS.index(kind)] for kind in kinds] == [1, 1]
    assert sum(found[: len(OPERATIONS)]) == 2
    assert found[-2:] == [3, 1]  # edges, and those into the output
