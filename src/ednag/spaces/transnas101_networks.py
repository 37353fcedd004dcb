"""Networks of TransNAS-Bench-101 (Duan et al. 2021): encoders of stacked modules, and heads for its label tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from ednag.spaces.layers import ReLUConvBN
from ednag.spaces.tally import Grid, ImageShape, Number, Tally, convolution, linear, table

BlockMaker = Callable[[int, int, int], nn.Module]
"""Makes a block from its input channels, output channels and stride."""

SHORTCUT_EPS = SHORTCUT_MOMENTUM = 1.0
"""Of the batch normalisation of the macro space's projected shortcuts in the benchmark.

Its code passes ``True`` where PyTorch expects ``eps`` and ``momentum``. Its networks are reproduced exactly only so.
"""

BLOCKS = 2
"""Blocks a module; the first one doubles the channels and halves the resolution where the module does."""


class FactorizedReduction(nn.Module):
    """What a skip connection is where size or width change: two 1x1 convolutions on the two diagonals of pixels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        halves = (out_channels // 2, out_channels - out_channels // 2)
        self.convs = nn.ModuleList(nn.Conv2d(in_channels, half, 1, stride, bias=False) for half in halves)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / stride), ceil(w / stride))``."""
        x = x.relu()
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: Tensor = self.norm(torch.cat([self.convs[0](x), self.convs[1](shifted)], 1))
        return out


class BasicBlock(nn.Module):
    """Residual block of the macro space: two pre-activated 3x3 convolutions, projected where the shape changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the first convolution.
        benchmark_norm: whether the projection's normalisation is the benchmark's (:data:`SHORTCUT_EPS`) or the usual one.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, benchmark_norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ReLUConvBN(in_channels, out_channels, 3, stride), ReLUConvBN(out_channels, out_channels, 3)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            norm = nn.BatchNorm2d(out_channels)
            if benchmark_norm:
                norm.eps, norm.momentum = SHORTCUT_EPS, SHORTCUT_MOMENTUM
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Cell(nn.Module):
    """Cell of the micro space: each node sums its incoming edges; edges out of the input change size and width.

    Args:
        edges: ``(source, target, operation)`` of every edge that carries something, targets in ascending order. Node
            0 is the input; a node without an incoming edge is zero.
        num_nodes: number of nodes, the input included.
        out_channels: channels of every node but the input.
        stride: stride of the edges out of the input.
    """

    def __init__(
        self, edges: Sequence[tuple[int, int, nn.Module]], num_nodes: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation for _, _, operation in edges)
        self.routes = [(source, target) for source, target, _ in edges]
        self.num_nodes, self.out_channels, self.stride = num_nodes, out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / stride), ceil(w / stride))``."""
        height, width = (-(-size // self.stride) for size in x.shape[-2:])
        zeros = x.new_zeros(x.shape[0], self.out_channels, height, width)
        nodes = [x] + [zeros] * (self.num_nodes - 1)
        for (source, target), operation in zip(self.routes, self.operations, strict=True):
            nodes[target] = nodes[target] + operation(nodes[source])
        return nodes[-1]


class Encoder(nn.Module):
    """The benchmark's encoder: a stem of two convolutions, then modules of two blocks each.

    Convolutions start as the benchmark's do: normal, with the variance of He et al. (2015) over outputs.

    Args:
        modules: type of each module: 1 keeps the shape, 2 doubles the channels, 3 halves the resolution, 4 does both.
        block: makes a block.
        in_channels: channels of the images.
        channels: width after the stem, even; 64 in the benchmark.
        stem_stride: stride of each convolution of the stem; 2 in the benchmark, 1 for small images.

    Attributes:
        out_channels: channels of the feature map.

    Raises:
        ValueError: if ``channels`` is odd or not positive.
    """

    def __init__(
        self, modules: Sequence[int], block: BlockMaker, in_channels: int = 3, channels: int = 64, stem_stride: int = 2
    ) -> None:
        super().__init__()
        _check_channels(channels)
        half = channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(half),
            ReLUConvBN(half, channels, 3, stem_stride),
        )
        self.stages = nn.Sequential()
        for kind in modules:
            before, channels = channels, channels * 2 if kind in (2, 4) else channels
            first = block(before, channels, 2 if kind in (3, 4) else 1)
            self.stages.append(nn.Sequential(first, *(block(channels, channels, 1) for _ in range(BLOCKS - 1))))
        self.out_channels = channels
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h', w')``."""
        out: Tensor = self.stages(self.stem(x))
        return out


def classifier(encoder: Encoder, num_classes: int) -> nn.Sequential:
    """Add the benchmark's head for objects (75 classes) and scenes (47): global average pooling and a linear layer.

    Args:
        encoder: from ``(batch, channels, h, w)`` images to a feature map.
        num_classes: logits.
    """
    head = nn.Linear(encoder.out_channels, num_classes)
    return nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def count_stem(image_shape: ImageShape, channels: int, stem_stride: int) -> tuple[Tally, Grid]:
    """Count an encoder's stem in closed form, and say what size its output has.

    Raises:
        ValueError: if ``channels`` is odd or not positive.
    """
    _check_channels(channels)
    first = Grid(*image_shape[1:]).shrunk(stem_stride)
    second = first.shrunk(stem_stride)
    half = channels // 2
    return convolution(image_shape[0], half, 3, first.pixels) + convolution(half, channels, 3, second.pixels), second


@lru_cache(maxsize=16)
def count_cells(
    modules: tuple[int, ...], num_classes: int, image_shape: ImageShape, channels: int, stem_stride: int
) -> tuple[Tensor, Tensor]:
    """Count, in closed form, what all networks of the micro space share and what each operation of an edge adds.

    Args:
        modules: see :class:`Encoder`.
        num_classes: logits.
        image_shape: channels, height and width of the images.
        channels: see :class:`Encoder`.
        stem_stride: likewise.

    Returns:
        parameters and multiply-accumulates, int64 ``(2,)`` and ``(2, 4, 2)``: of an edge between nodes, and of one from
        the input; operations none, skip connection, 1x1 and 3x3 convolution.
    """
    rest, grid = count_stem(image_shape, channels, stem_stride)
    edges = [[Tally()] * 4, [Tally()] * 4]
    for kind in modules:
        before, channels, stride = channels, channels * 2 if kind in (2, 4) else channels, 2 if kind in (3, 4) else 1
        grid = grid.shrunk(stride)
        usual = _count_operations(channels, channels, grid, changes=False)
        changing = _count_operations(before, channels, grid, changes=kind != 1)
        for first, found in ((1, changing), *[(1, usual)] * (BLOCKS - 1), *[(0, usual)] * BLOCKS):
            edges[first] = [one + other for one, other in zip(edges[first], found, strict=True)]
    return (rest + linear(channels, num_classes)).stacked(), table(edges)


def _count_operations(inputs: int, outputs: int, grid: Grid, changes: bool) -> list[Tally]:
    """Count the four operations of an edge; a skip connection is a :class:`FactorizedReduction` where it changes shape."""
    small = convolution(inputs, outputs, 1, grid.pixels)
    return [Tally(), small if changes else Tally(), small, convolution(inputs, outputs, 3, grid.pixels)]


def count_blocks(types: Tensor, num_classes: int, image_shape: ImageShape, channels: int, stem_stride: int) -> Tensor:
    """Count networks of the macro space in closed form, as :class:`Encoder` builds them of :class:`BasicBlock`.

    Args:
        types: of the modules, 0 if absent, int64 ``(*B, 6)``.
        num_classes: logits.
        image_shape: channels, height and width of the images.
        channels: see :class:`Encoder`.
        stem_stride: likewise.

    Returns:
        parameters and multiply-accumulates, int64 ``(*B, 2)``.
    """
    counted, grid = count_stem(image_shape, channels, stem_stride)
    width: Number = channels
    for kind in types.unbind(-1):
        there, widens, halves = kind > 0, (kind == 2) | (kind == 4), kind >= 3
        before, width, grid = width, width * (1 + widens.long()), grid.shrunk(1 + halves.long())
        changed = (kind > 1).long()
        counted += changed * convolution(before, width, 1, grid.pixels)
        inner = (2 * BLOCKS - 1) * convolution(width, width, 3, grid.pixels)
        counted += there.long() * (convolution(before, width, 3, grid.pixels) + inner)
    return (counted + linear(width, num_classes)).stacked()


def _check_channels(channels: int) -> None:
    """Refuse a width that has no half."""
    if channels < 2 or channels % 2:
        raise ValueError(f"channels of a TransNAS-Bench-101 network must be even and >= 2, got {channels}")


class JigsawClassifier(nn.Module):
    """One encoder for every tile of an image, and a linear layer that tells how the tiles were shuffled.

    Args:
        encoder: from ``(batch, channels, h, w)`` tiles to a feature map.
        num_permutations: logits, 1,000 in the benchmark.
        tiles: tiles an image, 9 in the benchmark.
    """

    def __init__(self, encoder: Encoder, num_permutations: int = 1000, tiles: int = 9) -> None:
        super().__init__()
        self.encoder, self.tiles = encoder, tiles
        self.classifier = nn.Linear(encoder.out_channels * tiles, num_permutations)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, tiles, channels, h, w)`` to ``(batch, num_permutations)``.

        Raises:
            ValueError: for another number of tiles.
        """
        if x.ndim != 5 or x.shape[1] != self.tiles:
            raise ValueError(f"expected images as (batch, {self.tiles}, channels, h, w) tiles, got {tuple(x.shape)}")
        pooled = [self.encoder(tile).mean((-2, -1)) for tile in x.unbind(1)]
        out: Tensor = self.classifier(torch.cat(pooled, 1))
        return out
