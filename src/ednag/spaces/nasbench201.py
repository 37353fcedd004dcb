"""NAS-Bench-201, also called the topology space of NATS-Bench (Dong & Yang 2020; Dong et al. 2021)."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from ednag.core.noise import Noise
from ednag.spaces.base import Layout, SearchSpace, quoted
from ednag.spaces.classes import ClassMembers
from ednag.spaces.layers import DenseCell, Head, ReLUConvBN, ResidualReduction
from ednag.spaces.paths import layer_counts, path_features
from ednag.spaces.tally import Grid, ImageShape, Tally, convolution, linear, normalisation, table

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Symbols of an edge; a gene is an index into this tuple."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""``(source, target)`` of each gene, in the order of the benchmark's string."""


class NASBench201(SearchSpace):
    """Cells of four nodes whose six edges carry one of five operations each: 15,625 cells in 6,466 isomorphism classes.

    Examples:
        >>> space = NASBench201()
        >>> genes = space.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|")
        >>> genes
        tensor([3, 0, 1, 0, 0, 2])
        >>> network = space.build(genes, num_classes=10, channels=4, cells=1)
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    name = "nasbench201"
    cardinalities = (len(OPERATIONS),) * len(EDGES)

    @property
    def published_layout(self) -> Layout:
        """``D`` = 8 x 7: rows input, six edges, output; columns input symbol, five operations, output symbol.

        An edge whose largest entry is the input or the output symbol decodes to a gene out of range: not valid.
        """
        symbols = (1, 2, 3, 4, 5, 0, 6)
        return Layout(56, tuple(tuple(7 * row + k for k in symbols) for row in range(1, 7)))

    def identity(self, genes: Tensor) -> Tensor:
        """Smallest cell code of the isomorphism class, in ``0 .. 15624``; see :func:`isomorphism_classes`."""
        return isomorphism_classes().to(genes.device)[self.code(genes)]

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` cells per run: an isomorphism class, then one of its members, both uniformly; ``(R, n, 6)``."""
        return _members().draw(noise, n)

    def features(self, genes: Tensor) -> Tensor:
        """Paths of the cell, zeros and ones, float32 ``(*B, 70)``; see :func:`ednag.spaces.paths.path_features`."""
        return _paths().to(genes.device)[self.code(genes)]

    def layers(self, genes: Tensor) -> Tensor:
        """Operations of the cell by kind, float32 ``(*B, 8)``; see :func:`ednag.spaces.paths.layer_counts`."""
        return _layers().to(genes.device)[self.code(genes)]

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Edges of the cell that carry an operation, see :meth:`SearchSpace.edges`."""
        names = ("in", "1", "2", "out")
        carried = zip(self.check(genes).tolist(), EDGES, strict=True)
        return {
            "cell": [(names[a], names[b], OPERATIONS[gene]) for gene, (a, b) in carried if OPERATIONS[gene] != "none"]
        }

    def describe(self, genes: Tensor) -> str:
        """Write a cell as ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
        edges = [
            f"{OPERATIONS[gene]}~{source}" for gene, (source, _) in zip(self.check(genes).tolist(), EDGES, strict=True)
        ]
        return "+".join(f"|{'|'.join(edges[a:b])}|" for a, b in pairwise((0, 1, 3, 6)))

    def parse(self, text: str) -> Tensor:
        """Read a cell string; see :meth:`SearchSpace.parse`."""
        edges = re.findall(r"(\w{1,40})~(\d)", text)  # a bound keeps long texts from taking quadratic time
        sources = [str(source) for source, _ in EDGES]
        shaped = re.fullmatch(r"\|[^|+]+\|\+(\|[^|+]+){2}\|\+(\|[^|+]+){3}\|", text.strip())
        if not shaped or [source for _, source in edges] != sources:
            raise ValueError(
                f"not a NAS-Bench-201 cell: {quoted(text)}. Expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| "
                f"with each op one of {', '.join(OPERATIONS)}"
            )
        unknown = [name for name, _ in edges if name not in OPERATIONS]
        if unknown:
            raise ValueError(f"unknown operation {unknown[0]!r} in {quoted(text)}; allowed: {', '.join(OPERATIONS)}")
        return torch.tensor([OPERATIONS.index(name) for name, _ in edges])

    def build(
        self,
        genes: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: int = 16,
        cells: int = 5,
        stem_stride: int = 1,
    ) -> nn.Sequential:
        """Build the benchmark's network: stem, three stages of ``cells`` cells with reductions between, classifier.

        Args:
            genes: one cell, int64 ``(6,)``.
            num_classes: logits.
            in_channels: channels of the images.
            channels: width of the first stage; doubled at each reduction.
            cells: cells per stage (5 in the benchmark, 1 in proxies).
            stem_stride: stride of the first convolution; 1 in the benchmark, more for large images.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.
        """
        codes = self.check(genes).tolist()
        stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stem_stride, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        layers: list[nn.Module] = [stem]
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                layers.append(ResidualReduction(width // 2, width))
            layers += [_cell(codes, width) for _ in range(cells)]
        return nn.Sequential(*layers, Head(channels * 4, num_classes))

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        channels: int = 16,
        cells: int = 5,
        stem_stride: int = 1,
    ) -> Tensor:
        """Count networks by what each operation adds; see :meth:`SearchSpace.count` and :meth:`build`."""
        rest, operations = _tallies(num_classes, tuple(image_shape), channels, cells, stem_stride)
        return operations.to(genes.device)[genes].sum(-2) + rest.to(genes.device)


@lru_cache(maxsize=16)
def _tallies(classes: int, shape: ImageShape, channels: int, cells: int, stem_stride: int) -> tuple[Tensor, Tensor]:
    """Costs of a network without operations, int64 ``(2,)``, and what one edge with each operation adds, ``(5, 2)``."""
    grid = Grid(*shape[1:]).shrunk(stem_stride)
    rest = convolution(shape[0], channels, 3, grid.pixels) + normalisation(4 * channels) + linear(4 * channels, classes)
    small = large = Tally()
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            grid, before = grid.shrunk(2), width // 2
            rest += convolution(before, width, 3, grid.pixels) + convolution(width, width, 3, grid.pixels)
            rest += convolution(before, width, 1, grid.pixels, norm=False)
        small += cells * convolution(width, width, 1, grid.pixels)
        large += cells * convolution(width, width, 3, grid.pixels)
    kinds = {"nor_conv_1x1": small, "nor_conv_3x3": large}
    return rest.stacked(), table([[kinds.get(name, Tally()) for name in OPERATIONS]])[0]


@cache
def isomorphism_classes() -> Tensor:
    """Map every cell code to the smallest code of its isomorphism class, int64 ``(15625,)``; 6,466 distinct values.

    The benchmark's rule (Dong & Yang 2020): an edge that carries ``none``, or starts at an empty node, is empty;
    ``skip_connect`` passes its source on; a node is the unordered sum of what reaches it. Cells with equal output
    expressions are one.
    """
    first: dict[str, int] = {}
    classes = [first.setdefault(_expression(cell), code) for code, cell in enumerate(product(range(5), repeat=6))]
    return torch.tensor(classes)


@cache
def _members() -> ClassMembers:
    """Cells by isomorphism class."""
    return ClassMembers(NASBench201.cardinalities, isomorphism_classes())


@cache
def _paths() -> Tensor:
    """Path features of every cell, ``(15625, 70)``."""
    return path_features(EDGES, len(OPERATIONS), OPERATIONS.index("none"), OPERATIONS.index("skip_connect"))


@cache
def _layers() -> Tensor:
    """Operations of every cell, ``(15625, 8)``."""
    return layer_counts(EDGES, len(OPERATIONS), OPERATIONS.index("none"))


def _expression(cell: tuple[int, ...]) -> str:
    """Write what the output node computes, as an expression over the input."""
    nodes = ["in"]
    for target in (1, 2, 3):
        terms = []
        for gene, (source, end) in zip(cell, EDGES, strict=True):
            if end != target:
                continue
            value, operation = nodes[source], OPERATIONS[gene]
            if operation == "none" or value == "#":
                terms.append("#")
            else:
                terms.append(value if operation == "skip_connect" else f"({value})@{operation}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def _cell(codes: list[int], channels: int) -> DenseCell:
    """Build one cell at a width; edges that carry ``none`` are left out."""
    edges = [
        (source, target, _operation(OPERATIONS[code], channels))
        for code, (source, target) in zip(codes, EDGES, strict=True)
        if OPERATIONS[code] != "none"
    ]
    return DenseCell(edges, num_nodes=4)


def _operation(name: str, channels: int) -> nn.Module:
    """Build the operation of one edge at stride 1."""
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return ReLUConvBN(channels, channels, kernel_size=1 if name == "nor_conv_1x1" else 3)
