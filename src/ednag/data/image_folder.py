"""Folders of the user's own images."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from ednag.data.decoding import Levels, find_levels
from ednag.data.files import Batch, FileImages, MemoryImages, stratified_split
from ednag.data.folders import Listing, find_layout, list_images
from ednag.data.module import ImageDataModule, Images, Splits
from ednag.data.oddities import warn_of_few, warn_of_small
from ednag.data.repeats import file_entries, warn_of_repeats

log = logging.getLogger(__name__)


class Listings(NamedTuple):
    """Files of each split, and where they come from, in words."""

    train: Listing
    val: Listing
    test: Listing
    origin: str


class ImageFolder(ImageDataModule):
    """Folders of images of any size, one folder per class, as ImageNet's.

    Recognised under ``root``, in any case of letters and under their usual names (``training``, ``valid``, ...):
    ``train`` with ``test`` or ``val`` (either is the test set, and validation images are held out from ``train``);
    ``train`` with ``val`` and ``test`` (as named); ``train`` alone, or class folders directly (validation and test
    images are both held out). A ``test`` without class folders doesn't count. What is ambiguous is refused; what was
    read is printed.

    Photographs are turned upright by their EXIF orientation, and transparent parts are put on white.

    Args:
        root: the folder.
        test_fraction: share held out for the test if there is no test folder, stratified, in (0, 1).
        in_channels: 3, or 1 for shades of grey.
        in_memory: decode once and keep the images; if omitted, only if they fit ``memory_limit``. Otherwise they
            are read anew each epoch by ``num_workers`` processes, and cropped for training as ImageNet's are.
        memory_limit: MiB that the decoded training images may take.
        min_scale: images that are read anew: least share of its area that a training crop covers.
        on_bad_image: what to do with an unreadable image: end with an ``error`` that names it, or ``skip`` it, count it,
            and go on; for that, each image is read once before the training.
        crop_pct: share of an image's shorter side that is kept when its centre is cut out, in (0, 1].
        levels: values of black and white in images of more than 8 bits, such as ``[0, 4095]``; others are clipped. If
            omitted, the values of the training images tell.
        options: see :class:`ImageDataModule`.

    Raises:
        ValueError: for an option out of range.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, colour in [("cats", "red"), ("dogs", "blue")]:
        ...     (root / name).mkdir()
        ...     for number in range(8):
        ...         Image.new("RGB", (40, 30), colour).save(root / name / f"{number}.png")
        >>> data = ImageFolder(root, image_size=32)
        >>> data.setup()
        >>> data.class_names, len(data.splits.train)
        (['cats', 'dogs'], 12)
    """

    def __init__(
        self,
        root: Path,
        test_fraction: float = 0.15,
        in_channels: int = 3,
        in_memory: bool | None = None,
        memory_limit: int = 2048,
        min_scale: float = 0.25,
        on_bad_image: Literal["error", "skip"] = "error",
        crop_pct: float = 1.0,
        levels: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, **options)
        if not 0 < test_fraction < 1 or not 0 < min_scale <= 1:
            raise ValueError(f"test_fraction and min_scale must be in (0, 1), got {test_fraction} and {min_scale}")
        if not 0 < crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], got {crop_pct}")
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels must be 3, or 1 for shades of grey; got {in_channels}")
        if on_bad_image not in ("error", "skip"):
            raise ValueError(f"on_bad_image must be error or skip, got {on_bad_image!r}")
        if levels is not None and not levels[1] > levels[0]:
            raise ValueError(f"levels are those of black and white, the second above the first; got {list(levels)}")
        self.root = Path(root)
        self.test_fraction = test_fraction
        self.crop_pct = crop_pct
        self.in_memory = in_memory
        self.memory_limit = memory_limit
        self.min_scale = min_scale
        self.on_bad_image = on_bad_image
        self.levels = None if levels is None else Levels(*levels, clip=True)

    def open(self) -> Splits:
        """List and split the files, and read them where they are kept in memory."""
        listings = self._listings()
        parts = {"training": listings.train, "validation": listings.val, "test": listings.test}
        warn_of_repeats(str(self.root), file_entries({name: (one.files, one.labels) for name, one in parts.items()}))
        warn_of_few(str(self.root), listings.train.labels, listings.train.class_names)
        warn_of_small(str(self.root), listings.train.files, self.image_size)
        self.levels = self._find_levels(listings)
        how = self.preprocessing
        train, val = (self._usable(listing) for listing in listings[:2])
        in_memory = self.in_memory
        if in_memory is None:
            size = (len(train.files) + len(val.files)) * self.in_channels * self.image_size**2
            in_memory = size <= self.memory_limit * 2**20

        def images(listing: Listing, min_scale: float | None = None) -> Images:
            if in_memory:
                return MemoryImages.read(listing, how)
            return FileImages(listing, how, min_scale)

        return Splits(
            images(train, self.min_scale),
            images(val),
            lambda: images(self._usable(listings.test)),
            train.class_names,
            len(listings.test.files),
            listings.origin,
            listings.test.digest,
        )

    def class_samples(self, most: int) -> Batch:
        """Read a few training images of each class, evenly spaced over its files, and no others.

        Args:
            most: images of a class.

        Returns:
            uint8 ``(n, C, S, S)`` and labels; :attr:`class_names` are known then.
        """
        listings = self._listings()
        train, self.levels = listings.train, self._find_levels(listings)
        self.class_names = train.class_names
        members = [(train.labels == label).nonzero().flatten() for label in range(len(train.class_names))]
        chosen = [some[torch.arange(k) * len(some) // k] for some in members for k in [min(most, len(some))]]
        some = self._usable(train.subset(torch.cat(chosen)))
        images = MemoryImages.read(some, self.preprocessing, reduced=True)
        return images.pixels.permute(0, 3, 1, 2), images.labels

    def digest(self) -> dict[str, str]:
        """Tell the images apart from any others; where nothing is open yet, by their files, which are not decoded."""
        if self._splits is not None:
            return super().digest()
        listings = self._listings()
        return {"train": listings.train.digest(), "val": listings.val.digest(), "test": listings.test.digest()}

    def _find_levels(self, listings: Listings) -> Levels | None:
        """Levels of deep images: the user's, or those of the images that are trained and validated on."""
        return self.levels or find_levels([*listings.train.files, *listings.val.files])

    def _usable(self, listing: Listing) -> Listing:
        """Files that are to be read: all, or the readable ones."""
        if self.on_bad_image == "error":
            return listing
        good, reasons = listing.readable(max(self.num_workers, 1), self.levels)
        if reasons:
            log.warning("skipped %d of %d images: %s", len(reasons), len(listing.files), "; ".join(reasons[:3]))
        return good

    def _listings(self) -> Listings:
        """Files for training, validation and test."""
        layout = find_layout(self.root)
        train = list_images(layout.train)
        given = [list_images(folder, train.class_names) for folder in (layout.val, layout.test) if folder is not None]
        origin = _origin(
            self.root, [folder for folder in (layout.train, layout.val, layout.test) if folder is not None]
        )
        counts = sum((Counter(listing.left_out) for listing in (train, *given)), Counter[str]())
        others = [f"{number} {ending} files" for ending, number in counts.items()]
        if left_out := [*(f"{name}/" for name in layout.left_out), *others]:
            origin += f"; left out: {', '.join(left_out[:8])}"
        if not given:
            kept, held = stratified_split(train.labels, self.test_fraction, self.seed + 1, train.class_names)
            train, given = train.subset(kept), [train.subset(held)]
        if len(given) == 2:
            return Listings(train, given[0], given[1], origin)
        kept, held = stratified_split(train.labels, self.val_fraction, self.seed, train.class_names)
        return Listings(train.subset(kept), train.subset(held), given[0], origin)


def _origin(root: Path, folders: list[Path]) -> str:
    """Say which folder is which split."""
    names = [folder.name for folder in folders if folder != root]
    roles = {
        0: "class folders: validation and test images are held out",
        1: "{}: validation and test images are held out",
        2: "{}: training, validation images are held out; {}: test",
        3: "{}: training, {}: validation, {}: test",
    }
    return f"{root} ({roles[len(names)].format(*names)})"
