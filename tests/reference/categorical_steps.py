"""Categorical diffusion, ranks and path counts as plain loops: slow, obvious, and independent of the fast code."""

import math
from collections import Counter
from itertools import product


def forward_probability(x: list[int], clean: list[int], alpha: float, cardinalities: list[int]) -> float:
    """q(x_t | x_0), gene by gene."""
    total = 1.0
    for a, b, c in zip(x, clean, cardinalities, strict=True):
        total *= alpha * (a == b) + (1 - alpha) / c
    return total


def posterior(
    x: list[int], members: list[list[int]], g: list[float], alpha: float, cardinalities: list[int]
) -> list[float]:
    weights = [w * forward_probability(x, m, alpha, cardinalities) for w, m in zip(g, members, strict=True)]
    return [w / sum(weights) for w in weights]


def average_rank(values: list[float]) -> list[float]:
    """Number of better ones, plus half the number of others that tie."""
    return [sum(o > v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def kernel(a: list[float], b: list[float], weights: list[float]) -> float:
    return math.exp(-sum(w * (p - q) ** 2 for p, q, w in zip(a, b, weights, strict=True)))


def cell_paths(cell: tuple[int, ...], edges: list[tuple[int, int]], none: int, skip: int) -> Counter:
    """Multiset of operation sequences from node 0 to the last, found by trying every subset of edges in every order."""
    last = max(b for _, b in edges)
    found: Counter = Counter()
    for picked in product((False, True), repeat=len(edges)):
        used = sorted((edges[i], cell[i]) for i in range(len(edges)) if picked[i])
        nodes = [0, *[edge[1] for edge, _ in used]]
        chained = all(edge[0] == node for (edge, _), node in zip(used, nodes, strict=False))
        if used and chained and nodes[-1] == last and all(op != none for _, op in used):
            found[tuple(op for _, op in used if op != skip)] += 1
    return found
