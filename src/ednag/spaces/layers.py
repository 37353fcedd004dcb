"""Layers that the networks of several spaces share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch normalisation (the pre-activation order of DARTS and NAS-Bench-201).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side of the kernel; the padding keeps the size at stride 1.
        stride: stride of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class ResidualReduction(nn.Module):
    """Residual block that halves the resolution (He et al. 2016), as between the stages of NAS-Bench-201.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ReLUConvBN(in_channels, out_channels, 3, stride=2),
            ReLUConvBN(out_channels, out_channels, 3),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / 2), ceil(w / 2))``."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Head(nn.Sequential):
    """Batch normalisation, ReLU, global average pooling and a linear classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )


class DenseCell(nn.Module):
    """A directed acyclic graph over feature maps: each node sums the outputs of its incoming edges.

    Args:
        edges: ``(source, target, operation)`` of every edge that carries something. Node 0 is the input, the last
            node the output; a node without an incoming edge is zero.
        num_nodes: number of nodes, the input included.
    """

    def __init__(self, edges: Sequence[tuple[int, int, nn.Module]], num_nodes: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation for _, _, operation in edges)
        self.routes = [(source, target) for source, target, _ in edges]
        self.num_nodes = num_nodes

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels, h, w)`` to the same shape."""
        nodes: list[Tensor | None] = [x] + [None] * (self.num_nodes - 1)
        for (source, target), operation in zip(self.routes, self.operations, strict=True):
            value = nodes[source]
            term = operation(x * 0 if value is None else value)
            nodes[target] = term if nodes[target] is None else nodes[target] + term
        out = nodes[-1]
        return x * 0 if out is None else out
