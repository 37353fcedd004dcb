"""Take images from a data module: one batch, a few of each class, or all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.data.checks import batches
from ednag.data.pixels import content_digest, fit_square, to_bytes


@dataclass(frozen=True)
class ImageBatch:
    """Images of a task.

    Attributes:
        images: float32 ``(B, C, H, W)``, prepared as for a network.
        labels: int64 ``(B,)``.
        num_classes: number of labels of the task.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def image_batch(
    data: pl.LightningDataModule,
    count: int,
    device: torch.device | str = "cpu",
    split: Literal["train", "val"] = "train",
) -> ImageBatch:
    """Take the first images of a data module's training or validation loader, normalised but not augmented.

    The loader may shuffle: the global random state is seeded while it runs and restored afterwards, so that the same
    module gives the same images each time. The module's ``on_after_batch_transfer`` prepares the batch; outside
    training, it is expected not to augment.

    Args:
        data: yields pairs of images and labels, and says how many labels there are (``num_classes``).
        count: how many images; fewer where the loader has fewer.
        device: where the images go.
        split: whose loader.

    Returns:
        normal tensors, usable for gradients even when this is called in inference mode.

    Raises:
        ValueError: if there are no images, the batches are not pairs, or ``num_classes`` is missing.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        data.prepare_data()
        data.setup("fit")
        found: list[tuple[Tensor, Tensor]] = []
        for batch in batches(data, split):
            moved = [part.to(device) for part in batch]
            images, labels = data.on_after_batch_transfer(tuple(moved), 0)
            found.append((images.clone(), labels.clone()))
            if sum(len(some) for some, _ in found) >= count:
                break
        if not found:
            named = "training" if split == "train" else "validation"
            raise ValueError(f"{type(data).__name__} has no {named} images")
        num_classes = getattr(data, "num_classes", None)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"{type(data).__name__} must have num_classes after setup, got {num_classes!r}")
        images = torch.cat([some for some, _ in found])[:count]
        images = images.float() if images.is_floating_point() else images.float() / 255
        return ImageBatch(images, torch.cat([labels for _, labels in found])[:count], num_classes)


def image_shape(data: pl.LightningDataModule) -> tuple[tuple[int, int, int], int]:
    """Tell the shape ``(C, H, W)`` of a data module's images and the number of labels.

    Nothing is read where the module knows ``num_classes``, ``in_channels`` and ``image_size`` (a side) by now; else the
    first training batch tells, see :func:`image_batch`.
    """
    told = [getattr(data, name, None) for name in ("num_classes", "in_channels", "image_size")]
    classes, channels, side = (value if isinstance(value, int) else 0 for value in told)
    if min(classes, channels, side) > 0:
        return (channels, side, side), classes
    batch = image_batch(data, 1)
    return batch.shape, batch.num_classes


class ShownImages(NamedTuple):
    """Images that stand for a data set.

    Attributes:
        pixels: uint8 ``(n, C, S, S)``.
        labels: int64 ``(n,)``, ``0 .. K - 1``.
        names: of the classes.
    """

    pixels: Tensor
    labels: Tensor
    names: list[str]

    def digest(self) -> str:
        """Sha256 of pixels and labels."""
        return content_digest(self.pixels, self.labels)


def class_images(data: pl.LightningDataModule, per_class: int, image_size: int) -> ShownImages:
    """Take some training images of each class, reduced to one size: the first that the training loader yields.

    A module that has ``class_samples(per_class)``, such as :class:`~ednag.data.image_folder.ImageFolder`, is asked for
    them instead, so that no other image is read. The loader may shuffle: the global random state is seeded while it runs and restored afterwards, so that the same
    module gives the same images each time.

    Args:
        data: yields pairs of images, ``(B, C, H, W)`` of 8 or 16 bits or floats, and labels. Floats are scaled so that
            they span the range of 8 bits.
        per_class: most images of a class.
        image_size: side that images are scaled and cut to.

    Raises:
        ValueError: if there are no images, or batches are not pairs.
    """
    found: list[tuple[Tensor, Tensor]] = []
    count: dict[int, int] = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        data.prepare_data()
        for batch in _batches(data, per_class):
            kept = _first_of_each(batch[1], count, per_class)
            found.append((_reduced(batch[0][kept], image_size), batch[1][kept]))
            wanted = getattr(data, "num_classes", None)
            if isinstance(wanted, int) and len(count) >= wanted and min(count.values()) >= per_class:
                break
    if not count:
        raise ValueError(f"{type(data).__name__} has no training images")
    kinds, labels = torch.cat([some for _, some in found]).long().cpu().unique(return_inverse=True)  # type: ignore[no-untyped-call]
    names = list(getattr(data, "class_names", [])) or [str(kind) for kind in range(int(kinds.max()) + 1)]
    pixels = torch.cat([some for some, _ in found]).cpu()
    pixels = to_bytes(pixels, float(pixels.amin()), float(pixels.amax()))
    return ShownImages(pixels, labels, [names[kind] for kind in kinds.tolist()])


def _batches(data: pl.LightningDataModule, per_class: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches that hold the images wanted: one of nothing else, where the module can choose, or the training loader's."""
    if callable(choose := getattr(data, "class_samples", None)):
        return [choose(per_class)]
    data.setup("fit")
    return batches(data, "train")


def _first_of_each(labels: Tensor, count: dict[int, int], per_class: int) -> Tensor:
    """Places of the images whose class still lacks some; ``count`` is brought up to date."""
    places = []
    for place, label in enumerate(labels.tolist()):
        count[label] = count.get(label, 0) + 1
        if count[label] <= per_class:
            places.append(place)
    return torch.tensor(places, dtype=torch.int64, device=labels.device)


def _reduced(images: Tensor, size: int) -> Tensor:
    """Scale the shorter side to ``size`` and keep the centre; integers of more than 8 bits become floats first."""
    if not images.is_floating_point() and images.dtype != torch.uint8:
        images = images.float() / 257 if images.numel() and images.max() > 255 else images.float()
        images = images.round().clamp(0, 255).to(torch.uint8)
    return fit_square(images, size)


class Images(NamedTuple):
    """Images and their labels.

    Attributes:
        pixels: uint8 ``(n, 3, S, S)``.
        labels: int64 ``(n,)``.
    """

    pixels: Tensor
    labels: Tensor


class Pool(NamedTuple):
    """All images of a source: those to train and validate on, and those to test on."""

    train: Images
    test: Images

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return int(self.train.labels.max()) + 1


def open_pool(data: pl.LightningDataModule, image_size: int) -> Pool:
    """Read all images of a data module.

    Args:
        data: any that yields ``(images, labels)`` from its train, validation and test loaders, where images are uint8, or
            floats (which are scaled so that the training images span the range of 8 bits). An
            :class:`~ednag.data.module.ImageDataModule` serves unaugmented ones here.
        image_size: side that images are scaled and cut to.

    Returns:
        grey images with three equal channels.

    Raises:
        ValueError: if there are fewer than two classes, or images are not of one or three channels.
    """
    with torch.random.fork_rng(devices=[]):  # a loader that shuffles draws from the global state
        torch.default_generator.manual_seed(0)
        data.prepare_data()
        data.setup("fit")
        parts = [_read(batches(data, split), image_size) for split in ("train", "val")]
        data.setup("test")
        parts.append(_read(batches(data, "test"), image_size))
    low, high = float(parts[0].pixels.amin()), float(parts[0].pixels.amax())
    train, val, test = [part._replace(pixels=to_bytes(part.pixels, low, high)) for part in parts]
    if len(set(train.labels.tolist())) < 2:
        raise ValueError(f"{type(data).__name__} has one class only; a task needs two or more")
    return Pool(Images(torch.cat([train.pixels, val.pixels]), torch.cat([train.labels, val.labels])), test)


def _read(loader: Iterable[tuple[Tensor, Tensor]], image_size: int) -> Images:
    """Collect what a loader yields, as it comes, but for size and channels."""
    pixels, labels = [], []
    for some, targets in loader:
        if some.shape[1] not in (1, 3):
            raise ValueError(f"images of a task have 1 or 3 channels, got {some.shape[1]}")
        pixels.append(fit_square(some, image_size).expand(-1, 3, -1, -1))
        labels.append(targets)
    return Images(torch.cat(pixels).contiguous(), torch.cat(labels).long())
