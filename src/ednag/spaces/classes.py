"""Draw architectures so that every isomorphism class is equally likely."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.spaces.base import gene_strings


class ClassMembers:
    """Isomorphism classes of a space small enough to enumerate.

    Args:
        cardinalities: choices of each gene, ``(L,)``.
        classes: the class of every gene string, in the order of codes: any numbers that agree within a class,
            int64 ``(size,)``.
    """

    def __init__(self, cardinalities: Sequence[int], classes: Tensor) -> None:
        place = torch.unique(classes, return_inverse=True)[1]
        self.genes = gene_strings(cardinalities)[place.argsort(stable=True)]
        self.count = torch.bincount(place)
        self.start = self.count.cumsum(0) - self.count

    def draw(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` architectures per run: a class, then one of its members, both uniformly; int64 ``(R, n, L)``."""
        genes, start, count = (table.to(noise.device) for table in (self.genes, self.start, self.count))
        drawn = noise.integers(torch.tensor(len(start), device=noise.device), n)
        return genes[start[drawn] + noise.integers(count[drawn], n)]


class LabelledGraphs(NamedTuple):
    """Graphs whose interior vertices carry operations, each with one of its symmetries; one row such a pair.

    Vertices are 0 (the input), the interior ones, and the last (the output); ``E`` edges are the pairs of vertices in
    the order of :func:`itertools.combinations`.

    Attributes:
        edges: which edges there are, int64 ``(P, E)``, zeros and ones.
        orbits: for each interior vertex the smallest vertex of its cycle under the symmetry, less one, int64 ``(P, I)``.
        ends: cumulated weights, float64 ``(P,)``: a row's weight is the number of operation assignments that its symmetry
            keeps, over the number of vertex orders in which the graph can be written. All weights add up to the number
            of isomorphism classes (Burnside's lemma), and a row drawn by weight, with one of those assignments, is
            uniform over them (Dixon & Wilf 1983).
        operations: that an interior vertex can carry.
    """

    edges: Tensor
    orbits: Tensor
    ends: Tensor
    operations: int

    def draw(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` graphs per run with their operations, uniform over isomorphism classes, int64 ``(R, n, E + I)``."""
        u = noise.uniform(n, 2).double()
        ends = self.ends.to(noise.device)
        row = torch.searchsorted(ends, (u[..., 0] + u[..., 1] * 2**-24) * ends[-1]).clamp(max=len(ends) - 1)
        orbits = self.orbits.to(noise.device)[row]
        drawn = noise.integers(torch.tensor(self.operations, device=noise.device), n, self.orbits.shape[1])
        return torch.cat([self.edges.to(noise.device)[row], drawn.gather(-1, orbits)], -1)


@cache
def labelled_graphs(interior: int, max_edges: int, operations: int) -> LabelledGraphs:
    """List the graphs of up to ``interior`` vertices between input and output, all on a path, with their symmetries.

    Args:
        interior: most interior vertices, ``I``.
        max_edges: most edges.
        operations: that an interior vertex can carry.
    """
    vertices = range(interior + 2)
    parts = [_with(used, vertices, max_edges, operations) for used in range(interior + 1)]
    edges, orbits, weights = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return LabelledGraphs(edges, orbits, weights.cumsum(0), operations)


def _with(used: int, vertices: range, max_edges: int, operations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the graphs with exactly ``used`` interior vertices on a path, wherever those stand; weights last."""
    pairs, everywhere = list(combinations(range(used + 2), 2)), list(combinations(vertices, 2))
    bits, cycles, weights = _symmetries(used, pairs, max_edges, operations)
    placements = list(combinations(vertices[1:-1], used))
    edges = torch.zeros(len(placements), len(bits), len(everywhere), dtype=torch.int64)
    orbits = torch.arange(len(vertices) - 2).expand(len(placements), len(bits), -1).clone()
    for i, chosen in enumerate(placements):
        place = (0, *chosen, vertices[-1])
        edges[i, :, [everywhere.index((place[source], place[target])) for source, target in pairs]] = bits
        inside = torch.tensor(chosen, dtype=torch.int64) - 1
        orbits[i, :, inside] = inside[cycles]
    return edges.flatten(0, 1), orbits.flatten(0, 1), (weights / len(placements)).repeat(len(placements))


def _symmetries(
    used: int, pairs: list[tuple[int, int]], max_edges: int, operations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Graphs of ``used`` interior vertices and their symmetries: edges ``(P, E)``, cycles ``(P, used)``, weights ``(P,)``."""
    last = used + 1
    graphs = torch.arange(2 ** len(pairs))
    bits = graphs[:, None] >> torch.arange(len(pairs)) & 1
    kept = bits.sum(1) <= max_edges
    for vertex in range(last + 1):  # in an acyclic graph: on a path from input to output if it has edges on both sides
        for side, exempt in ((1, 0), (0, last)):
            if vertex != exempt:
                kept &= bits[:, [pair[side] == vertex for pair in pairs]].any(1)
    graphs, bits = graphs[kept], bits[kept]
    orders = torch.zeros(len(graphs), dtype=torch.int64)
    row, cycles = [], []
    for order in permutations(range(used)):
        place = (0, *(member + 1 for member in order), last)
        moved = [(place[source], place[target]) for source, target in pairs]
        backwards = sum(1 << i for i, (source, target) in enumerate(moved) if source > target)
        possible = graphs & backwards == 0
        orders += possible
        target = torch.tensor([pairs.index((min(pair), max(pair))) for pair in moved])
        row.append((possible & ((bits << target).sum(1) == graphs)).nonzero().flatten())
        cycles.append(torch.tensor(cycle_members(order), dtype=torch.int64).expand(len(row[-1]), -1))
    rows, members = torch.cat(row), torch.cat(cycles)
    number = (members == torch.arange(used)).sum(1)
    return bits[rows], members, operations ** number.double() / orders[rows]


def cycle_members(mapping: Sequence[int]) -> list[int]:
    """Smallest member of the cycle of each element of a permutation of ``0 .. k - 1``."""
    smallest = list(range(len(mapping)))
    for start in range(len(mapping)):
        here = mapping[start]
        while here != start:
            smallest[here] = min(smallest[here], start)
            here = mapping[here]
    return smallest
