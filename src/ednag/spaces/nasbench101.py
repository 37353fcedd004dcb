"""NAS-Bench-101 (Ying, Klein, Christiansen, Real, Murphy & Hutter 2019): both connections and operations are genes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import isqrt

import torch
from torch import Tensor, nn

from ednag.core.noise import Noise
from ednag.spaces.base import SearchSpace, quoted
from ednag.spaces.classes import labelled_graphs
from ednag.spaces.nasbench101_network import CellNetwork, check_build, count_network
from ednag.spaces.tally import ImageShape

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""Labels of an interior vertex; an operation gene is an index into this tuple."""

KERNELS = (3, 1, 0)
"""Side of each operation's convolution; 0 for the pooling."""

VERTICES = 7
"""Vertices of a cell: the input, five interior ones, the output."""

MAX_EDGES = 9
"""Edges that a cell of the benchmark may have after pruning."""

EDGES = tuple(combinations(range(VERTICES), 2))
"""``(source, target)`` of each of the 21 edge genes: the upper triangle of the adjacency matrix, row by row."""

_INTERIOR = VERTICES - 2
_PATH_LENGTH = 3


class NASBench101(SearchSpace):
    """Cells of up to seven vertices and nine edges, with an operation at each vertex: 423,624 distinct ones.

    Genes: 21 edges (0 or 1) in the order of :data:`EDGES`, then the operations of vertices 1 to 5. Vertices that no
    path from input to output passes are pruned, as the benchmark does; genes are valid if a path is left and at most
    nine edges.

    Examples:
        >>> space = NASBench101()
        >>> genes = space.parse("010001000 input,conv3x3-bn-relu,output")
        >>> int(genes.sum()), bool(space.valid(genes))
        (2, True)
        >>> space.describe(genes)
        '010001000 input,conv3x3-bn-relu,output'
    """

    name = "nasbench101"
    cardinalities = (2,) * len(EDGES) + (len(OPERATIONS),) * _INTERIOR

    def valid(self, genes: Tensor) -> Tensor:
        """Mark which genes are in range, connect input to output, and have at most nine edges after pruning."""
        in_range = super().valid(genes)
        edges = prune(genes.where(in_range[..., None], 0))[..., : len(EDGES)].sum(-1)
        return in_range & (edges > 0) & (edges <= MAX_EDGES)

    def check(self, genes: Tensor) -> Tensor:
        """Return ``genes`` if all are of this space.

        Raises:
            ValueError: if there are not 26 genes per architecture, one is out of range, a cell does not connect its
                input to its output, or it has more than nine edges after pruning.
        """
        edges = prune(super().check(genes))[..., : len(EDGES)].sum(-1)
        if (edges == 0).any():
            raise ValueError("the cell has no path from its input to its output; connect them")
        if (edges > MAX_EDGES).any():
            raise ValueError(
                f"the cell has {int(edges.max())} edges after pruning; {self.name} allows at most {MAX_EDGES}"
            )
        return genes

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw cells uniformly over the 423,624 distinct ones, ``(R, n, 26)``; see :class:`LabelledGraphs`."""
        return labelled_graphs(_INTERIOR, MAX_EDGES, len(OPERATIONS)).draw(noise, n)

    def identity(self, genes: Tensor) -> Tensor:
        """First 63 bits of the benchmark's graph hash of the pruned cell; 0 if it does not connect input to output.

        See :func:`graph_hash`. Among the 423,624 cells of the space an accidental clash has probability 1e-8.
        """
        codes, place = torch.unique(self.code(prune(genes)), return_inverse=True)
        return torch.tensor([_identity(code) for code in codes.tolist()], device=genes.device)[place]

    def module_hash(self, genes: Tensor) -> str:
        """Return the name by which the benchmark knows a cell, int64 ``(26,)``: 32 hexadecimal digits.

        Raises:
            ValueError: if the genes are not a valid cell.
        """
        matrix, labels = cell_graph(self.check(genes))
        return graph_hash(matrix, labels)

    def features(self, genes: Tensor) -> Tensor:
        """Paths of the cell, zeros and ones, float32 ``(*B, 40)``.

        The truncated path encoding (White et al. 2020): one column for each sequence of at most three operations on a
        path from input to output. Isomorphic cells have the same paths.
        """
        edge = genes[..., : len(EDGES)].bool()
        number = {pair: i for i, pair in enumerate(EDGES)}
        sequences = range(len(OPERATIONS))
        start = torch.ones_like(edge[..., :1])
        levels = {(0, length): start if length == 0 else None for length in range(_PATH_LENGTH + 1)}
        for vertex in range(1, VERTICES):
            last = vertex == VERTICES - 1
            for length in range(_PATH_LENGTH + 1):
                arriving = [
                    before & edge[..., number[source, vertex], None]
                    for source in range(vertex)
                    if (before := levels[source, length - (not last)] if length or last else None) is not None
                ]
                if not arriving:
                    levels[vertex, length] = None
                    continue
                here = torch.stack(arriving).any(0)
                if not last:
                    own = torch.stack([genes[..., len(EDGES) + vertex - 1] == code for code in sequences], -1)
                    here = (here[..., :, None] & own[..., None, :]).flatten(-2)
                levels[vertex, length] = here
        out = [levels[VERTICES - 1, length] for length in range(_PATH_LENGTH + 1)]
        return torch.cat([part for part in out if part is not None], -1).float()

    def layers(self, genes: Tensor) -> Tensor:
        """Vertices of the pruned cell by operation, its edges, and those into the output, float32 ``(*B, 5)``."""
        kept = prune(genes)
        matrix = _matrix(kept)
        there = matrix[..., 1:-1].any(-2)
        kinds = [((kept[..., len(EDGES) :] == kind) & there).sum(-1) for kind in range(len(OPERATIONS))]
        return torch.stack([*kinds, matrix.sum((-2, -1)), matrix[..., -1].sum(-1)], -1).float()

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Edges of the pruned cell, its vertices named by number and operation; see :meth:`SearchSpace.edges`."""
        matrix, labels = cell_graph(self.check(genes))
        kinds = [OPERATIONS[label].removesuffix("-bn-relu") for label in labels[1:-1]]
        names = ["input", *(f"{i} {kind}" for i, kind in enumerate(kinds, 1)), "output"]
        pairs = [(s, t) for s, row in enumerate(matrix) for t, linked in enumerate(row) if linked]
        return {"cell": [(names[source], names[target], "") for source, target in pairs]}

    def describe(self, genes: Tensor) -> str:
        """Write the pruned cell in the two fields of the benchmark's records, separated by a space.

        For example ``010001000 input,conv3x3-bn-relu,output``: the adjacency matrix row by row, and the label of each
        vertex.

        Raises:
            ValueError: if the genes are not a valid cell.
        """
        matrix, labels = cell_graph(self.check(genes))
        names = ["input", *(OPERATIONS[label] for label in labels[1:-1]), "output"]
        return f"{''.join(str(bit) for row in matrix for bit in row)} {','.join(names)}"

    def parse(self, text: str) -> Tensor:
        """Read the text written by :meth:`describe`; vertices that would be pruned are allowed."""
        expected = "Expected ADJACENCY input,OPERATION,...,output: 0s and 1s of the matrix row by row, then its labels"
        bits, _, labels = text.strip().partition(" ")
        n, names = isqrt(len(bits)), labels.split(",")
        if not 2 <= n <= VERTICES or n * n != len(bits) or set(bits) - {"0", "1"} or len(names) != n:
            raise ValueError(f"not a NAS-Bench-101 cell of 2 to {VERTICES} vertices: {quoted(text)}. {expected}")
        if names[0] != "input" or names[-1] != "output":
            raise ValueError(f"the first label must be input and the last output, got {quoted(text)}. {expected}")
        unknown = [name for name in names[1:-1] if name not in OPERATIONS]
        if unknown:
            raise ValueError(f"unknown operation {unknown[0]!r} in {quoted(text)}; allowed: {', '.join(OPERATIONS)}")
        edges = [divmod(i, n) for i, bit in enumerate(bits) if bit == "1"]
        if any(source >= target for source, target in edges):
            raise ValueError(f"the matrix must be upper triangular (a cell has no cycle), got {quoted(text)}")
        return self.check(cell_genes(n, edges, [OPERATIONS.index(name) for name in names[1:-1]]))

    def build(
        self,
        genes: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: int = 128,
        stacks: int = 3,
        cells: int = 3,
        stem_stride: int = 1,
        benchmark_norm: bool = False,
    ) -> nn.Sequential:
        """Build the benchmark's network: stem, three stacks of three cells with down-sampling between, classifier.

        Args:
            genes: one cell, int64 ``(26,)``.
            num_classes: logits.
            in_channels: channels of the images.
            channels: width of the first stack, >= 5; doubled at each following one.
            stacks: stacks of cells (3 in the benchmark).
            cells: cells per stack (3 in the benchmark, 1 in proxies).
            stem_stride: stride of the first convolution; 1 in the benchmark, more for large images.
            benchmark_norm: whether running statistics of batch normalisation move as slowly as in the benchmark
                (momentum 0.997 in TensorFlow's sense), for trainings of its length; brief ones need the usual 0.9.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.

        Raises:
            ValueError: if the genes are not a valid cell, or an option is out of range.
        """
        matrix, labels = cell_graph(self.check(genes))
        names = [OPERATIONS[label] for label in labels[1:-1]]
        return CellNetwork(
            matrix, names, num_classes, in_channels, channels, stacks, cells, stem_stride, benchmark_norm
        )

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        channels: int = 128,
        stacks: int = 3,
        cells: int = 3,
        stem_stride: int = 1,
        benchmark_norm: bool = False,
    ) -> Tensor:
        """Count networks vertex by vertex; see :meth:`SearchSpace.count` and :meth:`build`."""
        check_build(channels, stacks, cells, stem_stride)
        pruned = prune(genes)
        matrix = _matrix(pruned)
        kernels = torch.tensor(KERNELS, device=genes.device)[pruned[..., len(EDGES) :]]
        return count_network(matrix, kernels, num_classes, image_shape, channels, stacks, cells, stem_stride)


def prune(genes: Tensor) -> Tensor:
    """Remove vertices and edges that are on no path from input to output, as the benchmark does.

    Args:
        genes: int64 ``(*B, 26)``, in range.

    Returns:
        int64 ``(*B, 26)``: removed edges are 0, and so are the operations of removed vertices; all edges are 0 if
        input and output are not connected.
    """
    source, target = _ends(genes.device)
    matrix = _matrix(genes).bool()
    fed, used = torch.zeros_like(matrix[..., 0]), torch.zeros_like(matrix[..., 0])
    fed[..., 0] = used[..., -1] = True
    for vertex in range(1, VERTICES):
        fed[..., vertex] = (matrix[..., :vertex, vertex] & fed[..., :vertex]).any(-1)
    for vertex in reversed(range(VERTICES - 1)):
        used[..., vertex] = (matrix[..., vertex, vertex + 1 :] & used[..., vertex + 1 :]).any(-1)
    kept = fed & used
    alive = torch.cat([kept[..., source] & kept[..., target], kept[..., 1:-1]], -1)
    return genes * alive


@lru_cache(maxsize=8)
def _ends(device: torch.device) -> tuple[Tensor, Tensor]:
    """Source and target of each edge gene, int64 ``(21,)``."""
    source, target = (torch.tensor(ends, device=device) for ends in zip(*EDGES, strict=True))
    return source, target


def _matrix(genes: Tensor) -> Tensor:
    """Adjacency matrix, int64 ``(*B, 7, 7)``, of genes ``(*B, 26)``."""
    source, target = _ends(genes.device)
    edge = genes[..., : len(EDGES)]
    matrix = edge.new_zeros((*edge.shape[:-1], VERTICES, VERTICES))
    matrix[..., source, target] = edge
    return matrix


def cell_graph(genes: Tensor) -> tuple[list[list[int]], list[int]]:
    """Return the pruned graph of one connected cell, int64 ``(26,)``.

    Returns:
        the upper-triangular adjacency matrix, ``n`` x ``n``, and the benchmark's label of each vertex: -1 for the
        input, -2 for the output, else an index into :data:`OPERATIONS`.
    """
    return _graph(prune(genes).tolist())


def cell_genes(vertices: int, edges: Sequence[tuple[int, int]], operations: Sequence[int]) -> Tensor:
    """Write a graph of 2 to 7 vertices as genes; the last vertex is the output, missing ones stay without edges.

    Args:
        vertices: ``n``.
        edges: pairs ``source < target``, both in ``0 .. n - 1``.
        operations: of the ``n - 2`` interior vertices.

    Returns:
        int64 ``(26,)``; not checked for validity.
    """
    genes = [0] * len(NASBench101.cardinalities)
    for source, target in edges:
        genes[EDGES.index((source, VERTICES - 1 if target == vertices - 1 else target))] = 1
    genes[len(EDGES) : len(EDGES) + vertices - 2] = operations
    return torch.tensor(genes)


def graph_hash(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """Hash a labelled graph so that exactly isomorphic graphs agree: the ``module_hash`` of the benchmark.

    Each vertex starts with the MD5 of its out-degree, in-degree and label. In as many rounds as there are vertices it
    takes the MD5 of its predecessors' values, its successors', both sorted, and its own; the hash is the MD5 of the
    sorted values (Ying 2018, "Enumerating unique computational graphs via an iterative graph invariant").

    Args:
        matrix: adjacency, ``n`` x ``n``, row to column.
        labels: one per vertex.

    Returns:
        32 hexadecimal digits.
    """
    columns = list(zip(*matrix, strict=True))
    state = [_md5(str((sum(out), sum(into), label))) for out, into, label in zip(matrix, columns, labels, strict=True)]
    for _ in labels:
        state = [
            _md5("|".join([_joined(state, columns[vertex]), _joined(state, matrix[vertex]), own]))
            for vertex, own in enumerate(state)
        ]
    return _md5(str(sorted(state)))


def _joined(state: Sequence[str], neighbours: Sequence[int]) -> str:
    return "".join(sorted(value for value, linked in zip(state, neighbours, strict=True) if linked))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=2**20)
def _identity(code: int) -> int:
    """Identity of a pruned cell, from the code of its genes."""
    digits = []
    for cardinality in reversed(NASBench101.cardinalities):
        code, digit = divmod(code, cardinality)
        digits.append(digit)
    genes = digits[::-1]
    return hash_key(graph_hash(*_graph(genes))) if any(genes[: len(EDGES)]) else 0


def _graph(genes: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Return matrix and labels of pruned genes; see :func:`cell_graph`."""
    edges = {pair for pair, gene in zip(EDGES, genes, strict=False) if gene}
    kept = sorted({vertex for pair in edges for vertex in pair})
    matrix = [[int((source, target) in edges) for target in kept] for source in kept]
    return matrix, [-1, *(genes[len(EDGES) + vertex - 1] for vertex in kept[1:-1]), -2]


def hash_key(module_hash: str) -> int:
    """Shorten a ``module_hash`` to its first 63 bits, so that it fits an int64."""
    return int(module_hash[:16], 16) >> 1
