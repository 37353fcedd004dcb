"""Networks of inverted residual layers (Sandler et al. 2018): what MobileNetV3 and EfficientNet-Lite have in common.

Modules carry the names of the once-for-all program's sub-networks (``blocks.3.conv.depth_conv.conv.weight``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional as F

from ednag.spaces.tally import Grid, Tally, convolution, linear, total

Activation = Literal["relu", "relu6", "hswish"]
"""Activations after expansion and depthwise convolution."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish}


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, half up, but never down by more than a tenth (Sandler et al. 2018).

    Args:
        channels: positive.

    Returns:
        at least 8.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class Layer:
    """One inverted residual layer.

    Attributes:
        in_channels: channels of its input.
        out_channels: channels of its output.
        kernel: side of the depthwise kernel.
        expansion: inner channels are this many times the input's.
        stride: of the depthwise convolution.
        squeeze: whether it squeezes and excites.
        activation: after expansion and depthwise convolution.
        place: index among the blocks of the largest network.
        stage: which stage it belongs to; 0 for a layer that every network has.
        tensorflow: whether it pads and normalises as TensorFlow's networks do (see :class:`InvertedResidual`).
    """

    in_channels: int
    out_channels: int
    kernel: int
    expansion: int
    stride: int
    squeeze: bool
    activation: Activation
    place: int
    stage: int = 0
    tensorflow: bool = False

    @property
    def inner(self) -> int:
        """Channels of the depthwise convolution."""
        return round_channels(self.in_channels * self.expansion)


class SqueezeExcite(nn.Module):
    """Scale channels by what their means say (Hu et al. 2018), with a hard sigmoid and a quarter of the channels inside.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = round_channels(channels // 4)
        self.fc = nn.Sequential(
            OrderedDict(
                reduce=nn.Conv2d(channels, inner, 1),
                relu=nn.ReLU(),
                expand=nn.Conv2d(inner, channels, 1),
                h_sigmoid=nn.Hardsigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels, h, w)`` to the same shape."""
        out: Tensor = x * self.fc(x.mean((2, 3), keepdim=True))
        return out


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, squeeze and excite, project; add the input where the shapes allow.

    TensorFlow's networks pad one pixel less before than behind where the stride is 2 (for even sizes), and add 1e-3 to
    variances instead of 1e-5.

    Args:
        layer: what to build.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        inner, act, eps = layer.inner, layer.activation, 1e-3 if layer.tensorflow else 1e-5
        parts = OrderedDict[str, nn.Module]()
        if layer.expansion > 1:
            expand = nn.Conv2d(layer.in_channels, inner, 1, bias=False)
            parts["inverted_bottleneck"] = normed(expand, act, eps)
        sides, pad = layer.kernel // 2, (0, 0)
        if layer.tensorflow:
            sides, pad = tensorflow_padding(layer.kernel, layer.stride)
        depthwise = nn.Conv2d(inner, inner, layer.kernel, layer.stride, sides, groups=inner, bias=False)
        parts["depth_conv"] = normed(depthwise, act, eps, pad)
        if layer.squeeze:
            parts["depth_conv"].add_module("se", SqueezeExcite(inner))
        parts["point_linear"] = normed(nn.Conv2d(inner, layer.out_channels, 1, bias=False), None, eps)
        self.conv = nn.Sequential(parts)
        self.residual = layer.stride == 1 and layer.in_channels == layer.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.conv(x)
        return out + x if self.residual else out


def count_layer(layer: Layer, grid: Grid) -> Tally:
    """Count a layer in closed form, as :class:`InvertedResidual` builds it.

    Args:
        layer: what to count.
        grid: size of its input.
    """
    inner, after = layer.inner, grid.shrunk(layer.stride)
    parts = [
        convolution(inner, inner, layer.kernel, after.pixels, depthwise=True),
        convolution(inner, layer.out_channels, 1, after.pixels),
    ]
    if layer.expansion > 1:
        parts.append(convolution(layer.in_channels, inner, 1, grid.pixels))
    if layer.squeeze:
        squeezed = round_channels(inner // 4)
        parts += [linear(inner, squeezed), linear(squeezed, inner)]
    return total(parts)


class InvertedResidualNetwork(nn.Module):
    """A stem, inverted residual layers in stages, and what makes features of their output.

    A subclass sets :attr:`first_conv` and :attr:`classifier`, and implements :meth:`tail`.

    Args:
        layers: in order, those of stage 0 first.
        resolution: side to which images are scaled (bilinear) before anything else; ``None`` to take them as they are.
    """

    first_conv: nn.Module
    classifier: nn.Module

    def __init__(self, layers: Sequence[Layer], resolution: int | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.resolution = resolution
        self.blocks = nn.Sequential(*map(InvertedResidual, layers))

    @abstractmethod
    def tail(self, x: Tensor) -> Tensor:
        """Map the last stage's output ``(batch, channels, h, w)`` to features ``(batch, F)``."""

    def scale(self, x: Tensor) -> Tensor:
        """Scale images ``(batch, C, h, w)`` to the resolution."""
        if self.resolution is None or tuple(x.shape[-2:]) == (self.resolution, self.resolution):
            return x
        return F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)

    def stages(self) -> list[list[tuple[Layer, InvertedResidual]]]:
        """Group layers and their modules by stage, stage 0 first."""
        pairs = zip(self.layers, cast("Iterator[InvertedResidual]", iter(self.blocks)), strict=True)
        return [list(some) for _, some in groupby(pairs, key=lambda pair: pair[0].stage)]

    def features(self, x: Tensor) -> Tensor:
        """Map images ``(batch, C, h, w)`` to what the classifier reads, ``(batch, F)``."""
        return self.tail(self.blocks(self.first_conv(self.scale(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, C, h, w)`` to ``(batch, num_classes)`` logits."""
        out: Tensor = self.classifier(self.features(x))
        return out


def normed(
    conv: nn.Conv2d, activation: Activation | None, eps: float = 1e-5, pad: tuple[int, int] = (0, 0)
) -> nn.Sequential:
    """Follow a convolution by batch normalisation and an activation.

    Args:
        conv: without a bias.
        activation: none if omitted.
        eps: what normalisation adds to variances.
        pad: zero pixels before and behind, in both directions, beyond the convolution's own padding.
    """
    parts = OrderedDict[str, nn.Module]()
    if any(pad):
        parts["pad"] = nn.ZeroPad2d((*pad, *pad))
    parts |= OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels, eps=eps))
    if activation is not None:
        parts["act"] = _ACTIVATIONS[activation]()
    return nn.Sequential(parts)


def tensorflow_padding(kernel: int, stride: int) -> tuple[int, tuple[int, int]]:
    """Padding of TensorFlow's ``SAME`` for even sizes.

    Returns:
        on all sides alike, and else before and behind.
    """
    return (kernel // 2, (0, 0)) if stride == 1 else (0, ((kernel - 2) // 2, (kernel - 1) // 2))
