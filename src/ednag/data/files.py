"""Images on disk and in memory as the data sets that loaders index, and their split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ednag.data.decoding import Levels, read_image
from ednag.data.folders import Listing
from ednag.data.pixels import fit_square

Batch = tuple[Tensor, Tensor]
"""Images ``(B, C, H, W)`` and labels, int64 ``(B,)``."""


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
    def read(
        cls,
        listing: Listing,
        size: int,
        grayscale: bool = False,
        reduced: bool = False,
        levels: Levels | None = None,
    ) -> MemoryImages:
        """Decode files once, each scaled and cut to ``size`` x ``size``; ``reduced`` decodes large JPEGs roughly."""
        least = 2 * size if reduced else None
        pixels = torch.empty((len(listing.files), size, size, 1 if grayscale else 3), dtype=torch.uint8)
        for i, path in enumerate(listing.files):
            pixels[i] = fit_square(read_image(path, grayscale, least, levels), size).permute(1, 2, 0)
        return cls(pixels, listing.labels)


class FileImages(Dataset[Batch]):
    """Images decoded each time they are asked for, by the loader's workers.

    Args:
        listing: files and labels.
        size: side of the images in pixels.
        grayscale: one channel instead of three.
        min_scale: training crops a random area of this share or more, with an aspect ratio of 3/4 to 4/3 (Szegedy et
            al. 2015); ``None`` for evaluation: the centre, 7/8 of the shorter side.
        levels: see :func:`ednag.data.decoding.read_image`.
    """

    def __init__(
        self,
        listing: Listing,
        size: int,
        grayscale: bool = False,
        min_scale: float | None = None,
        levels: Levels | None = None,
    ) -> None:
        self.listing = listing
        self.size = size
        self.grayscale = grayscale
        self.levels = levels
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
        return self.transform(read_image(self.listing.files[index], self.grayscale, levels=self.levels)), self.labels[
            index
        ]
