"""The evaluation networks of DARTS (Liu et al. 2019) for CIFAR- and ImageNet-sized images."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ednag.spaces.layers import ReLUConvBN
from ednag.spaces.tally import Grid, ImageShape, Number, Tally, convolution, linear, table, total

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of an edge; a gene is an index into this tuple."""

NODES = 4
"""Intermediate nodes of a cell; the output is their concatenation."""

Cell = tuple[tuple[str, int], ...]
"""``(operation, input)`` of the edges of a cell, two for each node: inputs 0 and 1 are the two cells before."""

Stem = Literal["cifar", "imagenet"]
"""``cifar``: one convolution, three times as wide as the cells. ``imagenet``: three convolutions of stride 2."""


class FactorizedReduce(nn.Module):
    """Halve the resolution by two 1x1 convolutions of stride 2 on grids shifted by one pixel, side by side.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.even = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / 2), ceil(w / 2))``."""
        x = x.relu()
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2)) if width % 2 or height % 2 else x
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(padded[..., 1:, 1:])], 1))
        return out


class SeparableConv(nn.Sequential):
    """ReLU, depthwise and 1x1 convolution, batch normalisation; DARTS applies it once dilated, or twice undilated.

    Args:
        channels: of input and output.
        kernel_size: odd side of the depthwise kernel; the padding keeps the size at stride 1.
        stride: of the depthwise convolution.
        dilation: of the depthwise convolution.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, dilation: int = 1) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Build the operation of one edge; see :data:`OPERATIONS`."""
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    size = int(name[-1])
    if name.startswith("dil"):
        return SeparableConv(channels, size, stride, dilation=2)
    return nn.Sequential(SeparableConv(channels, size, stride), SeparableConv(channels, size, 1))


class DropPath(nn.Module):
    """While training, zero whole images with probability ``p`` and scale the others up to keep the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.p = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to the same shape."""
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, 1, 1), self.p)


class DARTSCell(nn.Module):
    """A cell: both inputs are brought to one shape, each node sums two edges, the output concatenates the nodes.

    Args:
        cell: the edges.
        before: channels of the cell before the last.
        last: channels of the last cell.
        channels: of each node.
        reduce: whether edges from the inputs have stride 2.
        reduced: whether the last cell had, so that the one before it is twice as large.
    """

    def __init__(self, cell: Cell, before: int, last: int, channels: int, reduce: bool, reduced: bool) -> None:
        super().__init__()
        self.before = FactorizedReduce(before, channels) if reduced else ReLUConvBN(before, channels, 1)
        self.last = ReLUConvBN(last, channels, 1)
        self.sources = [source for _, source in cell]
        self.out_channels = channels * (len(cell) // 2)
        strides = [2 if reduce and source < 2 else 1 for source in self.sources]
        edges = [operation(name, channels, stride) for (name, _), stride in zip(cell, strides, strict=True)]
        self.operations = nn.ModuleList(
            edge if isinstance(edge, nn.Identity) else nn.Sequential(edge, DropPath()) for edge in edges
        )

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Map the outputs of the two cells before to ``(batch, out_channels, h, w)``."""
        states = [self.before(before), self.last(last)]
        edges = list(zip(self.operations, self.sources, strict=True))
        for (one, a), (two, b) in zip(edges[::2], edges[1::2], strict=True):
            states.append(one(states[a]) + two(states[b]))
        return torch.cat(states[2:], 1)


class AuxiliaryHead(nn.Module):
    """Classifier on the features at two thirds of the depth: 2 x 2 average pools, two convolutions, a linear layer.

    The two pooling windows along a side cover 5/8 of it, rounded up, as in DARTS: 5 of 8 pixels on CIFAR at stride 3,
    5 of 7 on ImageNet at stride 2.

    Args:
        channels: of the input.
        num_classes: logits.
        norm: whether the second convolution is normalised (not in the published ImageNet networks).
    """

    def __init__(self, channels: int, num_classes: int, norm: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768) if norm else nn.Identity(),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels, h, w)``, sides at least 2, to ``(batch, num_classes)``."""
        sides = x.shape[-2:]
        if min(sides) < 2:
            raise ValueError(
                f"the auxiliary head needs features of at least 2 x 2 pixels, got {tuple(sides)}: use larger images"
            )
        kernel = [min(-(-5 * side // 8), side - 1) for side in sides]
        stride = [side - size for side, size in zip(sides, kernel, strict=True)]
        pooled = F.avg_pool2d(x.relu(), kernel, stride)
        logits: Tensor = self.classifier(self.features(pooled).flatten(1))
        return logits


class DARTSNetwork(nn.Module):
    """Stem, a stack of cells that shrinks at a third and two thirds of its depth, and a linear classifier.

    Args:
        normal: the normal cell.
        reduction: the reduction cell.
        num_classes: logits.
        in_channels: channels of the images.
        channels: channels of a node in the first cells; doubled by each reduction.
        cells: depth.
        auxiliary: whether there is a second head, used while training.
        drop_path: final probability of :class:`DropPath`, in [0, 1).
        stem: see :data:`Stem`.

    Raises:
        ValueError: for an option out of range.
    """

    def __init__(
        self,
        normal: Cell,
        reduction: Cell,
        num_classes: int,
        in_channels: int = 3,
        channels: int = 36,
        cells: int = 20,
        auxiliary: bool = False,
        drop_path: float = 0.0,
        stem: Stem = "cifar",
    ) -> None:
        super().__init__()
        check_build(channels, cells, drop_path, stem)
        self.drop_path = drop_path
        self.stem, self.stem_reduction = _stems(stem, in_channels, channels)
        width = channels if self.stem_reduction is not None else 3 * channels
        before, last, reduced = width, width, self.stem_reduction is not None
        reductions = {cells // 3, 2 * cells // 3}
        self.auxiliary_after = 2 * cells // 3
        self.auxiliary: AuxiliaryHead | None = None
        self.cells = nn.ModuleList()
        for place in range(cells):
            reduce = place in reductions
            channels *= 2 if reduce else 1
            cell = DARTSCell(reduction if reduce else normal, before, last, channels, reduce, reduced)
            before, last, reduced = last, cell.out_channels, reduce
            self.cells.append(cell)
            if auxiliary and place == self.auxiliary_after:
                self.auxiliary = AuxiliaryHead(last, num_classes, norm=stem == "cifar")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, num_classes)
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """Set the drop-path probability to ``progress`` times its final value; 1 from the start.

        DARTS raises it linearly: call this before each epoch with the share of epochs that are done.

        Args:
            progress: in [0, 1].

        Raises:
            ValueError: if it is outside.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be in [0, 1], got {progress}")
        for module in self.modules():
            if isinstance(module, DropPath):
                module.p = self.drop_path * progress

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map ``(batch, in_channels, h, w)`` to logits; with an auxiliary head, to a pair of them while training."""
        before = last = self.stem(x)
        if self.stem_reduction is not None:
            last = self.stem_reduction(last)
        second: Tensor | None = None
        for place, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if self.auxiliary is not None and self.training and place == self.auxiliary_after:
                second = self.auxiliary(last)
        logits: Tensor = self.classifier(self.pool(last).flatten(1))
        return logits if second is None else (logits, second)


def _count_operation(name: str, channels: int, pixels: Number, stride: int) -> Tally:
    """Count the operation of one edge for the pixels of its output; see :func:`operation`."""
    if name == "skip_connect":  # at stride 2 a factorised reduction: two halves of a 1x1 convolution
        return Tally() if stride == 1 else convolution(channels, channels, 1, pixels)
    if name.endswith("pool_3x3"):
        return Tally()
    size, times = int(name[-1]), 1 if name.startswith("dil") else 2
    depthwise = convolution(channels, channels, size, pixels, depthwise=True, norm=False)
    return times * (depthwise + convolution(channels, channels, 1, pixels))


@lru_cache(maxsize=16)
def count_parts(
    num_classes: int, image_shape: ImageShape, channels: int, cells: int, auxiliary: bool, stem: Stem
) -> tuple[Tensor, Tensor]:
    """Count, in closed form, what all networks share and what each operation of an edge adds.

    Args:
        num_classes: logits.
        image_shape: channels, height and width of the images.
        channels: see :class:`DARTSNetwork`.
        cells: likewise.
        auxiliary: likewise; the second head is not run in eval mode, so that it counts as parameters only.
        stem: likewise.

    Returns:
        parameters and multiply-accumulates, int64 ``(2,)`` and ``(3, 7, 2)``: of an edge of normal cells, of one between
        nodes of reduction cells, of one from an input of reduction cells (of stride 2).
    """
    rest, grid, width = _count_stem(stem, image_shape, channels)
    before, last = width, width
    edges = [[Tally() for _ in OPERATIONS] for _ in range(3)]
    for place in range(cells):
        reduce = place in {cells // 3, 2 * cells // 3}
        channels *= 2 if reduce else 1
        # whether of stride 2 or not, both inputs become maps of this size by 1x1 convolutions
        rest += convolution(before, channels, 1, grid.pixels) + convolution(last, channels, 1, grid.pixels)
        grid = grid.shrunk(2 if reduce else 1)
        for kind in (1, 2) if reduce else (0,):
            for i, name in enumerate(OPERATIONS):
                edges[kind][i] += _count_operation(name, channels, grid.pixels, stride=2 if kind == 2 else 1)
        before, last = last, channels * NODES
        if auxiliary and place == 2 * cells // 3:
            rest += _count_auxiliary(last, num_classes, stem)
    return (rest + linear(last, num_classes)).stacked(), table(edges)


def _count_auxiliary(channels: int, num_classes: int, stem: Stem) -> Tally:
    """Parameters of an :class:`AuxiliaryHead`."""
    found = convolution(channels, 128, 1, 1) + convolution(128, 768, 2, 1, norm=stem == "cifar")
    return Tally((found + linear(768, num_classes)).params)


def _count_stem(stem: Stem, image_shape: ImageShape, channels: int) -> tuple[Tally, Grid, int]:
    """Count what comes before the first cell, see :func:`_stems`; what it makes is of this size and width."""
    grid = Grid(*image_shape[1:])
    if stem == "cifar":
        return convolution(image_shape[0], 3 * channels, 3, grid.pixels), grid, 3 * channels
    half, first = max(channels // 2, 1), grid.shrunk(2)
    second, third = first.shrunk(2), first.shrunk(2).shrunk(2)
    parts = (
        convolution(image_shape[0], half, 3, first.pixels),
        convolution(half, channels, 3, second.pixels),
        convolution(channels, channels, 3, third.pixels),
    )
    return total(parts), third, channels


def _stems(stem: Stem, in_channels: int, channels: int) -> tuple[nn.Sequential, nn.Sequential | None]:
    """Build what comes before the first cell; a second part halves the resolution between its two inputs."""
    if stem == "cifar":
        width = 3 * channels
        return nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)), None
    half = max(channels // 2, 1)
    first = nn.Sequential(
        nn.Conv2d(in_channels, half, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, channels, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    return first, ReLUConvBN(channels, channels, 3, stride=2)


def check_build(channels: int, cells: int, drop_path: float, stem: str) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: naming what is allowed.
    """
    if channels < 2 or cells < 1:
        raise ValueError(f"channels must be >= 2 and cells >= 1, got {channels} and {cells}")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
    if stem not in get_args(Stem):
        raise ValueError(f"stem must be one of {', '.join(get_args(Stem))}, got {stem!r}")
