"""Image data sets that come as arrays: numpy archives, and Fashion-MNIST's IDX files."""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ednag.core.reading import read_npz, reading
from ednag.data.files import MemoryImages, stratified_split
from ednag.data.labels import as_text, flat_labels, number_classes, place_labels
from ednag.data.module import ImageDataModule, Splits
from ednag.data.preprocessing import CropMode, fit_arrays
from ednag.data.repeats import array_entries, warn_of_repeats

LARGEST_IDX = 2**28
"""Bytes that an unpacked IDX file may have; the largest of Fashion-MNIST has 47 million."""

TEST_NAMES = ("test", "val")
"""Endings of the arrays that hold test images, the first that exists."""


class Arrays(NamedTuple):
    """Images of each split, where there are any, and the names of the classes."""

    train: MemoryImages
    val: MemoryImages | None
    test: MemoryImages | None
    names: list[str]


class ArrayDataModule(ImageDataModule):
    """Images held in arrays; a subclass reads them.

    Args:
        test_fraction: share held out for the test if there are no test images, stratified, in (0, 1).
        flip: mirror training images.
        crop_padding: as in :class:`ImageDataModule`.
        in_channels: 3, or 1; grey images get three equal channels, coloured ones can't become grey.
        options: see :class:`ImageDataModule`.
    """

    crop_mode: CropMode = "squash"

    def __init__(
        self,
        test_fraction: float = 0.2,
        flip: bool = False,
        crop_padding: int = 1,
        in_channels: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, flip=flip, crop_padding=crop_padding, **options)
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
        self.test_fraction = test_fraction

    def read(self) -> Arrays:
        """Return the images at their own size, and the names of the classes."""
        raise NotImplementedError

    def open(self) -> Splits:
        """Read and split the images."""
        train, val, test, names = self.read()
        if test is None:
            kept, held = stratified_split(train.labels, self.test_fraction, seed=0)
            train, test = train.subset(kept), train.subset(held)
        if val is None:
            kept, held = stratified_split(train.labels, self.val_fraction, self.seed)
            train, val = train.subset(kept), train.subset(held)
        parts = {"training": train, "validation": val, "test": test}
        warn_of_repeats(
            type(self).__name__, array_entries({name: (part.pixels, part.labels) for name, part in parts.items()})
        )
        train, val, tested = (self._fitted(part) for part in parts.values())
        return Splits(train, val, lambda: tested, names, len(tested), test_digest=tested.digest)

    def _fitted(self, images: MemoryImages) -> MemoryImages:
        """Scale to the size, and add channels."""
        pixels = images.pixels
        if pixels.shape[-1] not in (1, self.in_channels):
            raise ValueError(f"these images have {pixels.shape[-1]} channels; in_channels is {self.in_channels}")
        return MemoryImages(fit_arrays(pixels, self.image_size).expand(-1, -1, -1, self.in_channels), images.labels)


class NumpyImages(ArrayDataModule):
    """Images of a numpy archive (``.npz``) with the arrays ``x_train``, ``y_train`` and, if there are any, test images.

    They may also be called as in MedMNIST (``train_images``, ``train_labels``). Images are uint8 ``(n, H, W, C)`` or
    ``(n, H, W)``. Labels are whole numbers from any first one and with any gaps,
    names, or one-hot rows; see :mod:`ednag.data.labels` for what is refused. Test images are ``x_test`` or else
    ``x_val``; where both are there, the latter are the validation images, which are held out otherwise. If there are no
    training images, all are split. ``classes`` may hold the names of the labels.

    Args:
        path: the file.
        where: keep the images only for which an array of the file has this value, ``{"alphabet": 3}``; labels are
            numbered anew.
        options: see :class:`ArrayDataModule`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "images.npz"
        >>> np.savez(path, x_train=np.zeros((20, 8, 8), np.uint8), y_train=np.arange(20) % 2)
        >>> data = NumpyImages(path, image_size=8)
        >>> data.setup()
        >>> data.num_classes
        2
    """

    def __init__(self, path: Path, where: dict[str, int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(path)
        self.where = dict(where or {})

    def read(self) -> Arrays:
        """Read the file, see :meth:`ArrayDataModule.read`."""
        if not self.path.is_file():
            raise FileNotFoundError(f"no numpy archive at {self.path}")
        arrays = read_npz(self.path, "a numpy archive of images", "write it again with numpy.savez")
        arrays = {_usual(name): array for name, array in arrays.items() if array.ndim}
        parts = [part for part in ("train", *TEST_NAMES) if f"x_{part}" in arrays and f"y_{part}" in arrays]
        if not parts:
            raise ValueError(f"{self.path} has no arrays x_train and y_train; it has {', '.join(arrays) or 'none'}")
        if parts == ["test", "val"]:
            raise ValueError(f"{self.path} has test and validation images, but no arrays x_train and y_train")
        for name, value in self.where.items():
            if name not in arrays or len(arrays[name]) != len(arrays[f"y_{parts[0]}"]) or len(parts) > 1:
                raise ValueError(f"{self.path} has no array {name!r} with a value for each image")
            keep = arrays[name] == value
            arrays |= {f"{axis}_{parts[0]}": arrays[f"{axis}_{parts[0]}"][keep] for axis in "xy"}
        return self._labelled(arrays, parts)

    def _labelled(self, arrays: Mapping[str, np.ndarray], parts: Sequence[str]) -> Arrays:
        """Number the classes alike in all parts."""
        told = [f"y_{part} of {self.path}" for part in parts]
        labels = [
            flat_labels(arrays[f"y_{part}"], len(arrays[f"x_{part}"]), name)
            for part, name in zip(parts, told, strict=True)
        ]
        given = arrays.get("classes")
        if given is not None and given.ndim != 1:
            raise ValueError(
                f"classes of {self.path} must hold one name for each class; it has the shape {given.shape}"
            )
        given_names = None if given is None else as_text(given, f"classes of {self.path}").tolist()
        chosen = f"{told[0]} where {self.where}" if self.where else told[0]
        values, names = number_classes(labels[0], given_names, chosen)
        images = [
            _images(arrays[f"x_{part}"], place_labels(some, values, name))
            for part, some, name in zip(parts, labels, told, strict=True)
        ]
        first, *others = images
        return Arrays(first, others[1] if len(others) == 2 else None, others[0] if others else None, names)


class FashionMNIST(ArrayDataModule):
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 60,000 + 10,000 grey images of 28 x 28 pixels in 10 classes.

    Args:
        root: folder of the four ``*-ubyte.gz`` files; if omitted, where ``ednag data download fashion_mnist`` puts them, or
            else that of Debian's package ``dataset-fashion-mnist``.
        flip: mirror training images.
        options: see :class:`ArrayDataModule`.

    Examples:
        >>> FashionMNIST(image_size=28).names[:3]
        ('T-shirt/top', 'trouser', 'pullover')
    """

    names = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

    places = (Path("data/downloads/fashion_mnist"), Path("/usr/share/datasets/fashion-mnist"))

    def __init__(self, root: Path | None = None, flip: bool = True, **options: Any) -> None:
        super().__init__(flip=flip, **options)
        present = [place for place in self.places if place.is_dir()]
        self.root = Path(root) if root is not None else (present or self.places)[0]

    def read(self) -> Arrays:
        """Read the four files, see :meth:`ArrayDataModule.read`."""
        train, test = (
            _images(self._file(f"{part}-images-idx3-ubyte.gz", 16), self._file(f"{part}-labels-idx1-ubyte.gz", 8))
            for part in ("train", "t10k")
        )
        return Arrays(train, None, test, list(self.names))

    def _file(self, name: str, header: int) -> np.ndarray:
        """Read one IDX file of bytes: a magic number, the sizes, then the values."""
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(
                f"no {name} in {self.root}; `ednag data download fashion_mnist` fetches Fashion-MNIST, and Debian's "
                "package dataset-fashion-mnist holds it"
            )
        with reading(path, "a complete IDX file of bytes", "fetch it again"), gzip.open(path, "rb") as stream:
            content = stream.read(LARGEST_IDX + 1)
            sizes = np.frombuffer(content, ">i4", (header - 4) // 4, offset=4)
            values = np.frombuffer(content, np.uint8, offset=header)
            if content[:3] != b"\x00\x00\x08" or len(values) != math.prod(sizes.tolist()):
                raise ValueError("its header states another size")
            return values.reshape(sizes)


def _usual(name: str) -> str:
    """Name of an array as it is written here: ``x_train`` for ``X_train``, or for ``train_images`` as of MedMNIST."""
    for part in ("train", *TEST_NAMES):
        for axis, word in (("x", "images"), ("y", "labels")):
            if name.lower() in (f"{axis}_{part}", f"{part}_{word}"):
                return f"{axis}_{part}"
    return name


def _images(pixels: np.ndarray, labels: np.ndarray) -> MemoryImages:
    """Wrap arrays; grey images may lack the last axis."""
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[-1] not in (1, 3):
        raise ValueError(f"images must be (n, H, W, C), got {pixels.shape}: move the second axis to the end")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != len(labels) or 0 in pixels.shape[1:]:
        raise ValueError(
            f"images must be uint8 (n, H, W, C) with a label each, got {pixels.dtype} {pixels.shape} and {len(labels)} labels"
        )
    return MemoryImages(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))
