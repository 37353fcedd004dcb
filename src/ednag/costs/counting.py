"""Count the parameters and multiply-accumulates of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Costs:
    """Costs of one network.

    Attributes:
        params: trainable and frozen parameters, shared ones once.
        macs: multiply-accumulates for one image; what NAS-Bench-201 and most papers of the field call FLOPs.
        latency_ms: milliseconds for one batch, ``None`` where neither measured nor looked up.

    Examples:
        >>> Costs(params=81090, macs=2738506)
        Costs(params=81090, macs=2738506, latency_ms=None)
    """

    params: int
    macs: int
    latency_ms: float | None = None


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Switch a network to eval mode, and restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes:
            module.training = mode


def count_costs(network: nn.Module, input_shape: tuple[int, int, int]) -> Costs:
    """Count the parameters and multiply-accumulates of a network by one forward pass of a zero image.

    Counted as by NAS-Bench-201 (Dong & Yang 2020), so that its table is met exactly: convolutions and linear layers,
    an addition for each output where they have a bias; no normalisation, pooling or activation. A layer that is run
    twice counts twice; one that is built but never run counts as parameters only. The network may live on the
    ``meta`` device, where nothing is computed; its training flags and statistics stay as they are.

    Args:
        network: maps ``(1, *input_shape)`` to anything.
        input_shape: channels, height and width.

    Returns:
        costs without a latency.

    Examples:
        >>> count_costs(nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 32, 32))
        Costs(params=216, macs=221184, latency_ms=None)
    """
    macs = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += layer_macs(module, output)

    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, nn.Linear))]
    handles: list[RemovableHandle] = [layer.register_forward_hook(count) for layer in layers]
    like = next(network.parameters(), torch.empty(0))
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return Costs(params=sum(p.numel() for p in network.parameters()), macs=macs)


def layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of a convolution or linear layer for the output it made.

    Args:
        layer: a convolution (any dimension, stride, dilation, groups; not a transposed one) or a linear layer.
        output: ``(batch, out_channels, ...)``, or ``(..., out_features)`` of a linear layer.

    Raises:
        ValueError: for a transposed convolution, which this count doesn't know.
    """
    if isinstance(layer, nn.Linear):
        return output.numel() * (layer.in_features + (layer.bias is not None))
    if not isinstance(layer, _ConvNd) or layer.transposed:
        raise ValueError(f"multiply-accumulates of {type(layer).__name__} can't be counted; convolutions and linear")
    return output.numel() * (layer.weight[0].numel() + (layer.bias is not None))
