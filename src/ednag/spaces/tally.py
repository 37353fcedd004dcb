"""Parameters and multiply-accumulates of layers in closed form, to count networks without building them.

Numbers are integers, or int64 tensors of as many architectures. What is counted is what :func:`ednag.costs.count_costs`
counts of built layers: convolutions and linear layers, with an addition for each output where they have a bias;
normalisation has parameters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Number = int | Tensor

ImageShape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Tally:
    """Costs of some layers; they add up, and a number of equal ones is a multiple.

    Attributes:
        params: parameters.
        macs: multiply-accumulates for one image.

    Examples:
        >>> Tally(27, 27) + 2 * Tally(10, 0)
        Tally(params=47, macs=27)
    """

    params: Number = 0
    macs: Number = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.params + other.params, self.macs + other.macs)

    def __rmul__(self, times: Number) -> Tally:
        return Tally(times * self.params, times * self.macs)

    def stacked(self) -> Tensor:
        """Parameters and multiply-accumulates, int64 ``(*B, 2)``."""
        params, macs = torch.as_tensor(self.params), torch.as_tensor(self.macs)
        return torch.stack([params + 0 * macs, macs + 0 * params], -1)


def convolution(
    inputs: Number, outputs: Number, kernel: int, pixels: Number, depthwise: bool = False, norm: bool = True
) -> Tally:
    """Count a square convolution without a bias, and the batch normalisation behind it.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side of the kernel.
        pixels: of the output.
        depthwise: whether each channel is convolved by itself.
        norm: whether it is normalised.

    Examples:
        >>> convolution(3, 8, 3, 16 * 16, norm=False)
        Tally(params=216, macs=55296)
    """
    weights = outputs * kernel**2 if depthwise else inputs * outputs * kernel**2
    return Tally(weights + (2 * outputs if norm else 0), weights * pixels)


def linear(inputs: Number, outputs: Number) -> Tally:
    """Count a linear layer with a bias; a 1x1 convolution with a bias on one pixel is one, too."""
    weights = (inputs + 1) * outputs
    return Tally(weights, weights)


def normalisation(channels: Number) -> Tally:
    """Count a batch normalisation."""
    return Tally(2 * channels)


def total(parts: Sequence[Tally]) -> Tally:
    """Add tallies."""
    return sum(parts, Tally())


def table(tallies: Sequence[Sequence[Tally]]) -> Tensor:
    """Tabulate rows of tallies, int64 ``(rows, columns, 2)``, to be added up by index."""
    return torch.tensor([[(one.params, one.macs) for one in row] for row in tallies])


@dataclass(frozen=True)
class Grid:
    """Size of a feature map.

    Examples:
        >>> Grid(33, 20).shrunk(2)
        Grid(height=17, width=10)
    """

    height: Number
    width: Number

    @property
    def pixels(self) -> Number:
        """Number of pixels."""
        return self.height * self.width

    def shrunk(self, stride: Number) -> Grid:
        """Divide by a stride, rounding up, as padded convolutions do."""
        return Grid(-(-self.height // stride), -(-self.width // stride))
