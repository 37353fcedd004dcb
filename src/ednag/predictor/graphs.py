"""Operation graphs of architectures, as batched tensors: what graph encoders read.

Nodes are operations, edges the flow of data; the first node is the input, the last the output. Spaces whose cells have
a graph of their own get it (the line graph of a cell with operations on its edges, as the paper's 8 x 7 for
NAS-Bench-201; NAS-Bench-101's own, as its operations are on vertices). Any other space is a chain of its genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ednag.spaces import NASBench101, NASBench201, SearchSpace, TransNAS101Micro
from ednag.spaces.nasbench101 import EDGES as EDGES_101
from ednag.spaces.nasbench101 import VERTICES
from ednag.spaces.nasbench201 import EDGES as EDGES_201


@dataclass(frozen=True)
class OperationGraph:
    """Graphs of a batch of architectures, nodes in topological order.

    Attributes:
        nodes: one-hot symbol of each node (operations, then input and output), float32 ``(n, V, C)``.
        adjacency: 1 where data flows from row to column, float32 ``(n, V, V)``, strictly upper triangular.
    """

    nodes: Tensor
    adjacency: Tensor


def graph_shape(space: SearchSpace) -> tuple[int, int]:
    """Number of nodes and of symbols of a space's graphs, ``(V, C)``."""
    operations = space.cardinalities[len(EDGES_101) :] if isinstance(space, NASBench101) else space.cardinalities
    return len(operations) + 2, max(operations) + 2


def operation_graph(space: SearchSpace, genes: Tensor) -> OperationGraph:
    """Write architectures as operation graphs.

    Args:
        space: what the genes mean.
        genes: int64 ``(n, L)``, in range.

    Returns:
        graphs of :func:`graph_shape`.
    """
    vertices, symbols = graph_shape(space)
    operations = genes[:, len(EDGES_101) :] if isinstance(space, NASBench101) else genes
    ends = operations.new_tensor([symbols - 2, symbols - 1]).expand(len(genes), 2)
    codes = torch.cat([ends[:, :1], operations, ends[:, 1:]], 1)
    nodes = (codes[..., None] == torch.arange(symbols, device=genes.device)).float()
    if isinstance(space, NASBench101):
        return OperationGraph(nodes, _cell_matrix(genes))
    fixed = line_graph(EDGES_201) if isinstance(space, NASBench201 | TransNAS101Micro) else _chain(vertices)
    return OperationGraph(nodes, fixed.to(genes.device).expand(len(genes), -1, -1))


def line_graph(edges: Sequence[tuple[int, int]]) -> Tensor:
    """Turn a cell with operations on its edges into a graph with operations on its nodes.

    Args:
        edges: ``(source, target)`` of each edge; the cell's input is node 0, its output the largest one.

    Returns:
        float32 ``(E + 2, E + 2)``: input, the edges in order, output.
    """
    last = max(target for _, target in edges)
    adjacency = torch.zeros(len(edges) + 2, len(edges) + 2)
    for i, (source, target) in enumerate(edges, 1):
        adjacency[0, i] = float(source == 0)
        adjacency[i, -1] = float(target == last)
        for j, (start, _) in enumerate(edges, 1):
            adjacency[i, j] = float(start == target)
    return adjacency


def _chain(vertices: int) -> Tensor:
    """Connect each node to the next, ``(V, V)``."""
    return torch.diag(torch.ones(vertices - 1), 1)


def _cell_matrix(genes: Tensor) -> Tensor:
    """Adjacency of NAS-Bench-101 cells, ``(n, 7, 7)``."""
    rows, columns = torch.tensor(EDGES_101, device=genes.device).T
    matrix = torch.zeros(len(genes), VERTICES, VERTICES, device=genes.device)
    matrix[:, rows, columns] = genes[:, : len(EDGES_101)].float()
    return matrix
