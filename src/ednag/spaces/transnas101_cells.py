"""Micro cells of TransNAS-Bench-101 (Duan et al. 2021): their operations, which of them are one network, and their networks."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product

import torch
from torch import Tensor, nn

from ednag.spaces.classes import ClassMembers
from ednag.spaces.layers import ReLUConvBN
from ednag.spaces.nasbench201 import EDGES
from ednag.spaces.paths import layer_counts, path_features
from ednag.spaces.transnas101_networks import Cell, FactorizedReduction

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
"""Operations of an edge of a micro cell; a gene is an index into this tuple, as in the benchmark's string."""

NONE, SKIP, CONV_1X1 = 0, 1, 2


@cache
def isomorphism_classes() -> Tensor:
    """Map every micro cell code to the smallest code of its isomorphism class, int64 ``(4096,)``.

    Two cells are one if their networks are, up to the names of nodes and edges: ``none``, and whatever gets no input
    or has no way to the output, is nothing; a node is the sum of what reaches it; a skip connection passes its source
    on, except from the input of a cell that halves the resolution. Two edges with the same operation on the same
    source have weights of their own, so ``f(x) + g(x)`` and ``f(x) + f(x)`` are different.
    """
    first: dict[tuple[tuple[int, ...], ...], int] = {}
    colours: dict[object, int] = {}
    cells = product(range(len(OPERATIONS)), repeat=len(EDGES))
    classes = [
        first.setdefault(tuple(_form(cell, reduction, colours) for reduction in (False, True)), code)
        for code, cell in enumerate(cells)
    ]
    return torch.tensor(classes)


def _form(cell: tuple[int, ...], reduction: bool, colours: dict[object, int]) -> tuple[int, ...]:
    """Return a form that isomorphic cells share: colours of their weighted operations after refinement.

    Colours start as operations and are refined by the colours of what an operation reads and of what reads it (as in
    the test of Weisfeiler & Leman); two rounds tell all these small graphs apart.
    """
    start, end = -1, len(EDGES)
    reads = _reads(cell, reduction, start, end)
    colour = {start: start, **{v: end if v == end else cell[v] for v in reads}}
    for _ in range(2):
        refined = {}
        for v in colour:
            inputs = sorted((colour[u], n) for u, n in reads.get(v, Counter()).items())
            outputs = sorted((colour[w], source[v]) for w, source in reads.items() if source[v])
            refined[v] = colours.setdefault((colour[v], tuple(inputs), tuple(outputs)), len(colours))
        colour = refined
    return tuple(sorted(colour.values()))


def _reads(cell: tuple[int, ...], reduction: bool, start: int, end: int) -> dict[int, Counter[int]]:
    """List how often each weighted edge that matters, and the output ``end``, reads the input and other such edges."""
    nodes = [Counter([start]), *(Counter[int]() for _ in range(3))]
    reads: dict[int, Counter[int]] = {}
    for edge, (gene, (source, target)) in enumerate(zip(cell, EDGES, strict=True)):
        if gene == NONE or not nodes[source]:
            continue
        if gene == SKIP and not (reduction and source == 0):
            nodes[target].update(nodes[source])
        else:
            reads[edge] = nodes[source]
            nodes[target][edge] += 1
    live, queue = {end: nodes[-1]}, [end]
    while queue:
        fresh = [edge for edge in live[queue.pop()] if edge != start and edge not in live]
        live.update((edge, reads[edge]) for edge in fresh)
        queue += fresh
    return live


@cache
def members() -> ClassMembers:
    """Micro cells by isomorphism class."""
    return ClassMembers((len(OPERATIONS),) * len(EDGES), isomorphism_classes())


@cache
def paths() -> Tensor:
    """Path features of every micro cell, ``(4096, F)``."""
    return path_features(EDGES, len(OPERATIONS), NONE, SKIP)


@cache
def layers() -> Tensor:
    """Operations of every micro cell, ``(4096, 6)``."""
    return layer_counts(EDGES, len(OPERATIONS), NONE)


def build_cell(codes: list[int], in_channels: int, out_channels: int, stride: int) -> Cell:
    """Build one micro cell; edges that carry ``none`` are left out."""
    edges = []
    for code, (source, target) in zip(codes, EDGES, strict=True):
        if code != NONE:
            shape = (in_channels, out_channels, stride) if source == 0 else (out_channels, out_channels, 1)
            edges.append((source, target, _operation(code, *shape)))
    return Cell(edges, 4, out_channels, stride)


def _operation(code: int, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build the operation of one edge."""
    if code != SKIP:
        return ReLUConvBN(in_channels, out_channels, 1 if code == CONV_1X1 else 3, stride)
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return FactorizedReduction(in_channels, out_channels, stride)
