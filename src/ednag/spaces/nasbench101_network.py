"""Networks of NAS-Bench-101: cells whose branches share the channels of their output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ednag.spaces.tally import Grid, ImageShape, Tally, convolution, linear

BENCHMARK_MOMENTUM = 1 - 0.997
"""Momentum of the benchmark's batch normalisation: TensorFlow's 0.997, in PyTorch's sense (eps is 1e-5 in both)."""

Matrix = Sequence[Sequence[int]]
"""Upper-triangular adjacency, zeros and ones; the first vertex is the input, the last the output."""


def vertex_channels(matrix: Matrix, in_channels: int, out_channels: int) -> list[int]:
    """Divide the channels of a cell over its vertices (Ying et al. 2019, supplement S2).

    Vertices that feed the output share ``out_channels``; where they don't divide evenly, the first ones get one more.
    Any other vertex is as wide as the widest interior vertex that it feeds.

    Args:
        matrix: ``n`` x ``n``, every vertex on a path from input to output.
        in_channels: channels of the cell's input.
        out_channels: channels of its output.

    Returns:
        channels of each vertex, input and output included.

    Raises:
        ValueError: if there are fewer channels than vertices that feed the output.
    """
    last = len(matrix) - 1
    channels = [in_channels, *([0] * (last - 1)), out_channels]
    feeding = [vertex for vertex in range(1, last) if matrix[vertex][last]]
    if out_channels < len(feeding):
        raise ValueError(f"{len(feeding)} branches can't share {out_channels} channels; build with more channels")
    for place, vertex in enumerate(feeding):
        channels[vertex] = out_channels // len(feeding) + (place < out_channels % len(feeding))
    for vertex in reversed(range(1, last)):
        if not matrix[vertex][last]:
            channels[vertex] = max(channels[target] for target in range(vertex + 1, last) if matrix[vertex][target])
    return channels


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU; the padding keeps the size at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


class Cell(nn.Module):
    """One cell (Ying et al. 2019, section 2.3 and supplement S2).

    What reaches an interior vertex is added: from the cell's input through a 1x1 convolution to the vertex's width,
    from interior vertices cut to their first channels. The output concatenates the vertices that feed it, and adds the
    cell's input, through a 1x1 convolution, if that is connected.

    Args:
        matrix: ``n`` x ``n``, every vertex on a path from input to output.
        operations: names of the ``n - 2`` interior vertices' operations.
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, matrix: Matrix, operations: Sequence[str], in_channels: int, out_channels: int) -> None:
        super().__init__()
        last = len(matrix) - 1
        self.channels = vertex_channels(matrix, in_channels, out_channels)
        self.sources = [[s for s in range(1, t) if matrix[s][t]] for t in range(last + 1)]
        self.operations = nn.ModuleList(
            _operation(name, width) for name, width in zip(operations, self.channels[1:-1], strict=True)
        )
        self.projections = nn.ModuleDict(
            {
                str(target): ConvBNReLU(in_channels, self.channels[target], 1)
                for target in range(1, last + 1)
                if matrix[0][target]
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h, w)``."""
        values = [x]
        for vertex, operation in enumerate(self.operations, start=1):
            terms = [values[source][:, : self.channels[vertex]] for source in self.sources[vertex]]
            values.append(operation(_total(terms + self._projected(x, vertex))))
        last = len(self.operations) + 1
        feeding = [values[source] for source in self.sources[last]]
        return _total(([torch.cat(feeding, 1)] if feeding else []) + self._projected(x, last))

    def _projected(self, x: Tensor, vertex: int) -> list[Tensor]:
        """The cell's input at a vertex's width, if the vertex gets it."""
        return [self.projections[str(vertex)](x)] if str(vertex) in self.projections else []


class CellNetwork(nn.Sequential):
    """Stem, stacks of equal cells with halved resolution and doubled width between them, average pooling, classifier.

    Args:
        matrix: see :class:`Cell`.
        operations: see :class:`Cell`.
        num_classes: logits.
        in_channels: channels of the images.
        channels: width of the stem and the first stack.
        stacks: number of stacks, >= 1.
        cells: cells per stack, >= 1.
        stem_stride: stride of the stem, >= 1.
        benchmark_norm: whether running statistics move by :data:`BENCHMARK_MOMENTUM` per step, not by PyTorch's 0.1.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        matrix: Matrix,
        operations: Sequence[str],
        num_classes: int,
        in_channels: int,
        channels: int,
        stacks: int,
        cells: int,
        stem_stride: int,
        benchmark_norm: bool = False,
    ) -> None:
        check_build(channels, stacks, cells, stem_stride)
        layers: list[nn.Module] = [ConvBNReLU(in_channels, channels, 3, stem_stride)]
        before = channels
        for stack in range(stacks):
            if stack:
                layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
            for _ in range(cells):
                layers.append(Cell(matrix, operations, before, channels * 2**stack))
                before = channels * 2**stack
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))
        if benchmark_norm:
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = BENCHMARK_MOMENTUM


def check_build(channels: int, stacks: int, cells: int, stem_stride: int) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: naming what is allowed.
    """
    if min(stacks, cells, stem_stride) < 1 or channels < 5:
        raise ValueError(
            f"channels must be >= 5, stacks, cells and stem_stride >= 1; "
            f"got {channels}, {stacks}, {cells} and {stem_stride}"
        )


def count_network(
    matrix: Tensor,
    kernels: Tensor,
    num_classes: int,
    image_shape: ImageShape,
    channels: int,
    stacks: int,
    cells: int,
    stem_stride: int,
) -> Tensor:
    """Count parameters and multiply-accumulates of networks in closed form, as :class:`CellNetwork` builds them.

    Args:
        matrix: adjacency of pruned cells, int64 ``(*B, V, V)``; vertices that were removed have no edges.
        kernels: side of each interior vertex's convolution, 0 for a pooling, int64 ``(*B, V - 2)``.
        num_classes: logits.
        image_shape: channels, height and width of the images.
        channels: see :class:`CellNetwork`.
        stacks: likewise.
        cells: likewise.
        stem_stride: likewise.

    Returns:
        int64 ``(*B, 2)``.
    """
    grid = Grid(*image_shape[1:]).shrunk(stem_stride)
    counted, before = convolution(image_shape[0], channels, 3, grid.pixels), channels
    for stack in range(stacks):
        grid = grid.shrunk(2 if stack else 1)
        width = channels * 2**stack
        wide = _widths(matrix, width)
        weights = wide.square() * kernels.square() + 2 * wide * (kernels > 0)
        inner = weights.sum(-1), (wide.square() * kernels.square()).sum(-1) * grid.pixels
        entering = (matrix[..., 0, 1:-1] * wide).sum(-1) + matrix[..., 0, -1] * width
        for inputs, times in ((before, 1), (width, cells - 1)):
            counted += times * (Tally(*inner) + convolution(inputs, entering, 1, grid.pixels))
        before = width
    return (counted + linear(before, num_classes)).stacked()


def _widths(matrix: Tensor, out_channels: int) -> Tensor:
    """Channels of the interior vertices, int64 ``(*B, V - 2)``, see :func:`vertex_channels`; 0 if removed."""
    feeding = matrix[..., 1:-1, -1]
    number = feeding.sum(-1, keepdim=True).clamp(min=1)
    widths = (out_channels // number + (feeding.cumsum(-1) <= out_channels % number)) * feeding
    for vertex in reversed(range(widths.shape[-1])):
        widest = (matrix[..., vertex + 1, 1:-1] * widths).amax(-1)
        widths[..., vertex] = torch.where(feeding[..., vertex] > 0, widths[..., vertex], widest)
    return widths


def _operation(name: str, channels: int) -> nn.Module:
    """Build the operation of an interior vertex."""
    if name == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return ConvBNReLU(channels, channels, 3 if name == "conv3x3-bn-relu" else 1)


def _total(terms: Sequence[Tensor]) -> Tensor:
    """Add feature maps."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
