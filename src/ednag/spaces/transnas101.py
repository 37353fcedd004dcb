"""TransNAS-Bench-101: cells (micro) and skeletons (macro) for seven vision tasks (Duan et al. 2021)."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cache, partial

import torch
from torch import Tensor, nn

from ednag.core.noise import Noise
from ednag.spaces.base import Layout, SearchSpace, gene_strings, quoted
from ednag.spaces.nasbench201 import EDGES
from ednag.spaces.tally import ImageShape
from ednag.spaces.transnas101_cells import NONE, OPERATIONS, build_cell, isomorphism_classes, layers, members, paths
from ednag.spaces.transnas101_networks import (
    BasicBlock,
    Encoder,
    JigsawClassifier,
    classifier,
    count_blocks,
    count_cells,
)

MICRO_MODULES = (4, 1, 4, 1, 4)
"""Types of the modules that every micro cell is placed in; see :class:`Encoder`."""

DOUBLINGS, HALVINGS = (1, 3), (1, 4)
"""Fewest and most modules of a macro skeleton that double the channels, and that halve the resolution."""


class TransNAS101(SearchSpace):
    """What the two spaces share: networks from an encoder."""

    @abstractmethod
    def encoder(self, genes: Tensor, in_channels: int = 3, channels: int = 64, stem_stride: int = 2) -> Encoder:
        """Build the network up to its feature map, which the benchmark's seven tasks share.

        Args:
            genes: one architecture, int64 ``(6,)``.
            in_channels: channels of the images.
            channels: width after the stem, even; 64 in the benchmark.
            stem_stride: stride of each of the two convolutions of the stem; 2 in the benchmark (images of 256 x 256,
                jigsaw tiles of 64 x 64), 1 for images of about 32 x 32.
        """

    def build(
        self, genes: Tensor, num_classes: int, in_channels: int = 3, channels: int = 64, stem_stride: int = 2
    ) -> nn.Sequential:
        """Build the benchmark's network for object and scene classification; see :meth:`SearchSpace.build`.

        Args:
            genes: one architecture, int64 ``(6,)``.
            num_classes: number of logits.
            in_channels: channels of the images.
            channels: see :meth:`encoder`.
            stem_stride: see :meth:`encoder`.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.
        """
        return classifier(self.encoder(genes, in_channels, channels, stem_stride), num_classes)

    def build_jigsaw(
        self,
        genes: Tensor,
        num_permutations: int = 1000,
        tiles: int = 9,
        in_channels: int = 3,
        channels: int = 64,
        stem_stride: int = 2,
    ) -> JigsawClassifier:
        """Build the benchmark's network for the jigsaw task: tiles ``(batch, tiles, in_channels, h, w)`` to logits."""
        return JigsawClassifier(self.encoder(genes, in_channels, channels, stem_stride), num_permutations, tiles)


class TransNAS101Micro(TransNAS101):
    """Cells of four nodes whose six edges carry one of four operations each: 4,096 cells in 1,376 isomorphism classes.

    Every cell stands in modules that keep and modules that halve the resolution. In the latter, a skip connection from
    the input is a :class:`FactorizedReduction`, an operation with weights.

    Examples:
        >>> space = TransNAS101Micro()
        >>> genes = space.parse("64-41414-3_00_120")
        >>> genes
        tensor([3, 0, 0, 1, 2, 0])
        >>> space.edges(genes)
        {'cell': [('in', '1', 'nor_conv_3x3'), ('in', 'out', 'skip_connect'), ('1', 'out', 'nor_conv_1x1')]}
    """

    name = "transnas101_micro"
    cardinalities = (len(OPERATIONS),) * len(EDGES)

    def identity(self, genes: Tensor) -> Tensor:
        """Smallest cell code of the isomorphism class, in ``0 .. 4095``; see :func:`isomorphism_classes`."""
        return isomorphism_classes().to(genes.device)[self.code(genes)]

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` cells per run: an isomorphism class, then one of its members, both uniformly; ``(R, n, 6)``."""
        return members().draw(noise, n)

    def features(self, genes: Tensor) -> Tensor:
        """Paths of the cell, zeros and ones, float32 ``(*B, F)``; see :func:`ednag.spaces.paths.path_features`."""
        return paths().to(genes.device)[self.code(genes)]

    def layers(self, genes: Tensor) -> Tensor:
        """Operations of the cell by kind, float32 ``(*B, 6)``; see :func:`ednag.spaces.paths.layer_counts`."""
        return layers().to(genes.device)[self.code(genes)]

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Edges of the cell that carry an operation, see :meth:`SearchSpace.edges`."""
        names = ("in", "1", "2", "out")
        carried = zip(self.check(genes).tolist(), EDGES, strict=True)
        return {"cell": [(names[a], names[b], OPERATIONS[gene]) for gene, (a, b) in carried if gene != NONE]}

    def describe(self, genes: Tensor) -> str:
        """Write a cell as ``64-41414-a_bc_def``: operations of the edges into the nodes 1, 2 and 3."""
        a, b, c, d, e, f = self.check(genes).tolist()
        return f"64-{''.join(map(str, MICRO_MODULES))}-{a}_{b}{c}_{d}{e}{f}"

    def parse(self, text: str) -> Tensor:
        """Read a cell string; see :meth:`SearchSpace.parse`."""
        match = re.fullmatch(r"64-41414-([0-3])_([0-3]{2})_([0-3]{3})", text.strip())
        if not match:
            raise ValueError(
                f"not a TransNAS-Bench-101 micro cell: {quoted(text)}. Expected 64-41414-a_bc_def with each letter 0 to 3 "
                f"({', '.join(OPERATIONS)})"
            )
        return torch.tensor([int(digit) for digit in "".join(match.groups())])

    def encoder(self, genes: Tensor, in_channels: int = 3, channels: int = 64, stem_stride: int = 2) -> Encoder:
        """Build five modules of two cells each; see :meth:`TransNAS101.encoder`.

        Edges that carry an operation are built even where no signal reaches them, as in the benchmark.
        """
        codes = self.check(genes).tolist()
        return Encoder(MICRO_MODULES, lambda *shape: build_cell(codes, *shape), in_channels, channels, stem_stride)

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        channels: int = 64,
        stem_stride: int = 2,
    ) -> Tensor:
        """Count networks by what each operation adds; see :meth:`SearchSpace.count` and :meth:`TransNAS101.build`."""
        rest, edges = count_cells(MICRO_MODULES, num_classes, tuple(image_shape), channels, stem_stride)
        first = torch.tensor([int(source == 0) for source, _ in EDGES], device=genes.device)
        return edges.to(genes.device)[first, genes].sum(-2) + rest.to(genes.device)


class TransNAS101Macro(TransNAS101):
    """Skeletons of four to six modules, each of one of four types: 3,256 skeletons.

    A skeleton doubles the channels one to three times and halves the resolution one to four times. Genes 0 to 3 are
    the types of the first modules less one; genes 4 and 5 are 0 if the module is absent (the fifth one only along
    with the sixth), else its type. Each skeleton has one gene string.

    Examples:
        >>> space = TransNAS101Macro()
        >>> space.modules(space.parse("64-1234-basic"))
        tensor([1, 2, 3, 4, 0, 0])
    """

    name = "transnas101_macro"
    cardinalities = (4, 4, 4, 4, 5, 5)

    @property
    def published_layout(self) -> Layout:
        """``D`` = 6 x 5: one row per module; columns absent and the types 1 to 4, absent without effect in rows 0 to 3."""
        rows = [tuple(range(5 * row, 5 * row + 5)) for row in range(6)]
        return Layout(30, tuple(row if n == 5 else row[1:] for row, n in zip(rows, self.cardinalities, strict=True)))

    def modules(self, genes: Tensor) -> Tensor:
        """Types of the modules, 1 to 4, and 0 if absent; int64 ``(*B, 6)``, as in the benchmark's table."""
        return genes + torch.tensor([5 - n for n in self.cardinalities], device=genes.device)

    def valid(self, genes: Tensor) -> Tensor:
        """Mark which genes describe a skeleton of the benchmark; see :meth:`SearchSpace.valid`."""
        doublings, halvings = self._changes(genes)
        gap = (genes[..., 4] == 0) & (genes[..., 5] != 0)
        within = (doublings >= DOUBLINGS[0]) & (doublings <= DOUBLINGS[1])
        within &= (halvings >= HALVINGS[0]) & (halvings <= HALVINGS[1])
        return super().valid(genes) & within & ~gap

    def check(self, genes: Tensor) -> Tensor:
        """Return ``genes`` if all are skeletons of the benchmark; see :meth:`SearchSpace.check`."""
        super().check(genes)
        wrong = ~self.valid(genes)
        if wrong.any():
            first = self.modules(genes)[wrong][0]
            doublings, halvings = (int(count) for count in self._changes(genes[wrong][0]))
            raise ValueError(
                f"modules {first.tolist()} are no skeleton of {self.name}: it needs 4 to 6 modules in front (0 = "
                f"absent), of which 1 to 3 double the channels (types 2 and 4, got {doublings}) and 1 to 4 halve the "
                f"resolution (types 3 and 4, got {halvings})"
            )
        return genes

    def identity(self, genes: Tensor) -> Tensor:
        """The code itself: no two skeletons are alike."""
        return self.code(genes)

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` skeletons per run, uniformly; ``(R, n, 6)``."""
        known = _skeletons().to(noise.device)
        return known[noise.integers(torch.tensor(len(known), device=noise.device), n)]

    def features(self, genes: Tensor) -> Tensor:
        """Doublings and halvings up to each module, and the number of modules, float32 ``(*B, 13)``.

        These are the width and resolution at which each module works, which its type alone doesn't tell.
        """
        types = self.modules(genes)
        doublings = ((types == 2) | (types == 4)).cumsum(-1)
        halvings = ((types == 3) | (types == 4)).cumsum(-1)
        return torch.cat([doublings, halvings, (types > 0).sum(-1, keepdim=True)], -1).float()

    def layers(self, genes: Tensor) -> Tensor:
        """Modules that are there, and how many of them double or halve, float32 ``(*B, 3)``."""
        return torch.stack([(self.modules(genes) > 0).sum(-1), *self._changes(genes)], -1).float()

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Stage chart: what each module does, between the channels and the resolution before and after it.

        Channels are those of the benchmark's width, resolutions shares of the image's side; see
        :meth:`SearchSpace.edges`.
        """
        channels, scale, nodes, labels = 64, 4, ["stem: 64 ch, 1/4"], []
        for place, kind in enumerate(self._types(genes), 1):
            channels, scale = channels * (1 + (kind in (2, 4))), scale * (1 + (kind in (3, 4)))
            nodes.append(f"{place}: {channels} ch, 1/{scale}")
            labels.append(("keep", "widen", "halve", "widen, halve")[kind - 1])
        return {"skeleton": list(zip(nodes[:-1], nodes[1:], labels, strict=True))}

    def describe(self, genes: Tensor) -> str:
        """Write a skeleton as ``64-1234-basic``: the type of each module."""
        return f"64-{''.join(str(kind) for kind in self._types(genes))}-basic"

    def parse(self, text: str) -> Tensor:
        """Read a skeleton string; see :meth:`SearchSpace.parse`."""
        match = re.fullmatch(r"64-([1-4]{4,6})-basic", text.strip())
        if not match:
            raise ValueError(
                f"not a TransNAS-Bench-101 macro skeleton: {quoted(text)}. Expected 64-1234-basic with four to six modules, "
                "each 1 (keeps the shape), 2 (doubles the channels), 3 (halves the resolution) or 4 (both)"
            )
        types = [int(kind) for kind in match[1].ljust(6, "0")]
        return self.check(torch.tensor(types) - self.modules(torch.zeros(6, dtype=torch.int64)))

    def encoder(
        self,
        genes: Tensor,
        in_channels: int = 3,
        channels: int = 64,
        stem_stride: int = 2,
        benchmark_norm: bool = True,
    ) -> Encoder:
        """Build modules of two residual blocks each; see :meth:`TransNAS101.encoder` and :meth:`build`."""
        block = partial(BasicBlock, benchmark_norm=benchmark_norm)
        return Encoder(self._types(genes), block, in_channels, channels, stem_stride)

    def build(
        self,
        genes: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: int = 64,
        stem_stride: int = 2,
        benchmark_norm: bool = True,
    ) -> nn.Sequential:
        """Build the network of a skeleton; see :meth:`TransNAS101.build`.

        Args:
            genes: one skeleton, int64 ``(6,)``.
            num_classes: number of logits.
            in_channels: channels of the images.
            channels: see :meth:`TransNAS101.encoder`.
            stem_stride: see :meth:`TransNAS101.encoder`.
            benchmark_norm: whether the batch normalisation of projected shortcuts is the one that the benchmark trained
                with, eps and momentum 1 (a slip in its code), so that accuracies are comparable with the table; the
                usual 1e-5 and 0.1 otherwise.
        """
        encoder = self.encoder(genes, in_channels, channels, stem_stride, benchmark_norm)
        return classifier(encoder, num_classes)

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        channels: int = 64,
        stem_stride: int = 2,
        benchmark_norm: bool = True,
    ) -> Tensor:
        """Count networks block by block; see :meth:`SearchSpace.count` and :meth:`build`."""
        return count_blocks(self.modules(genes), num_classes, image_shape, channels, stem_stride)

    def _changes(self, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Modules that double the channels, and that halve the resolution, ``(*B,)`` each."""
        types = self.modules(genes)
        return ((types == 2) | (types == 4)).sum(-1), ((types == 3) | (types == 4)).sum(-1)

    def _types(self, genes: Tensor) -> list[int]:
        """Types of the modules that are there, in order."""
        return [kind for kind in self.modules(self.check(genes)).tolist() if kind]


@cache
def _skeletons() -> Tensor:
    """Genes of every macro skeleton in the order of codes, int64 ``(3256, 6)``."""
    space = TransNAS101Macro()
    genes = gene_strings(space.cardinalities)
    return genes[space.valid(genes)]
