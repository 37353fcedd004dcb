"""Images on disk and in memory as the data sets that loaders index, and their split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ednag.data.decoding import read_image
from ednag.data.folders import Listing
from ednag.data.pixels import content_digest
from ednag.data.preprocessing import Preprocessing, check_room

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
        files: where the images were read from; empty if they did not come as files.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, files: Sequence[Path] = ()) -> None:
        self.pixels = pixels
        self.labels = labels
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.pixels[index].permute(2, 0, 1), self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Fetch a batch at once; the loader's collation passes it on unchanged."""
        chosen = torch.tensor(indices)
        return self.pixels[chosen].permute(0, 3, 1, 2), self.labels[chosen]

    digest_of = "the shape of the 8-bit pixels (images, height, width, channels), their bytes and the labels'"

    def digest(self) -> str:
        """Sha256 of pixels and labels; tells them from any others."""
        return content_digest(self.pixels, self.labels)

    def subset(self, index: Tensor) -> MemoryImages:
        """Keep the images at ``index``, int64 ``(n,)``."""
        files = [self.files[i] for i in index.tolist()] if self.files else []
        return MemoryImages(self.pixels[index], self.labels[index], files)

    @classmethod
    def read(
        cls,
        listing: Listing,
        preprocessing: Preprocessing,
        reduced: bool = False,
    ) -> MemoryImages:
        """Decode files once, each scaled and cut to its size; ``reduced`` decodes large JPEGs roughly."""
        least = 2 * max(preprocessing.image_size) if reduced else None
        check_room(len(listing.files), preprocessing.image_size, preprocessing.channels)
        pixels = torch.empty((len(listing.files), *preprocessing.image_size, preprocessing.channels), dtype=torch.uint8)
        for i, path in enumerate(listing.files):
            pixels[i] = preprocessing.read(path, least).permute(1, 2, 0)
        return cls(pixels, listing.labels, listing.files)


class FileImages(Dataset[Batch]):
    """Images decoded each time they are asked for, by the loader's workers.

    Args:
        listing: files and labels.
        preprocessing: how they become inputs.
        min_scale: training crops a random area of this share or more, with an aspect ratio of 3/4 to 4/3 (Szegedy et
            al. 2015); ``None`` for evaluation, which crops nothing at random.
    """

    def __init__(self, listing: Listing, preprocessing: Preprocessing, min_scale: float | None = None) -> None:
        self.listing = listing
        self.preprocessing = preprocessing
        self.crop = (
            None
            if min_scale is None
            else v2.RandomResizedCrop(preprocessing.image_size, scale=(min_scale, 1.0), antialias=True)
        )

    @property
    def labels(self) -> Tensor:
        """int64 ``(n,)``."""
        return self.listing.labels

    @property
    def files(self) -> list[Path]:
        """Where the images are."""
        return self.listing.files

    digest_of = "names of the classes, and name, size in bytes, label and content of each file, in order"

    def digest(self) -> str:
        """Sha256 of names, sizes, labels and content, see :meth:`Listing.digest`; tells them from any others."""
        return self.listing.digest()

    def __len__(self) -> int:
        return len(self.listing.files)

    def __getitem__(self, index: int) -> Batch:
        path, how = self.listing.files[index], self.preprocessing
        if self.crop is None:
            return how.read(path), self.labels[index]
        return self.crop(read_image(path, how.channels == 1, levels=how.levels)), self.labels[index]
