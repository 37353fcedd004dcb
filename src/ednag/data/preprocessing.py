"""How an image becomes a network's input: written down once, and the same in training, in Python and in ONNX."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ednag.data.augmentation import normalise
from ednag.data.decoding import Levels, plain_image, read_image

CropMode = Literal["center", "squash"]
"""``center`` scales the shorter side and keeps the centre, ``squash`` scales both sides."""

WORDS = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
"""Words of a description without which images can't be prepared."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image file, in the words of timm's ``pretrained_cfg`` where it has them.

    The image is turned upright as its EXIF orientation says, transparent parts are put on white, more than 8 bits are
    scaled between ``levels``, and colours become RGB or shades of grey. Then Pillow scales it bilinearly (which
    smooths where it reduces), the centre is cut out, and each channel is normalised from 0..1 by its mean and standard
    deviation.

    Attributes:
        image_size: height and width of the input in pixels.
        channels: 3 for RGB, 1 for shades of grey.
        mean: of each channel, in 0..1; empty until it is known.
        std: likewise, positive.
        crop_mode: see :data:`CropMode`.
        crop_pct: share of the scaled image's shorter side that is kept, in (0, 1].
        levels: black and white of images of more than 8 bits; found in each image itself if omitted.

    Examples:
        >>> how = Preprocessing(image_size=(32, 32), channels=1, mean=(0.5,), std=(0.25,), crop_pct=0.8)
        >>> how.scaled_size(width=100, height=50)
        (80, 40)
        >>> how.pixels(np.zeros((50, 100), dtype=np.uint8)).shape
        torch.Size([1, 32, 32])
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_mode: CropMode = "center"
    crop_pct: float = 1.0
    levels: Levels | None = None

    def __post_init__(self) -> None:
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], got {self.crop_pct}")

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image is scaled to before its centre is cut out."""
        down, across = (round(side / self.crop_pct) for side in self.image_size)
        if self.crop_mode == "squash":
            return across, down
        if down * width >= across * height:
            return down * width // height, down
        return across, across * height // width

    def fit(self, image: Image.Image) -> Image.Image:
        """Scale an upright image and cut out its centre."""
        width, height = self.scaled_size(*image.size)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        down, across = self.image_size
        left, top = round((width - across) / 2), round((height - down) / 2)
        return image if (width, height) == (across, down) else image.crop((left, top, left + across, top + down))

    def fit_pixels(self, pixels: Tensor) -> Tensor:
        """Scale and cut one image, uint8 ``(C, H, W)`` to ``(C, *image_size)``."""
        if tuple(pixels.shape[1:]) == self.image_size:
            return pixels
        return _to_tensor(self.fit(_to_image(pixels)))

    def read(self, path: Path, least: int | None = None) -> Tensor:
        """Read a file as the 8-bit pixels of an input, uint8 ``(C, *image_size)``.

        Args:
            path: the image.
            least: see :func:`ednag.data.decoding.read_image`.

        Raises:
            ValueError: if it can't be read; the message names it.
        """
        return self.fit_pixels(read_image(path, self.channels == 1, least, self.levels))

    def pixels(self, image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
        """Turn an image in any form into the 8-bit pixels of an input, uint8 ``(C, *image_size)``.

        Args:
            image: a path, a Pillow image, or an array: uint8 ``(H, W)`` or ``(H, W, C)`` if it is numpy's, ``(C, H, W)``
                if it is a tensor.

        Raises:
            ValueError: for other arrays, or a file that can't be read.
        """
        if isinstance(image, (str, Path)):
            return self.read(Path(image))
        if isinstance(image, Tensor):
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
                raise ValueError(
                    f"an image tensor must be uint8 (C, H, W) with 1 or 3 channels, got {image.dtype} {tuple(image.shape)}"
                )
            image = _to_image(image.cpu())
        elif isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)  # a copy
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,), (4,)):
                raise ValueError(f"an image array must be uint8 (H, W) or (H, W, C), got {image.dtype} {image.shape}")
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        return _to_tensor(self.fit(plain_image(image, self.channels == 1, self.levels)))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise 8-bit pixels ``(B, C, H, W)`` to float32."""
        mean, std = (torch.tensor(values, device=pixels.device) for values in (self.mean, self.std))
        return normalise(pixels, mean, std)

    def describe(self) -> dict[str, Any]:
        """Everything as JSON; ``input_size`` to ``std`` are timm's words."""
        return {
            "input_size": [self.channels, *self.image_size],
            "interpolation": "bilinear",
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "mean": list(self.mean),
            "std": list(self.std),
            "channel_order": "RGB" if self.channels == 3 else "L",
            "orientation": "exif",
            "background": "white",
            "levels": None if self.levels is None else self.levels._asdict(),
        }

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`describe` wrote.

        Raises:
            ValueError: if words are missing: the images came from a data module that doesn't say how files become
                inputs.
        """
        missing = [word for word in WORDS if word not in words]
        if missing:
            raise ValueError(
                f"nothing says how image files become inputs (missing: {', '.join(missing)}): the network was trained "
                "on a data module without the attribute preprocessing"
            )
        channels, height, width = words["input_size"]
        levels = words.get("levels")
        return cls(
            (height, width),
            channels,
            tuple(words["mean"]),
            tuple(words["std"]),
            words["crop_mode"],
            words["crop_pct"],
            None if levels is None else Levels(**levels),
        )


def check_room(number: int, size: tuple[int, int], channels: int) -> None:
    """Refuse images that this machine can't hold in memory, before any is made.

    Args:
        number: of images.
        size: their height and width.
        channels: of each.

    Raises:
        ValueError: if they would take more than all of the memory.
    """
    needed = number * size[0] * size[1] * channels
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > whole:
        raise ValueError(
            f"{number:,} images of {size[0]:,} x {size[1]:,} pixels take {needed / 2**30:,.0f} GiB, and this machine has "
            f"{whole / 2**30:,.0f}; choose a smaller image_size"
        )


def fit_arrays(pixels: Tensor, size: int) -> Tensor:
    """Scale images of one shape, uint8 ``(n, H, W, C)`` to ``(n, size, size, C)``, as ``squash`` does."""
    if tuple(pixels.shape[1:3]) == (size, size):
        return pixels
    check_room(len(pixels), (size, size), pixels.shape[-1])
    squash = Preprocessing((size, size), pixels.shape[-1], crop_mode="squash")
    return torch.stack([squash.fit_pixels(one.permute(2, 0, 1)).permute(1, 2, 0) for one in pixels])


def _to_image(pixels: Tensor) -> Image.Image:
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _to_tensor(image: Image.Image) -> Tensor:
    array = torch.from_numpy(np.array(image))
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)
