"""DARTS, the space of NAS-Bench-301 (Liu et al. 2019; Siems et al. 2020): a normal and a reduction cell."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ednag.core.noise import Noise
from ednag.spaces.base import SearchSpace, quoted
from ednag.spaces.classes import cycle_members
from ednag.spaces.darts_network import NODES, OPERATIONS, Cell, DARTSNetwork, check_build, count_parts
from ednag.spaces.tally import ImageShape

PAIRS = tuple(tuple(combinations(range(node + 2), 2)) for node in range(NODES))
"""Choices of the two inputs of each node: 0 and 1 are the outputs of the cells before, ``i + 2`` is node ``i``."""

CHOICES = tuple(len(pairs) for pairs in PAIRS[1:])
"""Number of those choices for nodes 1, 2 and 3; node 0 has none."""

CELL = (*CHOICES, *(len(OPERATIONS),) * (2 * NODES))
"""Cardinalities of the 11 genes of a cell: inputs of nodes 1, 2, 3, then the operations of the eight edges."""

_LONGEST = 10_000


class DARTS(SearchSpace):
    """Normal and reduction cells of four nodes, each with two distinct inputs under one of seven operations.

    Genes 0..10 are the normal cell, 11..21 the reduction cell, see :data:`CELL`. There are (180 x 7^8)^2, about
    1.1e18, gene strings; codes and identities are below 2^60, so they are exact.

    Identity merges the order of the two edges into a node (they are summed; genes can't even express it) and the
    numbering of the nodes wherever another order is topological (it permutes channels of the concatenation, which a
    1x1 convolution or a linear layer follows). It doesn't merge cells that are different graphs yet could compute the
    same, such as through the sum with a skip connection: all nodes are part of the output.

    Examples:
        >>> from ednag.core.noise import Noise
        >>> space = DARTS()
        >>> genes = space.random(Noise([0]), 1)[0, 0]
        >>> space.describe(genes)[:60]
        "Genotype(normal=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ("
    """

    name = "darts"
    cardinalities = CELL * 2

    def identity(self, genes: Tensor) -> Tensor:
        """Smallest code among all topological orders of both cells; itself the code of a member of the class."""
        normal, reduction = genes[..., : len(CELL)], genes[..., len(CELL) :]
        return smallest_code(normal) * prod(CELL) + smallest_code(reduction)

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw uniformly over distinct architectures: each isomorphism class is equally likely; int64 ``(R, n, 22)``.

        A class is drawn without rejection (Dixon & Wilf 1983): a graph and one of its symmetries with a chance in
        proportion to the operation assignments that the symmetry keeps, then one of those assignments.
        """
        table = _symmetries()
        ends = table.weights.cumsum(0).to(noise.device)
        row = torch.searchsorted(ends, noise.uniform(n, 2).double() * ends[-1]).clamp(max=len(ends) - 1)
        high = torch.tensor(len(OPERATIONS), device=noise.device)
        operations = noise.integers(high, n, 2, 2 * NODES).gather(-1, table.orbits.to(noise.device)[row])
        return torch.cat([table.inputs.to(noise.device)[row], operations], -1).flatten(-2)

    def features(self, genes: Tensor) -> Tensor:
        """How often the normal and the reduction cell have each operation, float32 ``(*B, 14)``.

        These counts do not depend on how nodes are numbered, while an operation's gene does.
        """
        operations = genes.reshape(*genes.shape[:-1], 2, len(CELL))[..., len(CHOICES) :]
        return F.one_hot(operations, len(OPERATIONS)).sum(-2).flatten(-2).float()

    def layers(self, genes: Tensor) -> Tensor:
        """See :meth:`features`: how many operations of each kind either cell has, float32 ``(*B, 14)``."""
        return self.features(genes)

    def describe(self, genes: Tensor) -> str:
        """Write the genotype as DARTS prints it, the edges of a node in the order of their inputs."""
        normal, reduction = self.cells(genes)
        concat = f"range(2, {NODES + 2})"
        return (
            f"Genotype(normal={list(normal)}, normal_concat={concat}, reduce={list(reduction)}, reduce_concat={concat})"
        )

    def parse(self, text: str) -> Tensor:
        """Read ``Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)``; runs nothing in it.

        Each cell is a list of eight ``(operation, input)`` pairs, two per node; see :meth:`SearchSpace.parse`.
        """
        fields = _fields(text)
        for name in ("normal_concat", "reduce_concat"):
            if fields[name] != list(range(2, NODES + 2)):
                raise ValueError(f"{name} must be range(2, {NODES + 2}): all {NODES} nodes; got {fields[name]}")
        return torch.tensor(_cell_genes("normal", fields["normal"]) + _cell_genes("reduce", fields["reduce"]))

    def cells(self, genes: Tensor) -> tuple[Cell, Cell]:
        """Return ``(operation, input)`` of the eight edges of the normal and the reduction cell.

        Args:
            genes: int64 ``(22,)``.
        """
        codes = self.check(genes).tolist()
        return _cell(codes[: len(CELL)]), _cell(codes[len(CELL) :])

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Return ``(source, target, operation)`` of the edges of each cell, for a drawing.

        Args:
            genes: int64 ``(22,)``.

        Returns:
            by cell; an edge without an operation leads to the concatenation.
        """
        names = ["c(k-2)", "c(k-1)", *map(str, range(NODES))]
        return {
            title: [(names[source], str(place // 2), operation) for place, (operation, source) in enumerate(cell)]
            + [(str(node), "c(k)", "") for node in range(NODES)]
            for title, cell in zip(("normal cell", "reduction cell"), self.cells(genes), strict=True)
        }

    def build(
        self,
        genes: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: int = 36,
        cells: int = 20,
        auxiliary: bool = False,
        drop_path: float = 0.0,
        stem: Literal["cifar", "imagenet"] = "cifar",
    ) -> DARTSNetwork:
        """Build the evaluation network of DARTS; NAS-Bench-301 used 32 channels and 8 cells.

        Args:
            genes: one genotype, int64 ``(22,)``.
            num_classes: logits.
            in_channels: channels of the images.
            channels: width of the first cells (36 on CIFAR, 48 on ImageNet); doubled by each of the two reductions.
            cells: depth (20 on CIFAR, 14 on ImageNet); reductions are at a third and two thirds of it.
            auxiliary: whether the network returns, while training, a pair: logits and those of a second head.
            drop_path: final probability of dropping an edge while training, in [0, 1) (0.2 on CIFAR).
            stem: ``cifar`` keeps the resolution, ``imagenet`` divides it by 8.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.

        Raises:
            ValueError: for an option out of range.
        """
        normal, reduction = self.cells(genes)
        return DARTSNetwork(
            normal, reduction, num_classes, in_channels, channels, cells, bool(auxiliary), drop_path, stem
        )

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        channels: int = 36,
        cells: int = 20,
        auxiliary: bool = False,
        drop_path: float = 0.0,
        stem: Literal["cifar", "imagenet"] = "cifar",
    ) -> Tensor:
        """Count networks by what each edge adds; see :meth:`SearchSpace.count` and :meth:`build`."""
        check_build(channels, cells, drop_path, stem)
        rest, edges = count_parts(num_classes, tuple(image_shape), channels, cells, bool(auxiliary), stem)
        cell = genes.reshape(*genes.shape[:-1], 2, len(CELL))
        kind = 1 + _from_inputs(cell[..., 1, : len(CHOICES)])  # of the edges of reduction cells
        kind = torch.stack([torch.zeros_like(kind), kind], -2)
        found = edges.to(genes.device)[kind, cell[..., len(CHOICES) :]]
        return found.sum((-3, -2)) + rest.to(genes.device)


def _from_inputs(inputs: Tensor) -> Tensor:
    """Tell which edges start at an input of the cell, int64 0 or 1 ``(*B, 8)``, by the genes ``(*B, 3)`` of the nodes."""
    found = [torch.ones_like(inputs[..., :1]).expand(*inputs.shape[:-1], 2)]
    for pairs, gene in zip(PAIRS[1:], inputs.unbind(-1), strict=True):
        found.append((torch.tensor(pairs, device=inputs.device) < 2).long()[gene])
    return torch.cat(found, -1)


@dataclass(frozen=True)
class _Symmetries:
    """What reordering the nodes does to each of the 180 graphs; ``P`` = 24 orders, ``S`` pairs (graph, symmetry).

    Attributes:
        graphs: number of the reordered graph, int64 ``(180, P)``; 180 if the order is not topological.
        edges: which edge becomes each edge of the reordered graph, int64 ``(180, P, 8)``.
        inputs: genes of the inputs, int64 ``(S, 3)``.
        orbits: first edge of each edge's orbit under the symmetry, int64 ``(S, 8)``.
        weights: isomorphism classes of cells that the pair stands for, float64 ``(S,)``: assignments that the symmetry
            keeps, over the topological orders of the graph. Summed over the symmetries of a graph, this counts the
            orbits of assignments (Burnside's lemma), shared by all numberings of the graph.
    """

    graphs: Tensor
    edges: Tensor
    inputs: Tensor
    orbits: Tensor
    weights: Tensor


def smallest_code(cells: Tensor) -> Tensor:
    """Return the smallest code among all topological orders of cells.

    Args:
        cells: genes of one cell, int64 ``(*B, 11)``, in range.

    Returns:
        int64 ``(*B,)``, in ``0 .. 180 * 7**8 - 1``.
    """
    table, genes = _symmetries(), cells.unbind(-1)
    graph = (genes[0] * CHOICES[1] + genes[1]) * CHOICES[2] + genes[2]
    edges = table.edges.to(cells.device)[graph]
    operations = cells[..., None, len(CHOICES) :].expand(edges.shape).gather(-1, edges)
    code = table.graphs.to(cells.device)[graph]
    for operation in operations.unbind(-1):
        code = code * len(OPERATIONS) + operation
    return code.amin(-1)


@cache
def _symmetries() -> _Symmetries:
    """Tabulate every order of the nodes of every graph; see :class:`_Symmetries`."""
    outside = prod(CHOICES)
    graphs, edges, inputs, orbits, weights = [], [], [], [], []
    for number, genes in enumerate(product(*map(range, CHOICES))):
        moves = [_reorder(genes, order) for order in permutations(range(NODES))]
        graphs.append([outside if move is None else move[0] for move in moves])
        edges.append([list(range(2 * NODES)) if move is None else move[1] for move in moves])
        found = [move for move in moves if move is not None]
        for target, mapping in found:
            if target == number:
                inputs.append(genes)
                orbits.append(cycle_members(mapping))
                weights.append(len(OPERATIONS) ** len(set(orbits[-1])) / len(found))
    return _Symmetries(
        torch.tensor(graphs),
        torch.tensor(edges),
        torch.tensor(inputs),
        torch.tensor(orbits),
        torch.tensor(weights, dtype=torch.float64),
    )


def _reorder(genes: Sequence[int], order: Sequence[int]) -> tuple[int, list[int]] | None:
    """Give place ``i`` to node ``order[i]``: the new graph's number and edges, or ``None`` if not topological."""
    pairs = [PAIRS[0][0], *(pairs[gene] for pairs, gene in zip(PAIRS[1:], genes, strict=True))]
    place = [0, 1, *(order.index(node) + 2 for node in range(NODES))]
    number, mapping = 0, []
    for i, node in enumerate(order):
        (a, first), (b, second) = sorted((place[source], 2 * node + side) for side, source in enumerate(pairs[node]))
        if b >= i + 2:
            return None
        number = number * len(PAIRS[i]) + PAIRS[i].index((a, b))
        mapping += [first, second]
    return number, mapping


def _cell(codes: Sequence[int]) -> Cell:
    """Turn the genes of a cell into ``(operation, input)`` of its edges."""
    pairs = [PAIRS[0][0], *(pairs[code] for pairs, code in zip(PAIRS[1:], codes[: NODES - 1], strict=True))]
    sources = [source for pair in pairs for source in pair]
    return tuple((OPERATIONS[code], source) for code, source in zip(codes[NODES - 1 :], sources, strict=True))


def _cell_genes(name: str, cell: object) -> list[int]:
    """Turn the edges of a cell, as read from text, into its genes."""
    if not isinstance(cell, list) or len(cell) != 2 * NODES:
        raise ValueError(f"{name} must be a list of {2 * NODES} (operation, input) pairs, two per node; got {cell!r}")
    for edge in cell:
        if not isinstance(edge, tuple | list) or len(edge) != 2 or type(edge[1]) is not int:
            raise ValueError(f"an edge of {name} must be an (operation, input) pair, got {edge!r}")
        if edge[0] not in OPERATIONS:
            raise ValueError(f"unknown operation {edge[0]!r} in {name}; allowed: {', '.join(OPERATIONS)}")
    inputs, operations = [], []
    for node, pairs in enumerate(PAIRS):
        (a, first), (b, second) = sorted((source, operation) for operation, source in cell[2 * node : 2 * node + 2])
        if (a, b) not in pairs:
            raise ValueError(f"node {node} of {name} must have two distinct inputs in 0..{node + 1}, got {a} and {b}")
        inputs.append(pairs.index((a, b)))
        operations += [OPERATIONS.index(first), OPERATIONS.index(second)]
    return inputs[1:] + operations


def _fields(text: str) -> dict[str, object]:
    """Read the four fields of a genotype as literals; ``range`` of integers counts as one."""
    names = ["normal", "normal_concat", "reduce", "reduce_concat"]
    try:
        call = ast.parse(text.strip(), mode="eval").body if len(text) <= _LONGEST else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype":
            values = dict(zip(names, map(_literal, call.args), strict=False))
            values |= {str(item.arg): _literal(item.value) for item in call.keywords}
            if sorted(values) == names and len(call.args) + len(call.keywords) == len(names):
                return values
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise ValueError(
        f"not a DARTS genotype: {quoted(text)}. Expected Genotype(normal=[('sep_conv_3x3', 0), ...], "
        f"normal_concat=range(2, {NODES + 2}), reduce=[...], reduce_concat=range(2, {NODES + 2}))"
    )


def _literal(node: ast.expr) -> object:
    """Value of a literal; of ``range(a, b)`` and of a tuple, a list."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        low, high = (ast.literal_eval(bound) for bound in node.args)
        if not -_LONGEST < low <= high < _LONGEST:
            raise ValueError("a range of node numbers")
        return list(range(low, high))
    value: object = ast.literal_eval(node)
    return list(value) if isinstance(value, tuple) else value
