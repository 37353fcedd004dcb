"""Encoders: batching, masks and order don't matter; graphs and convolutions are compared with plain loops."""

import pytest
import torch

from ednag.core.noise import Noise
from ednag.predictor.encoders import ENCODERS, ArchitectureEncoder, DiGCNEncoder, GRUEncoder, SetEncoder
from ednag.predictor.graphs import graph_shape, line_graph, operation_graph
from ednag.spaces import DARTS, MobileNetV3, NASBench101, NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro
from ednag.spaces.nasbench201 import EDGES

SPACES = [NASBench201(), NASBench101(), TransNAS101Micro(), TransNAS101Macro(), DARTS(), MobileNetV3()]


def some(space: SearchSpace, n: int = 7) -> torch.Tensor:
    return space.random(Noise([3]), n)[0]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_any_space_is_encoded_the_same_alone_and_in_a_batch(space: SearchSpace, kind: str) -> None:
    torch.manual_seed(0)
    encoder: ArchitectureEncoder = ENCODERS[kind](space, 16).eval()
    genes = some(space)
    together = encoder(genes)
    assert together.shape == (7, 16)
    assert torch.allclose(together, torch.cat([encoder(one[None]) for one in genes]), atol=1e-5)
    assert torch.equal(encoder(genes.reshape(1, 7, -1)), together[None])
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_graphs_are_topologically_ordered(space: SearchSpace) -> None:
    graph = operation_graph(space, some(space))
    assert graph.nodes.shape[1:] == graph_shape(space)
    assert torch.equal(graph.nodes.sum(-1), torch.ones(graph.nodes.shape[:2]))
    assert graph.adjacency.tril().abs().max() == 0
    assert (graph.nodes[:, 0, -2] == 1).all()
    assert (graph.nodes[:, -1, -1] == 1).all()


def test_the_graph_of_nasbench201_is_the_papers_8_by_7() -> None:
    genes = torch.tensor([[0, 1, 2, 3, 4, 2]])
    graph = operation_graph(NASBench201(), genes)
    assert graph.nodes.argmax(-1).tolist() == [[5, 0, 1, 2, 3, 4, 2, 6]]
    expected = torch.zeros(8, 8)  # input, the edges 01 02 12 03 13 23, output
    for source, target in [(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)]:
        expected[source, target] = 1
    assert torch.equal(graph.adjacency[0], expected)
    assert torch.equal(line_graph(EDGES), expected)


def test_the_graph_of_nasbench101_is_its_adjacency() -> None:
    space = NASBench101()
    genes = some(space, 1)
    graph = operation_graph(space, genes)
    upper = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    for (i, j), gene in zip(upper, genes[0, :21].tolist(), strict=True):
        assert graph.adjacency[0, i, j] == gene
    assert graph.nodes[0, 1:6].argmax(-1).tolist() == genes[0, 21:].tolist()


def test_digcn_agrees_with_a_loop_over_nodes() -> None:
    torch.manual_seed(1)
    space = NASBench101()
    encoder = DiGCNEncoder(space, 8, paths=False, layers=2).eval()
    genes = some(space, 3)
    graph = operation_graph(space, genes)
    for nodes, adjacency, found in zip(graph.nodes, graph.adjacency, encoder.encode(genes), strict=True):
        h = [encoder.embed(node) + place for node, place in zip(nodes, encoder.place, strict=True)]
        for along, against, norm in zip(encoder.along, encoder.against, encoder.norms, strict=True):
            new = []
            for v in range(7):
                targets = [v, *[w for w in range(7) if adjacency[v, w]]]
                sources = [v, *[w for w in range(7) if adjacency[w, v]]]
                ahead = along(sum(norm(h[w]) for w in targets) / len(targets)).relu()
                back = against(sum(norm(h[w]) for w in sources) / len(sources)).relu()
                new.append(h[v] + (ahead + back) / 2)
            h = new
        assert torch.allclose(found, sum(h) / 7, atol=1e-5)


def test_gru_sees_along_the_graph_only() -> None:
    """An operation that nothing leads away from can't change the output's state."""
    torch.manual_seed(2)
    space = NASBench101()
    encoder = GRUEncoder(space, 8, paths=False).eval()
    genes = torch.zeros(2, 26, dtype=torch.int64)
    genes[:, [0, 10, 20]] = 1  # 0-1, 1-6 is index 10 (row 1: 12 13 14 15 16), 5-6
    genes[1, 21 + 1] = 2  # vertex 2, unconnected
    graph = operation_graph(space, genes)
    ahead = encoder._walk(0, graph.nodes, graph.adjacency)
    assert torch.allclose(ahead[0], ahead[1])
    genes[1, 21] = 2  # vertex 1, on the path
    graph = operation_graph(space, genes)
    ahead = encoder._walk(0, graph.nodes, graph.adjacency)
    assert (ahead[0] - ahead[1]).abs().max() > 1e-4


def test_set_encoder_ignores_order_and_padding_but_not_the_number_of_classes() -> None:
    torch.manual_seed(3)
    encoder = SetEncoder(12, 16).eval()
    x = torch.randn(2, 5, 6, 12)
    present = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    out = encoder(x, present)
    shuffled = x[:, :, torch.randperm(6)]
    assert torch.allclose(encoder(shuffled, present), out, atol=1e-5)
    classes = torch.tensor([2, 0, 1, 3, 4])
    assert torch.allclose(encoder(x[:, classes], present), out, atol=1e-5)
    alone = encoder(x[1:, :3], torch.ones(1, 3, dtype=torch.bool))
    assert torch.allclose(alone[0], out[1], atol=1e-5)
    twice = torch.cat([x[:1], x[:1]], 1)
    assert (encoder(twice, torch.ones(1, 10, dtype=torch.bool)) - out[:1]).abs().max() > 1e-3
    assert (out[0] - out[1]).abs().max() > 1e-3
