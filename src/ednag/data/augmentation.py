"""Augmentation of whole batches of 8-bit images, on whatever device they are on.

Images are uint8 ``(B, C, H, W)`` in any memory layout. One call draws one set of random numbers for each image, so a
batch costs a handful of tensor operations rather than ``B`` chains of image transforms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; the recipe of NAS-Bench-201 by default (Dong & Yang 2020, table 2).

    Attributes:
        crop_padding: black pixels added on every side before a crop of the original size at a random place; 0 for none.
        flip: mirror left to right with probability one half.
        cutout: side in pixels of a square, at a random centre, that is set to the mean colour (DeVries & Taylor 2017,
            where it may leave the image in part); 0 for none. DARTS uses 16 on CIFAR.
    """

    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.crop_padding < 0 or self.cutout < 0:
            raise ValueError(f"crop_padding and cutout must be >= 0 pixels, got {self.crop_padding} and {self.cutout}")


def crop_and_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Crop each image at a random place of its padded self and mirror it with probability one half.

    Args:
        images: uint8 ``(B, C, H, W)``.
        padding: black pixels on every side.
        flip: whether to mirror at all.
        generator: source of randomness on the images' device.

    Returns:
        a tensor like ``images``, in channels-last memory layout.
    """
    batch, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(batch, height)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator, device=images.device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    if padding:
        shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=images.device)
        rows, columns = rows + shift[0], columns + shift[1]
    pixels = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    first = torch.arange(batch, device=images.device)[:, None, None]
    return pixels[first, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square of each image to zero, which is the mean colour once images are normalised.

    Args:
        images: normalised, floating ``(B, C, H, W)``.
        side: side of the square in pixels; its centre is uniform over the image, so part of it may fall outside.
        generator: source of randomness on the images' device.
    """
    batch, _, height, width = images.shape
    keep_row = _outside(batch, height, side, images.device, generator)[:, None, :, None]
    keep_column = _outside(batch, width, side, images.device, generator)[:, None, None, :]
    return images * (keep_row | keep_column)


def _outside(batch: int, length: int, side: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Mark the positions outside an interval of ``side`` pixels around a random centre, bool ``(batch, length)``."""
    start = torch.randint(0, length, (batch, 1), generator=generator, device=device) - side // 2
    place = torch.arange(length, device=device)
    return (place < start) | (place >= start + side)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn 8-bit images into floats with zero mean and unit deviation a channel.

    Args:
        images: uint8 ``(B, C, H, W)``.
        mean: ``(C,)``, in units of the full range (0 to 1).
        std: ``(C,)``, likewise, positive.

    Returns:
        float32 ``(B, C, H, W)``.
    """
    scale = (1.0 / (255.0 * std)).view(-1, 1, 1)
    return images.float().mul_(scale).sub_((mean / std).view(-1, 1, 1))
