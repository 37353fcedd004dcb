"""Inputs and weights by formula, the same for two programs' versions of a network whatever they call their layers."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SHOWN = 5
"""Logits of each image that are kept."""


def images(shape: "tuple[int, ...]") -> Tensor:
    """Smooth made-up images, about -1 to 1."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(0.37 * place) + torch.cos(0.011 * place + 1)).reshape(shape).div(2).float()


def used_layers(network: nn.Module, shape: "tuple[int, ...]") -> "list[nn.Module]":
    """Layers with weights, in the order in which they are first used."""
    order: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda layer, _: order.append(layer) if layer not in order else None)
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear, _BatchNorm))
    ]
    network.eval()
    with torch.no_grad():
        network(images(shape))
    for handle in handles:
        handle.remove()
    return order


def set_weights(network: nn.Module, shape: "tuple[int, ...]") -> None:
    """Give the ``k``-th layer that is used the weights of the formula for ``k``."""
    with torch.no_grad():
        for k, layer in enumerate(used_layers(network, shape)):
            for name, tensor in (("weight", layer.weight), ("bias", layer.bias)):
                if tensor is None:
                    continue
                wave = torch.cos(0.7 * torch.arange(tensor.numel(), dtype=torch.float64) + 1.3 * k).reshape(
                    tensor.shape
                )
                if isinstance(layer, _BatchNorm):
                    wave = 1 + 0.2 * wave if name == "weight" else 0.1 * wave
                elif name == "weight":
                    wave = wave * math.sqrt(2 / (tensor.numel() / len(tensor)))
                else:
                    wave = 0.1 * wave
                tensor.copy_(wave)


def outputs(network: nn.Module, shape: "tuple[int, ...]") -> "dict[str, list[list[float]]]":
    """First logits of the network of these weights: in train mode, and after that in eval mode."""
    set_weights(network, shape)
    out = {}
    with torch.no_grad():
        for mode in ("train", "eval"):
            network.train(mode == "train")
            out[mode] = [[round(value, 5) for value in row] for row in network(images(shape))[:, :SHOWN].tolist()]
    return out
