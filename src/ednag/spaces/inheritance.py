"""Weights that sub-networks inherit: cut out of a parent's, whose inner channels are sorted by importance."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from ednag.spaces.base import SearchSpace
from ednag.spaces.inverted_residual import InvertedResidualNetwork, Layer


class Parent:
    """The weights of the network that sub-networks are cut from.

    Args:
        state: tensors by the names that the largest network gives them.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = dict(state)

    def weights(self, network: InvertedResidualNetwork) -> dict[str, Tensor]:
        """Cut a sub-network's weights out: of each tensor the front part, as far as the sub-network has channels.

        Returns:
            copies by the sub-network's own names; what the parent lacks is left out.
        """
        names, found = _source_names(network), {}
        for name, target in network.state_dict().items():
            source = self.state.get(names[name])
            if source is None or not self.suits(name, target):
                continue
            if name == "first_conv.conv.weight":
                source = for_channels(source, target.shape[1])
            front = source[tuple(slice(size) for size in target.shape[:2])]
            if front.dim() == 4 and front.shape[-1] > target.shape[-1]:
                front = self.shrink(front, names[name].removesuffix("weight"), target.shape[-1])
            found[name] = front.to(target.dtype).clone()
        return found

    def suits(self, name: str, target: Tensor) -> bool:
        """Return whether a tensor of a sub-network is inherited at all; all are here."""
        return True

    def shrink(self, kernels: Tensor, prefix: str, size: int) -> Tensor:
        """Make smaller kernels of ``(channels, 1, k, k)``: their centres, here.

        Args:
            kernels: the parent's.
            prefix: what their name begins with, up to ``weight``.
            size: side of the smaller ones.
        """
        edge = (kernels.shape[-1] - size) // 2
        return kernels[..., edge : edge + size, edge : edge + size]

    def copy(self, state: Mapping[str, Tensor]) -> Self:
        """Make a parent like this one of other tensors."""
        return type(self)(state)

    def trained(self, largest: InvertedResidualNetwork) -> Self:
        """Make a parent of the largest network after a training, whose classifier no other network inherits."""
        state = {name: value for name, value in largest.state_dict().items() if not name.startswith("classifier.")}
        return self.copy({**self.state, **state})

    def reordered(self, orders: Mapping[int, Tensor]) -> Self:
        """Sort the inner channels of layers; the largest network computes the same as before.

        Args:
            orders: for each layer, by its place, the channels in their new order, int64 ``(inner,)``.
        """
        state = dict(self.state)
        for place, order in orders.items():
            block = f"blocks.{place}.conv."
            for part, dim in _INNER:
                reorder(state, f"{block}{part}", order, dim)
        return self.copy(state)


_INNER = (
    ("inverted_bottleneck.", 0),
    ("depth_conv.conv.weight", 0),
    ("depth_conv.bn.", 0),
    ("depth_conv.se.fc.expand.", 0),
    ("depth_conv.se.fc.reduce.weight", 1),
    ("point_linear.conv.weight", 1),
)
"""Tensors of a layer that have its inner channels, and in which dimension."""


class InheritingSpace(SearchSpace):
    """A space whose networks are sub-networks of one parent with weights."""

    normalisation: dict[str, list[float]]
    """``{"mean": [...], "std": [...]}`` of images, of each of three channels, that the parent was trained with."""

    @property
    def inherited(self) -> dict[str, str]:
        """Say whose weights they are: ``name``, ``licence`` and ``source``, for a model card; empty if that isn't known."""
        return {}

    @property
    @abstractmethod
    def largest(self) -> Tensor:
        """Genes of the parent itself, int64 ``(L,)``."""

    @abstractmethod
    def parent(self) -> Parent:
        """Read the parent's weights.

        Raises:
            ImportError: if they come in a package that is not installed, with the command that installs it.
            FileNotFoundError: if their file is missing.
        """

    @abstractmethod
    def plan(self, genes: Tensor) -> list[Layer]:
        """List the layers of a sub-network, int64 ``(L,)``."""

    @abstractmethod
    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3) -> InvertedResidualNetwork:
        """Build a sub-network; see :meth:`SearchSpace.build`."""


def for_channels(stem: Tensor, channels: int) -> Tensor:
    """Adapt the weights of a first convolution ``(out, 3, k, k)`` to images of another number of channels.

    Each channel gets the mean over the three, scaled so that an image of equal channels gives the same.
    """
    if stem.shape[1] == channels:
        return stem
    return stem.mean(1, keepdim=True).expand(-1, channels, -1, -1) * (stem.shape[1] / channels)


def expected_importance(parent: Parent, places: Mapping[int, float]) -> dict[int, Tensor]:
    """Order inner channels by what batch normalisation says of them, without an image.

    Importance is the root mean square of a channel's activation, were it normally distributed with the mean and deviation
    that its normalisation gives it and clipped to ``0..6`` (ReLU6), times the norm of the weights that read it.

    Args:
        parent: its weights.
        places: layers, and the ``eps`` of their normalisation.

    Returns:
        for each layer its channels, the most important first, int64 ``(inner,)``.
    """
    orders = {}
    for place, eps in places.items():
        block = f"blocks.{place}.conv."
        norm = f"{block}depth_conv.bn."
        mean, deviation = parent.state[f"{norm}bias"], parent.state[f"{norm}weight"].abs().clamp_min(1e-9)
        orders[place] = descending(clipped_rms(mean, deviation) * reading_norm(parent.state, block, eps))
    return orders


def reading_norm(state: Mapping[str, Tensor], block: str, eps: float) -> Tensor:
    """Norm of the weights that read each inner channel of a layer, normalisation included, ``(inner,)``."""
    weight, norm = state[f"{block}point_linear.conv.weight"].flatten(1), f"{block}point_linear.bn."
    scale = state[f"{norm}weight"] / (state[f"{norm}running_var"] + eps).sqrt()
    norms: Tensor = torch.linalg.vector_norm(weight * scale[:, None], dim=0)
    return norms


def clipped_rms(mean: Tensor, deviation: Tensor, high: float = 6.0) -> Tensor:
    """Root mean square of ``min(max(x, 0), high)`` for normally distributed ``x``, in closed form."""
    low, top = -mean / deviation, (high - mean) / deviation

    def density(z: Tensor) -> Tensor:
        return torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)

    inside = torch.special.ndtr(top) - torch.special.ndtr(low)
    first = density(low) - density(top)  # E[z; inside]
    second = inside + low * density(low) - top * density(top)  # E[z^2; inside]
    square = mean.square() * inside + 2 * mean * deviation * first + deviation.square() * second
    out: Tensor = (square + high**2 * (1 - torch.special.ndtr(top))).clamp_min(0).sqrt()
    return out


def descending(importance: Tensor) -> Tensor:
    """Places of the largest values first, ties by place, int64."""
    return importance.argsort(descending=True, stable=True)


def _source_names(network: InvertedResidualNetwork) -> dict[str, str]:
    """Name of each of the network's tensors in the parent: layers that shallow stages lack leave gaps."""
    places = {str(index): str(layer.place) for index, layer in enumerate(network.layers)}
    names = {}
    for name in network.state_dict():
        head, _, rest = name.partition(".")
        block, _, tail = rest.partition(".")
        names[name] = f"blocks.{places[block]}.{tail}" if head == "blocks" else name
    return names


def reorder(state: dict[str, Tensor], prefix: str, order: Tensor, dim: int) -> None:
    """Reorder one dimension of every tensor whose name begins so, scalars aside."""
    for name in [name for name in state if name.startswith(prefix) and state[name].dim() > dim]:
        state[name] = state[name].index_select(dim, order)
