"""The sub-networks of the once-for-all MobileNetV3 supernet (Cai et al. 2020, after Howard et al. 2019).

Modules carry the names of the official sub-networks (``blocks.3.conv.depth_conv.conv.weight``), so that published
weights of single sub-networks fit as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor, nn

from ednag.spaces.inverted_residual import InvertedResidualNetwork, Layer, count_layer, normed, round_channels
from ednag.spaces.tally import Grid, ImageShape, convolution, linear, table

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


def plan_layers(depths: Sequence[int], kernels: Sequence[int], expansions: Sequence[int], width: float) -> list[Layer]:
    """List the layers of a sub-network, the fixed first one included.

    Args:
        depths: layers of each of the five stages, in 2..4.
        kernels: of the 20 layers of the supernet, four a stage; those beyond a stage's depth are ignored.
        expansions: likewise.
        width: multiplier of all channels.
    """
    channels = round_channels(STEM_CHANNELS * width)
    layers = [Layer(channels, channels, 3, 1, 1, squeeze=False, activation="relu", place=0)]
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
                    activation="hswish" if STAGE_SWISH[stage] else "relu",
                    place=1 + place,
                    stage=1 + stage,
                )
            )
    return layers


def check_build(stem_stride: int, dropout: float, resolution: int | None) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: naming the option.
    """
    if resolution is not None and resolution not in RESOLUTIONS:
        raise ValueError(f"resolution must be a multiple of 4 in 128..224, or null for none, got {resolution}")
    if stem_stride not in (1, 2):
        raise ValueError(f"stem_stride must be 1 or 2, got {stem_stride}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


@lru_cache(maxsize=16)
def count_parts(
    choices: tuple[tuple[int, ...], tuple[int, ...]],
    width: float,
    num_classes: int,
    image_shape: ImageShape,
    stem_stride: int,
) -> tuple[Tensor, Tensor]:
    """Count, in closed form, what all networks share and what each layer of the supernet may be.

    Args:
        choices: of the kernel and of the expansion of a layer.
        width: multiplier of all channels.
        num_classes: logits.
        image_shape: channels, height and width of the images.
        stem_stride: stride of the first convolution.

    Returns:
        parameters and multiply-accumulates, int64 ``(2,)`` and ``(20, pairs, 2)``, pairs of kernel and expansion in the
        order of ``itertools.product``.
    """
    deepest, places = [LAYERS_PER_STAGE] * len(STAGE_CHANNELS), LAYERS_PER_STAGE * len(STAGE_CHANNELS)
    plans = [
        plan_layers(deepest, [kernel] * places, [expansion] * places, width)
        for kernel in choices[0]
        for expansion in choices[1]
    ]
    grid = Grid(*image_shape[1:]).shrunk(stem_stride)
    first = plans[0][0]
    rest = convolution(image_shape[0], first.in_channels, 3, grid.pixels) + count_layer(first, grid)
    rows = []
    for place in range(1, places + 1):
        rows.append([count_layer(plan[place], grid) for plan in plans])
        grid = grid.shrunk(plans[0][place].stride)
    final, last = round_channels(FINAL_CHANNELS * width), round_channels(LAST_CHANNELS * width)
    rest += convolution(plans[0][-1].out_channels, final, 1, grid.pixels)
    rest += convolution(final, last, 1, 1, norm=False) + linear(last, num_classes)
    return rest.stacked(), table(rows)


class MobileNetV3Network(InvertedResidualNetwork):
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
        super().__init__(layers, resolution)
        self.width = width
        final, last = round_channels(FINAL_CHANNELS * width), round_channels(LAST_CHANNELS * width)
        stem = nn.Conv2d(in_channels, layers[0].in_channels, 3, stem_stride, padding=1, bias=False)
        self.first_conv = normed(stem, "hswish")
        self.final_expand_layer = normed(nn.Conv2d(layers[-1].out_channels, final, 1, bias=False), "hswish")
        self.feature_mix_layer = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(final, last, 1, bias=False), act=nn.Hardswish())
        )
        self.classifier = nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(last, num_classes)))

    def tail(self, x: Tensor) -> Tensor:
        """Expand, pool and mix; see :meth:`InvertedResidualNetwork.tail`."""
        x = self.final_expand_layer(x)
        out: Tensor = self.feature_mix_layer(x.mean((2, 3), keepdim=True)).flatten(1)
        return out
