"""The image data sets that ship: CIFAR-10, CIFAR-100, and scikit-learn's digits.

Any other ``LightningDataModule`` serves as well, see :func:`ednag.data.describe.describe_data`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from torchvision import datasets as official

from ednag.data.files import MemoryImages, stratified_split
from ednag.data.folders import list_images
from ednag.data.module import ImageDataModule, Splits
from ednag.data.preprocessing import CropMode, fit_arrays


class CIFAR10(ImageDataModule):
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images of 32 x 32 pixels in 10 classes.

    Args:
        root: folder of the official Python files (``cifar-10-batches-py``), or of an unpacked tree
            ``train/<class>/*``, ``test/<class>/*``.
        download: fetch the official files where they are absent.
        options: see :class:`ImageDataModule`.

    Examples:
        >>> CIFAR10(root="data/downloads", cutout=16).augmentation.cutout  # nothing is read before setup
        16
    """

    official: ClassVar[type[official.CIFAR10]] = official.CIFAR10

    def __init__(self, root: Path = Path("data/downloads/cifar10"), download: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if self.in_channels != 3:
            raise ValueError(f"{type(self).__name__} has 3 channels, got in_channels {self.in_channels}")
        self.root = Path(root)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the official files if that is asked for and they are absent."""
        if self.download and not (self.root / "train").is_dir():
            self.official(str(self.root), train=True, download=True)

    def open(self) -> Splits:
        """Read the training images and hold out validation images."""
        if (self.root / "train").is_dir():
            listing = list_images(self.root / "train")
            names, images = listing.class_names, MemoryImages.read(listing, self.preprocessing)
        else:
            names, images = self._read_official(train=True)
        kept, held = stratified_split(images.labels, self.val_fraction, self.seed)
        return Splits(
            images.subset(kept),
            images.subset(held),
            lambda: self._test_images(names),
            names,
            test_digest=self._test_digest,
        )

    def _test_digest(self) -> str:
        """Tell the test images from others without opening them: by their files, or by the official checksums."""
        if (self.root / "train").is_dir():
            return list_images(self.root / "test").digest()
        return hashlib.sha256(json.dumps(self.official.test_list).encode()).hexdigest()  # verified when they were read

    def _test_images(self, names: list[str]) -> MemoryImages:
        if (self.root / "train").is_dir():
            return MemoryImages.read(list_images(self.root / "test", names), self.preprocessing)
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
            fit_arrays(pixels, self.image_size), torch.tensor(source.targets, dtype=torch.int64)
        )


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32 x 32 pixels in 100 classes.

    Args:
        root: folder of the official Python files (``cifar-100-python``), or of an unpacked tree
            ``train/<class>/*``, ``test/<class>/*``.
        download: fetch the official files where they are absent.
        options: see :class:`ImageDataModule`.

    Examples:
        >>> CIFAR100(root="data/downloads", batch_size=128).batch_size
        128
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

    Examples:
        >>> data = Digits(image_size=16, batch_size=64)
        >>> data.setup()
        >>> data.num_classes, len(data.splits.train)
        (10, 1295)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, images.dtype
        (torch.Size([64, 1, 16, 16]), torch.uint8)
    """

    crop_mode: CropMode = "squash"

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
        pixels = fit_arrays(pixels, self.image_size).repeat(1, 1, 1, self.in_channels)
        images = MemoryImages(pixels, torch.from_numpy(source.target).long())
        kept, tested = stratified_split(images.labels, self.test_fraction, seed=0)
        rest = images.subset(kept)
        kept, held = stratified_split(rest.labels, self.val_fraction, self.seed)
        names = [str(name) for name in source.target_names]
        test = images.subset(tested)
        return Splits(rest.subset(kept), rest.subset(held), lambda: test, names, len(tested), test_digest=test.digest)
