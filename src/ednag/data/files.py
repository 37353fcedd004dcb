"""Images on disk and in memory: folders of classes, splits, decoding, and the data sets that loaders index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ednag.data.pixels import fit_square

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files that count as images, in lower case."""

Batch = tuple[Tensor, Tensor]
"""Images ``(B, C, H, W)`` and labels, int64 ``(B,)``."""


@dataclass(frozen=True)
class Listing:
    """Image files and their labels.

    Attributes:
        files: paths, sorted within each class.
        labels: int64 ``(len(files),)``, indices into ``class_names``.
        class_names: names of the class folders, sorted.
    """

    files: list[Path]
    labels: Tensor
    class_names: list[str]

    def subset(self, index: Tensor) -> Listing:
        """Keep the files at ``index``, int64 ``(n,)``."""
        return Listing([self.files[i] for i in index.tolist()], self.labels[index], self.class_names)


def list_images(folder: Path, class_names: Sequence[str] | None = None) -> Listing:
    """List a folder that holds one folder of images for each class.

    Args:
        folder: the folder.
        class_names: the classes that it must hold; those that it holds where it is ``None``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are fewer than two classes, a class has no image, or the classes are not ``class_names``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no image folder at {folder}; expected one folder for each class in it")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} is empty: expected one folder of images for each class in it")
    if len(names) == 1:
        raise ValueError(f"{folder} has one class only ({names[0]}); classification needs two or more class folders")
    if class_names is not None and names != list(class_names):
        odd = sorted(set(names) ^ set(class_names))
        raise ValueError(f"the classes of {folder} differ from those of the training images: {', '.join(odd[:5])}")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise ValueError(f"class {name!r} of {folder} has no image (endings: {', '.join(IMAGE_SUFFIXES)})")
        files += found
        labels += [label] * len(found)
    return Listing(files, torch.tensor(labels), names)


def stratified_split(
    labels: Tensor, fraction: float, seed: int, class_names: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Hold out the same share of every class, at random.

    Args:
        labels: int64 ``(n,)``.
        fraction: share to hold out, in (0, 1); at least one image of each class goes to either side.
        seed: of the draw.
        class_names: for messages.

    Returns:
        indices kept and indices held out, each sorted.

    Raises:
        ValueError: if the fraction is out of range or a class has a single image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a held-out fraction must be between 0 and 1, got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    held: list[Tensor] = []
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            name = class_names[label] if class_names else label
            raise ValueError(f"class {name} has one image only: none is left once another has been held out")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held.append(members[torch.randperm(len(members), generator=generator)[:count]])
    out = torch.cat(held).sort().values
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[out] = False
    return kept.nonzero().flatten(), out


def read_image(path: Path, grayscale: bool = False, least: int | None = None) -> Tensor:
    """Decode an image file.

    Args:
        path: the file.
        grayscale: one channel in place of three.
        least: decode a JPEG at a half, a quarter or an eighth of its size where no side gets shorter than this: quick,
            for those who reduce it further; at its own size where it is ``None``.

    Returns:
        uint8 ``(3, H, W)``, or ``(1, H, W)`` in shades of grey.

    Raises:
        ValueError: if the file is not a readable image, naming it.
    """
    try:
        with Image.open(path) as image:
            if least is not None:
                image.draft(image.mode, (least, least))
            shown = _eight_bit(image) if image.mode.startswith("I") else image
            pixels = torch.from_numpy(np.array(shown.convert("L" if grayscale else "RGB")))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"can't read the image {path} ({error}); remove or repair it") from None
    return pixels[None] if grayscale else pixels.permute(2, 0, 1)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale a 16-bit image to 8 bits (Pillow's own conversion clips it)."""
    values = np.array(image).astype(np.float64).clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))


class MemoryImages(Dataset[Batch]):
    """Images held in memory as one 8-bit tensor; a batch is one indexing operation.

    Args:
        pixels: uint8 ``(n, H, W, C)``: a pixel's channels are neighbours, so a batch is in channels-last layout.
        labels: int64 ``(n,)``.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.pixels[index].permute(2, 0, 1), self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Fetch a batch at once; the loader's collation passes it on unchanged."""
        chosen = torch.tensor(indices)
        return self.pixels[chosen].permute(0, 3, 1, 2), self.labels[chosen]

    def subset(self, index: Tensor) -> MemoryImages:
        """Keep the images at ``index``, int64 ``(n,)``."""
        return MemoryImages(self.pixels[index], self.labels[index])

    @classmethod
    def read(cls, listing: Listing, size: int, grayscale: bool = False, reduced: bool = False) -> MemoryImages:
        """Decode files once, each scaled and cut to ``size`` x ``size``; ``reduced`` decodes large JPEGs roughly."""
        least = 2 * size if reduced else None
        pixels = torch.empty((len(listing.files), size, size, 1 if grayscale else 3), dtype=torch.uint8)
        for i, path in enumerate(listing.files):
            pixels[i] = fit_square(read_image(path, grayscale, least), size).permute(1, 2, 0)
        return cls(pixels, listing.labels)


class FileImages(Dataset[Batch]):
    """Images decoded each time they are asked for, by the loader's workers.

    Args:
        listing: files and labels.
        size: side of the images in pixels.
        grayscale: one channel in place of three.
        min_scale: training crops a random area of this share or more, with an aspect ratio of 3/4 to 4/3 (Szegedy et
            al. 2015); ``None`` for evaluation: the centre, 7/8 of the shorter side.
    """

    def __init__(self, listing: Listing, size: int, grayscale: bool = False, min_scale: float | None = None) -> None:
        self.listing = listing
        self.size = size
        self.grayscale = grayscale
        self.transform = (
            v2.Compose([v2.Resize(size * 8 // 7, antialias=True), v2.CenterCrop(size)])
            if min_scale is None
            else v2.RandomResizedCrop(size, scale=(min_scale, 1.0), antialias=True)
        )

    @property
    def labels(self) -> Tensor:
        """int64 ``(n,)``."""
        return self.listing.labels

    def __len__(self) -> int:
        return len(self.listing.files)

    def __getitem__(self, index: int) -> Batch:
        return self.transform(read_image(self.listing.files[index], self.grayscale)), self.labels[index]
