"""Networks and images for scoring: what an architecture is built into, and a batch of the task's images."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ednag.spaces import SearchSpace


@dataclass(frozen=True)
class ImageBatch:
    """Images of a task.

    Attributes:
        images: float32 ``(B, C, H, W)``, prepared as for a network.
        labels: int64 ``(B,)``.
        num_classes: number of labels of the task.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def check_options(space: SearchSpace, options: Mapping[str, int]) -> dict[str, int]:
    """Return options if the space's networks have them all.

    Args:
        space: whose :meth:`SearchSpace.build` gets the options.
        options: by name, e.g. ``{"channels": 16, "cells": 1}``.

    Raises:
        ValueError: for an option that the space doesn't know, naming those it knows.
    """
    fixed = {"genes", "num_classes", "in_channels"}
    parameters = inspect.signature(space.build).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.name not in fixed]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    for name in options:
        if name not in known:
            raise ValueError(
                f"networks of {space.name} have no option {name!r}; they have {', '.join(known) or 'none at all'}"
            )
    return dict(options)


def build_network(
    space: SearchSpace, genes: Tensor, num_classes: int, in_channels: int, options: Mapping[str, int], seed: int = 0
) -> nn.Module:
    """Build and initialise a network on the CPU, the same one whatever was drawn or built before.

    Args:
        space: what the genes mean.
        genes: int64 ``(L,)``.
        num_classes: number of logits.
        in_channels: channels of the images.
        options: further arguments of the space's ``build``.
        seed: of the initialisation; the global random state stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return space.build(genes, num_classes, in_channels=in_channels, **options)


def architecture_seed(seed: int, identity: int) -> int:
    """Mix a seed and an architecture's identity into the seed of its initialisation, in ``0 .. 2**63 - 1``."""
    digest = hashlib.sha256(f"{seed}/{identity}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def representative(space: SearchSpace, genes: Tensor) -> Tensor:
    """Swap each architecture for the member of its isomorphism class that its identity names, where it names one.

    Isomorphic architectures share one score, so it must not depend on which of them is asked for first. Where the
    identity is itself the code of a class member (as in NAS-Bench-201), that member stands for the class; elsewhere
    architectures stand for themselves.

    Args:
        space: what the genes mean.
        genes: int64 ``(n, L)``, in range.

    Returns:
        int64 ``(n, L)``.
    """
    identity = space.identity(genes)
    rest, digits = identity, []
    for cardinality in reversed(space.cardinalities):
        digits.append(rest % cardinality)
        rest = rest // cardinality
    named = torch.stack(digits[::-1], -1)
    fits = (rest == 0) & space.valid(named)
    fits[fits.clone()] = space.identity(named[fits]) == identity[fits]
    return torch.where(fits[:, None], named, genes)


def image_batch(data: pl.LightningDataModule, count: int, device: torch.device | str = "cpu") -> ImageBatch:
    """Take the first images of a data module's training loader, normalised but not augmented.

    The loader may shuffle: the global random state is seeded while it runs and restored afterwards, so that the same
    module gives the same images each time. The module's ``on_after_batch_transfer`` prepares the batch; outside
    training, it is expected not to augment.

    Args:
        data: yields pairs of images and labels, and says how many labels there are (``num_classes``).
        count: how many images; fewer where the loader has fewer.
        device: where the images go.

    Returns:
        normal tensors, usable for gradients even when this is called in inference mode.

    Raises:
        ValueError: if there are no images, the batches are not pairs, or ``num_classes`` is missing.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        data.prepare_data()
        data.setup("fit")
        found: list[tuple[Tensor, Tensor]] = []
        for batch in data.train_dataloader():
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"{type(data).__name__} must yield (images, labels), got {type(batch).__name__}")
            moved = [part.to(device) for part in batch]
            images, labels = data.on_after_batch_transfer(tuple(moved), 0)
            found.append((images.clone(), labels.clone()))
            if sum(len(some) for some, _ in found) >= count:
                break
        if not found:
            raise ValueError(f"{type(data).__name__} has no training images")
        num_classes = getattr(data, "num_classes", None)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"{type(data).__name__} must have num_classes after setup, got {num_classes!r}")
        images = torch.cat([some for some, _ in found])[:count]
        images = images.float() if images.is_floating_point() else images.float() / 255
        return ImageBatch(images, torch.cat([labels for _, labels in found])[:count], num_classes)


def image_shape(data: pl.LightningDataModule) -> tuple[tuple[int, int, int], int]:
    """Tell the shape ``(C, H, W)`` of a data module's images and the number of labels.

    Nothing is read where the module knows ``num_classes``, ``in_channels`` and ``image_size`` (a side) by now; else the
    first training batch tells, see :func:`image_batch`.
    """
    told = [getattr(data, name, None) for name in ("num_classes", "in_channels", "image_size")]
    classes, channels, side = (value if isinstance(value, int) else 0 for value in told)
    if min(classes, channels, side) > 0:
        return (channels, side, side), classes
    batch = image_batch(data, 1)
    return batch.shape, batch.num_classes
