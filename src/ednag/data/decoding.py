"""Image files as 8-bit pixels: upright, opaque, and with the grey levels that the file has."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

DEEP_SUFFIXES = (".pgm", ".png", ".ppm", ".tif", ".tiff")
"""Endings of the files that can hold more than 8 bits a channel, in lower case."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its ending; it would run another program on some others, such as EPS."""

WHITE = (1, 255, 1023, 4095, 16383, 65535)
"""White of floats in 0..1, and of integers of 8, 10, 12, 14 and 16 bits."""

LOOKED_AT = 200
"""How many files of a data set are looked at to find its levels."""

log = logging.getLogger(__name__)


class Levels(NamedTuple):
    """Values that become black and white.

    Attributes:
        black: becomes 0.
        white: becomes 255; above ``black``.
        clip: whether values outside are clipped, as of levels that the user chose; else they are refused.
    """

    black: float
    white: float
    clip: bool = False


def read_image(path: Path, grayscale: bool = False, least: int | None = None, levels: Levels | None = None) -> Tensor:
    """Decode an image file: turned as its EXIF orientation says, transparent parts on white.

    Args:
        path: the file.
        grayscale: one channel instead of three.
        least: decode a JPEG at a half, a quarter or an eighth of its size where no side gets shorter than this: quick,
            for those who reduce it further; at its own size where it is ``None``.
        levels: black and white of an image of more than 8 bits, found in the image itself if omitted.

    Returns:
        uint8 ``(3, H, W)``, or ``(1, H, W)`` in shades of grey.

    Raises:
        ValueError: if the file is not a readable image, or not within the levels; the message names it.
    """
    try:
        with _opened(path) as (image, stream):
            if least is not None:
                image.draft(image.mode, (least, least))
            if image.format != "MPO" and getattr(image, "is_animated", False):  # a camera's second picture is a preview
                _tell_frames(path.parent)
            if image.has_transparency_data:
                _tell_transparency(path.parent)
            pixels = torch.from_numpy(np.array(plain_image(image, grayscale, levels, stream)))
    except Exception as error:  # what a damaged file makes Pillow raise can be almost anything
        why = str(error) or type(error).__name__
        raise ValueError(f"can't read the image {path} ({why}); remove or repair it") from None
    return pixels[None] if grayscale else pixels.permute(2, 0, 1)


def find_levels(files: Sequence[Path]) -> Levels | None:
    """Find the levels that a data set's images of more than 8 bits share, by the largest value of some of them.

    Twelve bits in files of sixteen are common: stretched over sixteen bits they would keep fifteen shades.

    Args:
        files: images; :data:`LOOKED_AT` evenly spaced ones that can be deep are looked at. Unreadable ones don't count.

    Returns:
        black and white; ``None`` if no image has more than 8 bits.

    Raises:
        ValueError: if values are negative, not finite, or too large for 16 bits: they may mean anything.
    """
    able = [path for path in files if path.suffix.lower() in DEEP_SUFFIXES]
    chosen = able[:: max(-(-len(able) // LOOKED_AT), 1)]
    found = [extremes for path in chosen if (extremes := _extremes(path)) is not None]
    if not found:
        return None
    return guess_levels(min(low for low, _ in found), max(high for _, high in found))


def guess_levels(low: float, high: float) -> Levels:
    """Guess black and white: 0, and the least of :data:`WHITE` that no value exceeds.

    Raises:
        ValueError: if values are negative, not finite or above 65535.
    """
    if not math.isfinite(low + high):
        raise ValueError("it has values that are not finite; give those of black and white: --data.levels '[0, 1]'")
    if not (low >= 0 and high <= WHITE[-1]):
        raise ValueError(
            f"values from {low:g} to {high:g} may mean anything; give those of black and white, such as "
            f"--data.levels '[{low:g}, {high:g}]'"
        )
    return Levels(0.0, float(next(white for white in WHITE if white >= high)))


def plain_image(
    image: Image.Image, grayscale: bool = False, levels: Levels | None = None, stream: BinaryIO | None = None
) -> Image.Image:
    """Turn an opened image upright, put it on white, and reduce it to 8 bits in mode ``RGB`` or ``L``.

    Args:
        image: any.
        grayscale: ``L`` in place of ``RGB``.
        levels: see :func:`read_image`.
        stream: the file that it was opened from, for colours of 16 bits, which Pillow reads with 8.
    """
    return opaque(_eight_bit(image, stream, levels)).convert("L" if grayscale else "RGB")


def opaque(image: Image.Image) -> Image.Image:
    """Put the transparent parts of an image on white."""
    if not image.has_transparency_data:
        return image
    layers = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """Open an image file of a known format, and its stream; what is no file, such as a pipe, is never waited for."""
    if not path.is_file():
        raise ValueError("it is no regular file" if path.exists() else "there is no such file")
    with path.open("rb") as stream:
        try:
            image = Image.open(stream, formats=_formats())  # by name, it misreads turned TIFFs
        except UnidentifiedImageError:
            stream.seek(0)
            raise ValueError(_unknown(stream.read(16))) from None
        with image:
            yield image, stream


def _unknown(begin: bytes) -> str:
    """Say what a file is that is no image of a known format, by its first bytes."""
    if not begin:
        return "it is empty"
    if begin[4:8] == b"ftyp" and begin[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "it is an HEIC photograph, which isn't read; save it as JPEG"
    return f"it is none of {', '.join(FORMATS)}"


@cache
def _formats() -> list[str]:
    """Those of :data:`FORMATS` that this build of Pillow knows."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@cache
def _tell_frames(folder: Path) -> None:
    log.warning("%s has files of several images (animations, or pages); the first of each is used", folder)


@cache
def _tell_transparency(folder: Path) -> None:
    log.warning("%s has images with transparent parts; they are shown on white", folder)


def _eight_bit(image: Image.Image, stream: BinaryIO | None, levels: Levels | None) -> Image.Image:
    """Return an upright image of 8 bits a channel; Pillow's own conversion would clip or cut deeper ones."""
    values = _deep_values(image, stream)
    if values is None:
        ImageOps.exif_transpose(image, in_place=True)
        return image
    alpha = values[..., -1:] if values.shape[-1] in (2, 4) else None
    colours = values[..., : values.shape[-1] - (alpha is not None)]
    levels = levels or guess_levels(*_range(colours))
    if not levels.clip and not _range(colours)[1] <= levels.white:
        raise ValueError(f"it has values up to {_range(colours)[1]:g}; the white of its data set is {levels.white:g}")
    scaled = (np.nan_to_num(colours) - levels.black) * (255 / (levels.white - levels.black))
    parts = [scaled] if alpha is None else [scaled, alpha / 257]
    out = np.concatenate(parts, axis=-1).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(out[..., 0] if out.shape[-1] == 1 else out)


def _deep_values(image: Image.Image, stream: BinaryIO | None) -> np.ndarray | None:
    """Values of an upright image of more than 8 bits a channel, float64 ``(H, W, C)``; ``None`` for others."""
    if image.mode == "F" or image.mode.startswith("I"):
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image).astype(np.float64)[..., None]
    tiles = getattr(image, "tile", ())
    if stream is None or not tiles or ";16" not in str(tiles[0][3]):
        return None
    if image.format != "PNG":  # Pillow reads the upper half of each value
        raise ValueError("its colours have 16 bits a channel; save it as PNG, or with 8 bits")
    from torchvision.io import ImageReadMode, decode_image

    stream.seek(0)
    content = torch.frombuffer(bytearray(stream.read()), dtype=torch.uint8)
    pixels: Tensor = decode_image(content, ImageReadMode.UNCHANGED, apply_exif_orientation=True)
    return np.asarray(pixels.permute(1, 2, 0), dtype=np.float64)


def _extremes(path: Path) -> tuple[float, float] | None:
    """Least and largest value of an image of more than 8 bits; ``None`` for others, and for unreadable ones."""
    try:
        with _opened(path) as (image, stream):
            values = _deep_values(image, stream)
    except Exception:  # whoever reads the image is told, see read_image
        return None
    return None if values is None else _range(values[..., : -1 if values.shape[-1] in (2, 4) else None])


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
