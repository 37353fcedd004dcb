"""Members of a space, run inside their parent: they learn its weights with it, before anything is cut out of it.

A network whose parts were trained with it loses less when it is cut (Yu & Huang 2019, "Universally slimmable networks and improved
training techniques"; Cai et al. 2020, "Once-for-all").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ednag.spaces.inverted_residual import InvertedResidual, InvertedResidualNetwork, Layer


def run_inside(parent: InvertedResidualNetwork, layers: Sequence[Layer], images: Tensor) -> Tensor:
    """Map images to logits by what a parent has in common with one of its members.

    Of each layer, the first inner channels are used, as many as the member has; of the others only the mean over the batch
    is, which is what adapting a cut to images (:mod:`ednag.spaces.adaptation`) keeps of them. Layers that the member lacks are skipped
    where they add to their input. Resolution, kernels, the exit and what follows the last layer are the parent's.

    Args:
        parent: its inner channels are sorted by importance, as :class:`~ednag.spaces.adaptation.Adaptation` leaves them.
        layers: the member's, see :meth:`~ednag.spaces.inheritance.InheritingSpace.plan`.
        images: ``(batch, C, h, w)``.

    Returns:
        ``(batch, num_classes)``.
    """
    widths = {layer.place: layer.inner for layer in layers}
    x: Tensor = parent.first_conv(parent.scale(images))
    for stage in parent.stages():
        for layer, block in stage:
            if layer.place in widths or not block.residual:
                x = _narrow(block, x, widths.get(layer.place, layer.inner))
    out: Tensor = parent.classifier(parent.tail(x))
    return out


def _narrow(block: InvertedResidual, x: Tensor, width: int) -> Tensor:
    """Run a layer with its first inner channels, and the means of the others."""
    out = x
    for name, part in block.conv.named_children():
        out = part(out)
        if name == "depth_conv" and width < out.shape[1]:
            rest = out[:, width:]
            out = torch.cat([out[:, :width], rest.mean((0, 2, 3), keepdim=True).expand_as(rest)], 1)
    return out + x if block.residual else out
