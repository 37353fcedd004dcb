"""Augmentation of whole batches of 8-bit images, on whatever device they are on.

Images are uint8 ``(B, C, H, W)`` in any memory layout. One call draws one set of random numbers for each image, so a
batch costs a handful of tensor operations rather than ``B`` chains of image transforms.
"""

from __future__ import annotations

import math
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
        min_area: for photographs, instead of the padded crop: least share of the image that a crop covers, of an aspect
            ratio from 3/4 to 4/3, scaled to the whole size (Szegedy et al. 2015); 1 for no such crop.
        colour: brightness, contrast and saturation are multiplied by numbers up to this far from 1; 0 for none.
        rand_augment: strength, 1 to 30, of two operations that RandAugment (Cubuk et al. 2020) draws for each image, such
            as rotation, shear, sharpness and solarisation; 0 for none. Torchvision's, in its 31 steps of strength.
    """

    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0
    min_area: float = 1.0
    colour: float = 0.0
    rand_augment: int = 0

    def __post_init__(self) -> None:
        if self.crop_padding < 0 or self.cutout < 0:
            raise ValueError(f"crop_padding and cutout must be >= 0 pixels, got {self.crop_padding} and {self.cutout}")
        if not 0 < self.min_area <= 1 or not 0 <= self.colour < 1:
            raise ValueError(f"min_area must be in (0, 1] and colour in [0, 1), got {self.min_area} and {self.colour}")
        if not 0 <= self.rand_augment <= 30:
            raise ValueError(f"rand_augment must be a strength from 0 (none) to 30, got {self.rand_augment}")
        if self.min_area < 1 and self.crop_padding:
            raise ValueError(
                f"images are cropped in one way: crop_padding 0 with min_area {self.min_area}, or min_area 1 with "
                f"crop_padding {self.crop_padding}"
            )


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


def resized_crop(images: Tensor, min_area: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Scale a random part of each image to the whole size, and mirror it with probability one half.

    Args:
        images: ``(B, C, H, W)``.
        min_area: the part's share of the image is uniform from this to 1; its aspect ratio is log-uniform from 3/4 to 4/3.
        flip: whether to mirror at all.
        generator: source of randomness on the images' device.

    Returns:
        float32 ``(B, C, H, W)``, bilinear.
    """
    u = torch.rand(5, len(images), generator=generator, device=images.device)
    area = min_area + (1 - min_area) * u[0]
    ratio = torch.exp((2 * u[1] - 1) * math.log(4 / 3))
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    x, y = (1 - width) * (2 * u[2] - 1), (1 - height) * (2 * u[3] - 1)
    sign = torch.where((u[4] < 0.5) & torch.tensor(flip, device=images.device), -1.0, 1.0)
    zero = torch.zeros_like(x)
    view = torch.stack([torch.stack([sign * width, zero, x], -1), torch.stack([zero, height, y], -1)], 1)
    grid = F.affine_grid(view, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of each image by random factors, in that order.

    Args:
        images: ``(B, C, H, W)`` of 0 to 255; images of other than three channels have no saturation.
        strength: factors are uniform from ``1 - strength`` to ``1 + strength``.
        generator: source of randomness on the images' device.

    Returns:
        float32 of 0 to 255.
    """
    u = torch.rand(3, len(images), 1, 1, 1, generator=generator, device=images.device)
    brightness, contrast, saturation = 1 + strength * (2 * u - 1)
    x = (images.float() * brightness).clamp(0, 255)
    x = _blend(x, _grey(x).mean((1, 2, 3), keepdim=True), contrast)
    return _blend(x, _grey(x), saturation) if x.shape[1] == 3 else x


def rand_augment(images: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Apply two random operations of RandAugment (Cubuk et al. 2020) to each image.

    Args:
        images: ``(B, C, H, W)`` of 0 to 255, one or three channels.
        strength: of the operations, from 0 to 30.
        generator: source of randomness on the images' device.

    Returns:
        uint8.
    """
    from torchvision.transforms import v2

    operations = v2.RandAugment(num_ops=2, magnitude=strength)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torchvision draws from the global generator of the CPU
        plain = images.round().clamp(0, 255).to(torch.uint8) if images.is_floating_point() else images
        return torch.stack([operations(image) for image in plain])


def _blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Move images away from others (share above 1) or towards them, within 0 to 255."""
    return (others + share * (images - others)).clamp(0, 255)


def _grey(images: Tensor) -> Tensor:
    """Luma of images (ITU-R BT.601), ``(B, 1, H, W)``; the mean if there are other than three channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weight = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(3, 1, 1)
    return (images * weight).sum(1, keepdim=True)


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
    """Turn 8-bit images into floats with zero mean and unit deviation per channel.

    Args:
        images: uint8 ``(B, C, H, W)``.
        mean: ``(C,)``, in units of the full range (0 to 1).
        std: ``(C,)``, likewise, positive.

    Returns:
        float32 ``(B, C, H, W)``.
    """
    scale = (1.0 / (255.0 * std)).view(-1, 1, 1)
    return images.float().mul_(scale).sub_((mean / std).view(-1, 1, 1))
