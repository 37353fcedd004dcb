"""The image data sets that ship: CIFAR-10, CIFAR-100, folders of images, and scikit-learn's digits.

Any other ``LightningDataModule`` serves as well, see :func:`ednag.data.describe.describe_data`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torchvision import datasets as official

from ednag.data.files import Batch, FileImages, Listing, MemoryImages, list_images, stratified_split
from ednag.data.module import ImageDataModule, Images, Splits


class ImageFolder(ImageDataModule):
    """Folders of images of any size, one folder a class, as ImageNet's.

    Recognised under ``root``: ``train`` with ``test`` or ``val`` (either is the test set, and validation images are
    held out from ``train``); ``train`` with ``val`` and ``test`` (as named); ``train`` alone, or class folders
    directly (validation and test images are both held out). A ``test`` without class folders doesn't count.

    Args:
        root: the folder.
        test_fraction: share held out for the test where there is no test folder, stratified, in (0, 1).
        in_channels: 3, or 1 for shades of grey.
        in_memory: decode once and keep the images; where it is ``None``, if they fit ``memory_limit``. Otherwise they
            are read anew each epoch by ``num_workers`` processes, and cropped as ImageNet's are.
        memory_limit: MiB that the decoded training images may take.
        min_scale: images that are read anew: least share of its area that a training crop covers.
        options: see :class:`ImageDataModule`.

    Raises:
        ValueError: for an option out of range.
    """

    def __init__(
        self,
        root: Path,
        test_fraction: float = 0.15,
        in_channels: int = 3,
        in_memory: bool | None = None,
        memory_limit: int = 2048,
        min_scale: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, **options)
        if not 0 < test_fraction < 1 or not 0 < min_scale <= 1:
            raise ValueError(f"test_fraction and min_scale must be in (0, 1), got {test_fraction} and {min_scale}")
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels must be 3, or 1 for shades of grey; got {in_channels}")
        self.root = Path(root)
        self.test_fraction = test_fraction
        self.grayscale = in_channels == 1
        self.in_memory = in_memory
        self.memory_limit = memory_limit
        self.min_scale = min_scale

    def open(self) -> Splits:
        """List and split the files, and read them where they are kept in memory."""
        train, val, test = self._listings()
        in_memory = self.in_memory
        if in_memory is None:
            size = (len(train.files) + len(val.files)) * self.in_channels * self.image_size**2
            in_memory = size <= self.memory_limit * 2**20

        def images(listing: Listing, min_scale: float | None = None) -> Images:
            if in_memory:
                return MemoryImages.read(listing, self.image_size, self.grayscale)
            return FileImages(listing, self.image_size, self.grayscale, min_scale)

        return Splits(images(train, self.min_scale), images(val), lambda: images(test), train.class_names)

    def class_samples(self, most: int) -> Batch:
        """Read a few training images of each class, evenly spaced over its files, and no others.

        Args:
            most: images of a class.

        Returns:
            uint8 ``(n, C, S, S)`` and labels; :attr:`class_names` are known then.
        """
        train = self._listings()[0]
        self.class_names = train.class_names
        members = [(train.labels == label).nonzero().flatten() for label in range(len(train.class_names))]
        chosen = [some[torch.arange(k) * len(some) // k] for some in members for k in [min(most, len(some))]]
        images = MemoryImages.read(train.subset(torch.cat(chosen)), self.image_size, self.grayscale, reduced=True)
        return images.pixels.permute(0, 3, 1, 2), images.labels

    def _listings(self) -> tuple[Listing, Listing, Listing]:
        """Files for training, validation and test."""
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"no image folder at {self.root}; give the folder that holds train/, or the classes"
            )
        named = (self.root / "train").is_dir()
        train = list_images(self.root / "train" if named else self.root)
        given = [self.root / name for name in ("val", "test") if named and _has_folders(self.root / name)]
        others = [list_images(folder, train.class_names) for folder in given]
        if not others:
            kept, held = stratified_split(train.labels, self.test_fraction, self.seed + 1, train.class_names)
            train, others = train.subset(kept), [train.subset(held)]
        if len(others) == 2:
            return train, others[0], others[1]
        kept, held = stratified_split(train.labels, self.val_fraction, self.seed, train.class_names)
        return train.subset(kept), train.subset(held), others[0]


class CIFAR10(ImageDataModule):
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images of 32 x 32 pixels in 10 classes.

    Args:
        root: folder of the official Python files (``cifar-10-batches-py``), or of an unpacked tree
            ``train/<class>/*``, ``test/<class>/*``.
        download: fetch the official files where they are absent.
        options: see :class:`ImageDataModule`.
    """

    official: ClassVar[type[official.CIFAR10]] = official.CIFAR10

    def __init__(self, root: Path = Path("data/downloads/cifar10"), download: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if self.in_channels != 3:
            raise ValueError(f"{type(self).__name__} has 3 channels, got in_channels {self.in_channels}")
        self.root = Path(root)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the official files where that is asked for and they are absent."""
        if self.download and not (self.root / "train").is_dir():
            self.official(str(self.root), train=True, download=True)

    def open(self) -> Splits:
        """Read the training images and hold out validation images."""
        if (self.root / "train").is_dir():
            listing = list_images(self.root / "train")
            names, images = listing.class_names, MemoryImages.read(listing, self.image_size)
        else:
            names, images = self._read_official(train=True)
        kept, held = stratified_split(images.labels, self.val_fraction, self.seed)
        return Splits(images.subset(kept), images.subset(held), lambda: self._test_images(names), names)

    def _test_images(self, names: list[str]) -> MemoryImages:
        if (self.root / "train").is_dir():
            return MemoryImages.read(list_images(self.root / "test", names), self.image_size)
        return self._read_official(train=False)[1]

    def _read_official(self, train: bool) -> tuple[list[str], MemoryImages]:
        """Read the official files, whose checksums torchvision verifies."""
        try:
            source = self.official(str(self.root), train=train, download=False)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"no complete {type(self).__name__} at {self.root} ({error}); give the folder that holds "
                f"{self.official.base_folder} or train/ and test/, or set download to true"
            ) from None
        pixels = torch.from_numpy(source.data)
        return list(source.classes), MemoryImages(
            resized(pixels, self.image_size), torch.tensor(source.targets, dtype=torch.int64)
        )


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32 x 32 pixels in 100 classes.

    Args:
        root: folder of the official Python files (``cifar-100-python``), or of an unpacked tree
            ``train/<class>/*``, ``test/<class>/*``.
        download: fetch the official files where they are absent.
        options: see :class:`ImageDataModule`.
    """

    official = official.CIFAR100

    def __init__(self, root: Path = Path("data/downloads/cifar100"), download: bool = False, **options: Any) -> None:
        super().__init__(root, download, **options)


class Digits(ImageDataModule):
    """Scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels, enlarged; no download.

    A test set is split off (stratified, by a fixed seed, so that it is the same whatever ``seed`` is).

    Args:
        image_size: side of the enlarged images.
        test_fraction: share held out for the test, in (0, 1).
        flip: mirror training images; digits are not symmetric.
        crop_padding: as in :class:`ImageDataModule`.
        batch_size: as in :class:`ImageDataModule`.
        in_channels: 1, or 3 for three equal ones.
        options: see :class:`ImageDataModule`.
    """

    def __init__(
        self,
        image_size: int = 16,
        test_fraction: float = 0.2,
        flip: bool = False,
        crop_padding: int = 1,
        batch_size: int = 64,
        in_channels: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            image_size=image_size,
            in_channels=in_channels,
            crop_padding=crop_padding,
            flip=flip,
            **options,
        )
        if self.in_channels not in (1, 3):
            raise ValueError(f"digits have 1 channel, or 3 equal ones; got in_channels {self.in_channels}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
        self.test_fraction = test_fraction

    def open(self) -> Splits:
        """Enlarge the images and split them."""
        source = load_digits()
        pixels = torch.from_numpy(source.images * (255 / 16)).round().to(torch.uint8)[..., None]
        pixels = resized(pixels, self.image_size).repeat(1, 1, 1, self.in_channels)
        images = MemoryImages(pixels, torch.from_numpy(source.target).long())
        kept, tested = stratified_split(images.labels, self.test_fraction, seed=0)
        rest = images.subset(kept)
        kept, held = stratified_split(rest.labels, self.val_fraction, self.seed)
        names = [str(name) for name in source.target_names]
        return Splits(rest.subset(kept), rest.subset(held), lambda: images.subset(tested), names)


def resized(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Scale uint8 images ``(n, H, W, C)`` to ``(n, size, size, C)``, bilinearly."""
    if tuple(pixels.shape[1:3]) == (size, size):
        return pixels
    scaled = F.interpolate(pixels.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _has_folders(folder: Path) -> bool:
    """Whether a folder exists and holds folders."""
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())
