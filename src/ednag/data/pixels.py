"""Images as tensors: one size, eight bits."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF


def content_digest(pixels: Tensor, labels: Tensor) -> str:
    """Sha256 of the shape and the bytes of pixels, and of the bytes of labels; hexadecimal."""
    content = hashlib.sha256(str(tuple(pixels.shape)).encode())
    for part in (pixels, labels):
        content.update(part.contiguous().numpy().data)
    return content.hexdigest()


def fit_square(images: Tensor, size: int) -> Tensor:
    """Scale the shorter side of images ``(*B, C, H, W)`` to ``size`` and keep the centre, ``(*B, C, size, size)``."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    out: Tensor = TF.center_crop(TF.resize(images, [size], antialias=True), [size, size])
    return out


def to_bytes(pixels: Tensor, low: float, high: float) -> Tensor:
    """Stretch pixels from ``low .. high`` over the range of 8 bits; uint8 stays as it is."""
    if pixels.dtype == torch.uint8:
        return pixels
    return ((pixels.float() - low) * (255 / max(high - low, 1e-9))).round().clamp(0, 255).to(torch.uint8)
