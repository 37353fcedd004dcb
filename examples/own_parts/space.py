"""A search space of one's own: plain chains of convolutions, in a package that ednag knows nothing of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ednag.spaces import SearchSpace

LAYERS = ("none", "conv3", "conv5", "pool")
WIDTHS = (8, 16, 32)
PLACES = 5


class Chain(SearchSpace):
    """Five places for a layer each, and a width: genes 0..4 index ``LAYERS``, gene 5 indexes ``WIDTHS``."""

    name = "chain"
    cardinalities = (len(LAYERS),) * PLACES + (len(WIDTHS),)

    def identity(self, genes: Tensor) -> Tensor:
        """Layers that are missing make no difference, wherever they are: move them to the end, then number."""
        layers = genes[..., :PLACES]
        order = (layers == 0).long().argsort(dim=-1, stable=True)
        return self.code(torch.cat([layers.gather(-1, order), genes[..., PLACES:]], -1))

    def describe(self, genes: Tensor) -> str:
        """Write a chain as ``16: conv3 pool conv5``."""
        *layers, width = self.check(genes).tolist()
        return " ".join([f"{WIDTHS[width]}:", *(LAYERS[layer] for layer in layers if layer)])

    def parse(self, text: str) -> Tensor:
        """Read what :meth:`describe` writes."""
        width, colon, names = text.partition(":")
        layers = names.split()
        known = width.isdecimal() and int(width) in WIDTHS and not set(layers) - set(LAYERS[1:])
        if not (colon and known and len(layers) <= PLACES):
            raise ValueError(f"not a chain: {text!r}. Expected WIDTH: up to {PLACES} of {', '.join(LAYERS[1:])}")
        layers += ["none"] * (PLACES - len(layers))
        return torch.tensor([*(LAYERS.index(name) for name in layers), WIDTHS.index(int(width))])

    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3, stem_stride: int = 1) -> nn.Sequential:
        """Build the chain behind a stem, and a classifier."""
        *layers, number = self.check(genes).tolist()
        width = WIDTHS[number]
        parts: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, stem_stride, padding=1), nn.ReLU()]
        for name in (LAYERS[layer] for layer in layers):
            if name == "pool":
                parts.append(nn.MaxPool2d(2, ceil_mode=True))
            elif name != "none":
                size = int(name[-1])
                conv = nn.Conv2d(width, width, size, padding=size // 2, bias=False)
                parts += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Describe the chain for a drawing."""
        names = [LAYERS[layer] for layer in genes[:PLACES].tolist() if layer]
        nodes = ["in", *map(str, range(1, len(names))), "out"]
        steps = list(zip(nodes[:-1], nodes[1:], names or [""], strict=True))
        return {f"width {WIDTHS[int(genes[-1])]}": steps}
