"""Path encoding of cells whose operations are on the edges of a directed acyclic graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor


def path_features(edges: Sequence[tuple[int, int]], operations: int, none: int | None, skip: int | None) -> Tensor:
    """Encode every cell of a space by its paths from the first node to the last (after White et al. 2020).

    A path is the sequence of operations along it, without skip connections; a path through ``none`` does not exist.
    What remains is what the signal passes through, so cells that write the same function with different edges are close
    to each other. The number of times that a cell has a path is written as a thermometer (2 of at most 3 is ``1 1 0``),
    so that squared Euclidean distance counts the paths that two cells do not share.

    Args:
        edges: ``(source, target)`` of each gene; sources are numbered from 0, the largest target is the output.
        operations: choices of every gene.
        none: the choice that cuts an edge, if there is one.
        skip: the choice that passes its input on, if there is one.

    Returns:
        zeros and ones, float32 ``(operations ** len(edges), F)``, row ``i`` for the cell of code ``i``
        (:meth:`ednag.spaces.SearchSpace.code`).

    Raises:
        ValueError: if there are more than 2^17 cells: too many for a table.
    """
    cells = operations ** len(edges)
    if cells > 2**17:
        raise ValueError(f"path features are tabulated for at most {2**17} cells, these edges give {cells}")
    genes = torch.cartesian_prod(*[torch.arange(operations)] * len(edges)).view(cells, -1)
    number: dict[tuple[int, ...], int] = {}
    counts: list[Tensor] = []
    for route in _routes(edges, 0, max(target for _, target in edges)):
        for choice in product(range(operations), repeat=len(route)):
            if none in choice:
                continue
            path = tuple(op for op in choice if op != skip)
            if path not in number:
                number[path] = len(counts)
                counts.append(torch.zeros(cells, dtype=torch.int64))
            counts[number[path]] += (genes[:, list(route)] == torch.tensor(choice)).all(-1)
    columns = [count > level for count in counts for level in range(int(count.max()))]
    return torch.stack(columns, -1).float()


def layer_counts(edges: Sequence[tuple[int, int]], operations: int, none: int) -> Tensor:
    """Count the operations of every cell: all of them, and those that the output hears of.

    Some devices run every layer, others drop what leads nowhere; a layer whose input is empty is run by most.

    Args:
        edges: see :func:`path_features`.
        operations: choices of every gene.
        none: the choice that cuts an edge.

    Returns:
        float32 ``(operations ** len(edges), 2 (operations - 1))``, row ``i`` for the cell of code ``i``.
    """
    genes = torch.cartesian_prod(*[torch.arange(operations)] * len(edges))
    last = max(target for _, target in edges)
    heard = torch.zeros(len(genes), last + 1, dtype=torch.bool)
    heard[:, last] = True
    leads = torch.zeros(genes.shape, dtype=torch.bool)
    for place in sorted(range(len(edges)), key=lambda place: -edges[place][1]):  # a node's own edges lead to later ones
        source, target = edges[place]
        leads[:, place] = heard[:, target] & (genes[:, place] != none)
        heard[:, source] |= leads[:, place]
    kinds = [kind for kind in range(operations) if kind != none]
    alike = torch.stack([genes == kind for kind in kinds], -1)
    return torch.cat([alike.sum(1), (alike & leads[..., None]).sum(1)], -1).float()


def _routes(edges: Sequence[tuple[int, int]], node: int, last: int) -> list[tuple[int, ...]]:
    """Every way from a node to the last one, as indices of edges."""
    if node == last:
        return [()]
    return [
        (i, *rest)
        for i, (source, target) in enumerate(edges)
        if source == node
        for rest in _routes(edges, target, last)
    ]
