"""The sub-networks of the once-for-all MobileNetV3 supernet (Cai et al. 2020, after Howard et al. 2019).

Modules carry the names of the official sub-networks (``blocks.3.conv.depth_conv.conv.weight``), so that published
weights of single sub-networks fit as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (1.0, 1.2)
"""Width multipliers of the published supernets."""

STAGE_CHANNELS = (24, 40, 80, 112, 160)
"""Output channels of each stage, before the width multiplier."""

STAGE_STRIDES = (2, 2, 2, 1, 2)
"""Stride of the first layer of each stage."""

STAGE_SQUEEZE = (False, True, False, True, True)
"""Whether the layers of each stage squeeze and excite."""

STAGE_SWISH = (False, False, True, True, True)
"""Whether the activation of each stage is h-swish (ReLU otherwise)."""

STEM_CHANNELS, FINAL_CHANNELS, LAST_CHANNELS = 16, 960, 1280
"""Output channels of the first convolution and block, and of the last two convolutions, before the multiplier."""

LAYERS_PER_STAGE = 4
"""Layers of a stage of the supernet."""

RESOLUTIONS = range(128, 225, 4)
"""Sides of the images that the supernet was trained with, in pixels."""


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
        swish: whether its activation is h-swish (ReLU otherwise).
        place: index among the supernet's blocks: 0 for the fixed one, then ``1 + 4 * stage + layer``.
    """

    in_channels: int
    out_channels: int
    kernel: int
    expansion: int
    stride: int
    squeeze: bool
    swish: bool
    place: int

    @property
    def inner(self) -> int:
        """Channels of the depthwise convolution."""
        return round_channels(self.in_channels * self.expansion)


def plan_layers(depths: Sequence[int], kernels: Sequence[int], expansions: Sequence[int], width: float) -> list[Layer]:
    """List the layers of a sub-network, the fixed first one included.

    Args:
        depths: layers of each of the five stages, in 2..4.
        kernels: of the 20 layers of the supernet, four a stage; those beyond a stage's depth are ignored.
        expansions: likewise.
        width: multiplier of all channels.
    """
    channels = round_channels(STEM_CHANNELS * width)
    layers = [Layer(channels, channels, 3, 1, 1, squeeze=False, swish=False, place=0)]
    for stage, depth in enumerate(depths):
        for step in range(depth):
            place = LAYERS_PER_STAGE * stage + step
            layers.append(
                Layer(
                    in_channels=layers[-1].out_channels,
                    out_channels=round_channels(STAGE_CHANNELS[stage] * width),
                    kernel=kernels[place],
                    expansion=expansions[place],
                    stride=STAGE_STRIDES[stage] if step == 0 else 1,
                    squeeze=STAGE_SQUEEZE[stage],
                    swish=STAGE_SWISH[stage],
                    place=1 + place,
                )
            )
    return layers


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

    Args:
        layer: what to build.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        inner, pad = layer.inner, layer.kernel // 2
        parts = OrderedDict[str, nn.Module]()
        if layer.expansion > 1:
            parts["inverted_bottleneck"] = _normed(nn.Conv2d(layer.in_channels, inner, 1, bias=False), layer.swish)
        depthwise = nn.Conv2d(inner, inner, layer.kernel, layer.stride, pad, groups=inner, bias=False)
        parts["depth_conv"] = _normed(depthwise, layer.swish)
        if layer.squeeze:
            parts["depth_conv"].add_module("se", SqueezeExcite(inner))
        parts["point_linear"] = _normed(nn.Conv2d(inner, layer.out_channels, 1, bias=False), None)
        self.conv = nn.Sequential(parts)
        self.residual = layer.stride == 1 and layer.in_channels == layer.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.conv(x)
        return out + x if self.residual else out


class MobileNetV3Network(nn.Module):
    """A sub-network: stem, layers, final expansion, global average pooling, feature mixing, classifier.

    Batch normalisation as in the supernet: epsilon 1e-5, momentum 0.1.

    Args:
        layers: as listed by :func:`plan_layers`.
        width: multiplier of all channels.
        num_classes: logits.
        in_channels: channels of the images.
        stem_stride: stride of the first convolution; 2 in the supernet, 1 for small images.
        dropout: probability of dropping a feature before the classifier.
        resolution: side to which images are scaled (bilinear) before anything else; ``None`` to take them as they are.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        width: float,
        num_classes: int,
        in_channels: int = 3,
        stem_stride: int = 2,
        dropout: float = 0.0,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.width = width
        self.resolution = resolution
        final, last = round_channels(FINAL_CHANNELS * width), round_channels(LAST_CHANNELS * width)
        stem = nn.Conv2d(in_channels, layers[0].in_channels, 3, stem_stride, padding=1, bias=False)
        self.first_conv = _normed(stem, swish=True)
        self.blocks = nn.Sequential(*map(InvertedResidual, layers))
        self.final_expand_layer = _normed(nn.Conv2d(layers[-1].out_channels, final, 1, bias=False), swish=True)
        self.feature_mix_layer = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(final, last, 1, bias=False), act=nn.Hardswish())
        )
        self.classifier = nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(last, num_classes)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, num_classes)`` logits."""
        if self.resolution is not None:
            x = F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)
        x = self.final_expand_layer(self.blocks(self.first_conv(x)))
        x = self.feature_mix_layer(x.mean((2, 3), keepdim=True))
        out: Tensor = self.classifier(x.flatten(1))
        return out


def _normed(conv: nn.Conv2d, swish: bool | None) -> nn.Sequential:
    """Follow a convolution by batch normalisation and an activation (none where ``swish`` is ``None``)."""
    parts = OrderedDict[str, nn.Module](conv=conv, bn=nn.BatchNorm2d(conv.out_channels))
    if swish is not None:
        parts["act"] = nn.Hardswish() if swish else nn.ReLU()
    return nn.Sequential(parts)
