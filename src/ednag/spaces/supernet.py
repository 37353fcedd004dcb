"""The weights of a once-for-all MobileNetV3 supernet (Cai et al. 2020), and those of its sub-networks.

The layout is that of the published files (``ofa_mbv3_d234_e346_k357_w1.0`` and ``w1.2``): weights of the largest network,
whose inner channels are sorted by importance, and for each layer two matrices that turn a 7x7 kernel into a 5x5 one and
that into a 3x3 one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ednag.core.storage import load_state
from ednag.spaces.inheritance import Parent, descending, reorder
from ednag.spaces.inverted_residual import InvertedResidualNetwork, round_channels
from ednag.spaces.mobilenetv3_network import (
    LAYERS_PER_STAGE,
    STAGE_CHANNELS,
    STEM_CHANNELS,
    WIDTHS,
    MobileNetV3Network,
    plan_layers,
)

log = logging.getLogger(__name__)

PLACES = len(STAGE_CHANNELS) * LAYERS_PER_STAGE
"""Layers of the supernet, without the fixed one."""

CLASSIFIER = ("classifier.linear.weight", "classifier.linear.bias")
"""Weights that fit only a network with the supernet's classes (1,000 of ImageNet)."""

_MATRICES = {"7to5_matrix": 25, "5to3_matrix": 9}
_SYNONYMS = (
    (re.compile(r"^module\."), ""),
    (re.compile(r"\.mobile_inverted_conv\."), ".conv."),
    (re.compile(r"\.(bn|linear)\.\1\."), r".\1."),
    (re.compile(r"\.conv\.conv\.weight$"), ".conv.weight"),
)
"""Names that differ between releases of the once-for-all program, and what stands for them here."""


class Supernet(Parent):
    """The weights of a once-for-all MobileNetV3 supernet.

    Args:
        state: tensors by name, as the once-for-all program saves them; names of its older and newer releases are known.

    Attributes:
        width: multiplier of the channels, 1.0 or 1.2.
        num_classes: of its classifier.

    Raises:
        ValueError: if a tensor is missing, or of another shape than in a supernet of that width.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__({_common_name(name): value for name, value in state.items()})
        self.width = _find_width(self.state)
        self.num_classes = len(self.state.get(CLASSIFIER[1], ()))
        _check_shapes(self.state, self.width, self.num_classes)

    @classmethod
    def load(cls, path: str | Path) -> Supernet:
        """Read a checkpoint: the tensors themselves, or a dictionary with them under ``state_dict``.

        No code in the file runs (``weights_only``).

        Raises:
            FileNotFoundError: if it is absent.
            ValueError: if it is damaged or not such a supernet.
        """
        content: Any = load_state(Path(path))
        state = content.get("state_dict", content) if isinstance(content, dict) else None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError(f"{path} holds no tensors by name; expected the state_dict of a once-for-all supernet")
        try:
            return cls(state)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def sorted(self) -> Supernet:
        """Sort the inner channels of every layer by importance, as the once-for-all program does before it shrinks.

        Importance is the sum of absolute weights of the projection that reads the channel. The largest network computes
        the same; smaller ones keep the most important channels. Published supernets are sorted already.
        """
        blocks = {place: f"blocks.{place}.conv." for place in range(1, PLACES + 1)}
        orders = {place: _order(self.state[f"{block}point_linear.conv.weight"]) for place, block in blocks.items()}
        state = dict(self.reordered(orders).state)
        for squeeze in (f"{block}depth_conv.se.fc." for block in blocks.values()):
            if f"{squeeze}expand.weight" in state:
                inner = _order(state[f"{squeeze}expand.weight"])
                reorder(state, f"{squeeze}expand.weight", inner, 1)
                reorder(state, f"{squeeze}reduce.", inner, 0)
        return Supernet(state)

    def weights(self, network: InvertedResidualNetwork) -> dict[str, Tensor]:
        """Cut the weights of a sub-network out of the supernet's.

        Each tensor is the front part of the supernet's, as far as the sub-network has channels; kernels are the centre
        of the next larger one, flattened and multiplied by its matrix (Cai et al. 2020, section 3.3).

        Args:
            network: a sub-network of the same width, for images of three channels.

        Returns:
            tensors by the sub-network's own names, without the classifier's where the number of classes differs.

        Raises:
            ValueError: if the network is of another width, or takes other than three channels.
        """
        if not isinstance(network, MobileNetV3Network):
            raise ValueError(f"a supernet's weights are for networks of MobileNetV3, got {type(network).__name__}")
        if network.width != self.width:
            raise ValueError(
                f"the supernet is of width {self.width}, the network of width {network.width}; "
                f"use the checkpoint of width {network.width}, or MobileNetV3(width={self.width})"
            )
        channels = cast("nn.Conv2d", network.first_conv.conv).in_channels
        if channels != 3:
            raise ValueError(f"the supernet takes images of 3 channels, the network {channels}")
        return super().weights(network)

    def suits(self, name: str, target: Tensor) -> bool:
        """Leave out a classifier of other classes."""
        return name not in CLASSIFIER or len(target) == self.num_classes

    def shrink(self, kernels: Tensor, prefix: str, size: int) -> Tensor:
        """Turn 7x7 kernels ``(channels, 1, 7, 7)`` into smaller ones, one size after the other."""
        for smaller in (5, 3):
            if kernels.shape[-1] > size:
                matrix = self.state[f"{prefix}{smaller + 2}to{smaller}_matrix"]
                centre = kernels[..., 1:-1, 1:-1].flatten(2)
                kernels = (centre @ matrix.T.to(centre.dtype)).view(*centre.shape[:2], smaller, smaller)
        return kernels

    def load_into(self, network: MobileNetV3Network) -> list[str]:
        """Give a sub-network its part of the supernet's weights; see :meth:`weights`.

        Returns:
            names of the parameters that keep their own values: the classifier's, where the classes differ.
        """
        found = self.weights(network)
        network.load_state_dict(found, strict=False)
        kept = [name for name, _ in network.named_parameters() if name not in found]
        log.info("supernet weights loaded; fresh: %s", ", ".join(kept) or "none")
        return kept


def _common_name(name: str) -> str:
    """Name a tensor as the sub-networks do."""
    for pattern, replacement in _SYNONYMS:
        name = pattern.sub(replacement, name)
    return name


def _find_width(state: dict[str, Tensor]) -> float:
    """Tell the width of a supernet by its first convolution."""
    stem = state.get("first_conv.conv.weight")
    widths = {round_channels(STEM_CHANNELS * width): width for width in WIDTHS}
    if stem is None or len(stem) not in widths:
        found = "none" if stem is None else f"one of {len(stem)} channels"
        expected = " or ".join(f"{channels} (width {width})" for channels, width in widths.items())
        raise ValueError(
            f"not a once-for-all MobileNetV3 supernet: expected a first convolution (first_conv) of {expected} "
            f"channels, found {found}"
        )
    return widths[len(stem)]


def _check_shapes(state: dict[str, Tensor], width: float, num_classes: int) -> None:
    """Compare a supernet with the largest network of its width."""
    layers = plan_layers([LAYERS_PER_STAGE] * len(STAGE_CHANNELS), [7] * PLACES, [6] * PLACES, width)
    with torch.device("meta"):
        network = MobileNetV3Network(layers, width, num_classes)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for place in range(1, PLACES + 1):
        for name, side in _MATRICES.items():
            expected[f"blocks.{place}.conv.depth_conv.conv.{name}"] = (side, side)
    for name, shape in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in state:
            raise ValueError(f"the supernet lacks {name}; expected a MobileNetV3 of depth 4, expansion 6 and kernel 7")
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)}, expected {shape} in a supernet of width {width}; "
                "supernets of other widths, depths or expansions don't fit"
            )


def _order(weight: Tensor) -> Tensor:
    """Order the channels that a convolution reads by the sum of absolute weights, the largest first."""
    return descending(weight.abs().sum((0, 2, 3)))
