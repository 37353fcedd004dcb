"""The common part of the image data modules: splits, loaders that resume exactly, batches prepared on the device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Sampler, default_collate

from ednag.data.augmentation import (
    Augmentation,
    crop_and_flip,
    cutout,
    jitter,
    normalise,
    rand_augment,
    resized_crop,
)
from ednag.data.decoding import Levels
from ednag.data.files import Batch, FileImages, MemoryImages
from ednag.data.preprocessing import CropMode, Preprocessing

Images = MemoryImages | FileImages
"""A data set of 8-bit images and labels."""


@dataclass(frozen=True)
class Splits:
    """What a data module serves.

    Attributes:
        train: training images.
        val: held-out images that training may be steered by.
        test: opens the test images; called when the test loader is first asked for, never before.
        class_names: name of each label.
        tested: number of test images, if it is known before they are opened.
        origin: where the images come from, in words.
        test_digest: tells the test images apart from others without opening them, where that can be.
    """

    train: Images
    val: Images
    test: Callable[[], Images]
    class_names: list[str]
    tested: int | None = None
    origin: str = ""
    test_digest: Callable[[], str] | None = None

    def digest(self) -> dict[str, str]:
        """Tell these images apart from any others, split by split."""
        tested = {} if self.test_digest is None else {"test": self.test_digest()}
        return {"train": self.train.digest(), "val": self.val.digest(), **tested}

    def __str__(self) -> str:
        """Say what was read: classes, and images of each split."""
        names = ", ".join(self.class_names[:10]) + (", ..." if len(self.class_names) > 10 else "")
        tested = "test images that are opened later" if self.tested is None else f"{self.tested:,} test images"
        counts = f"{len(self.train):,} training, {len(self.val):,} validation and {tested}"
        return f"{len(self.class_names)} classes ({names}); {counts}" + f"; from {self.origin}" * bool(self.origin)


class ImageDataModule(pl.LightningDataModule):
    """Images for training, validation and test; a subclass implements :meth:`open`.

    Loaders yield uint8 ``(B, C, S, S)`` images and int64 ``(B,)`` labels. Inside a Trainer they are augmented (while
    training) and normalised on the device; elsewhere, call :meth:`prepare`. The order of the images and their
    augmentation follow from the seed and the number of the epoch, so a resumed training sees what an uninterrupted one
    would have seen.

    Args:
        batch_size: images per batch (a device).
        image_size: side of the square images, ``S``.
        in_channels: channels, ``C``.
        val_fraction: share of the training images that is held out for validation, stratified, in (0, 1).
        crop_padding: black pixels around a training image before it is cropped at random; 0 for no cropping.
        flip: mirror training images with probability one half.
        cutout: side in pixels of the square cut out of training images; 0 for none.
        min_area: least share of an image that a random crop covers, scaled to the whole size; 1 for no such crop. In
            place of ``crop_padding``, which must be 0 then.
        colour: brightness, contrast and saturation change by factors up to this far from 1.
        rand_augment: strength, 1 to 30, of two random operations on each training image; 0 for none.
        mean: mean of each channel, in 0..1; computed from training images if omitted.
        std: standard deviation of each channel, likewise.
        num_workers: processes that read images from disk; images held in memory need none.
        seed: of splits, order and augmentation.

    Attributes:
        class_names: name of each label, after :meth:`setup`.
        normalisation: ``{"mean": [...], "std": [...]}``, after :meth:`setup`.

    Raises:
        ValueError: for an option out of range.

    Examples:
        >>> from ednag.data import Digits
        >>> data = Digits(val_fraction=0.2)
        >>> data.setup()
        >>> len(data.splits.train), len(data.splits.val)
        (1151, 287)
        >>> data.class_names
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """

    def __init__(
        self,
        batch_size: int = 256,
        image_size: int = 32,
        in_channels: int = 3,
        val_fraction: float = 0.1,
        crop_padding: int = 4,
        flip: bool = True,
        cutout: int = 0,
        min_area: float = 1.0,
        colour: float = 0.0,
        rand_augment: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or image_size < 1 or num_workers < 0:
            raise ValueError(
                f"batch_size and image_size must be >= 1 and num_workers >= 0, got {batch_size}, {image_size} "
                f"and {num_workers}"
            )
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must be between 0 and 1, got {val_fraction}")
        if (mean is None) != (std is None) or (std is not None and min(std) <= 0):
            raise ValueError(f"give both mean and a positive std of each channel, or neither; got {mean} and {std}")
        self.batch_size = batch_size
        self.image_size = image_size
        self.in_channels = in_channels
        self.val_fraction = val_fraction
        self.augmentation = Augmentation(crop_padding, flip, cutout, min_area, colour, rand_augment)
        self.num_workers = num_workers
        self.seed = seed
        self.class_names: list[str] = []
        self.normalisation: dict[str, list[float]] = {}
        if mean is not None and std is not None:
            self.normalisation = {"mean": _per_channel(mean, in_channels), "std": _per_channel(std, in_channels)}
        self._splits: Splits | None = None
        self._test: Images | None = None
        self._random: tuple[int, torch.Generator] | None = None

    crop_mode: CropMode = "center"
    crop_pct = 1.0
    levels: Levels | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes an input; mean and standard deviation are known after :meth:`setup`."""
        mean, std = (tuple(self.normalisation.get(name, ())) for name in ("mean", "std"))
        size = (self.image_size, self.image_size)
        return Preprocessing(size, self.in_channels, mean, std, self.crop_mode, self.crop_pct, self.levels)

    @abstractmethod
    def open(self) -> Splits:
        """Find and split the images; called once, by :meth:`setup`."""

    @property
    def num_classes(self) -> int:
        """Number of labels; known after :meth:`setup`."""
        return len(self.class_names)

    @property
    def splits(self) -> Splits:
        """What :meth:`open` found; opens it first where :meth:`setup` has not been called."""
        if self._splits is None:
            self.setup()
        if self._splits is None:
            raise RuntimeError(f"{type(self).__name__}.setup did not open any images")
        return self._splits

    def setup(self, stage: str | None = None) -> None:
        """Open the images once, whatever the stage; test images are opened by :meth:`test_dataloader` only."""
        if self._splits is not None:
            return
        self._splits = self.open()
        self.class_names = self._splits.class_names
        rank_zero_info(f"{type(self).__name__}: {self._splits}")
        if not self.normalisation:
            self.normalisation = channel_statistics(self._splits.train)

    def digest(self) -> dict[str, str]:
        """Tell the images apart from any others, split by split; see :meth:`Splits.digest`."""
        return self.splits.digest()

    def __getstate__(self) -> dict[str, Any]:
        """What another process opens the same images from: everything but what is open here."""
        return {**self.__dict__, "_splits": None, "_test": None, "_random": None, "trainer": None}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training images in an order that follows from the seed and the epoch."""
        return self._loader(self.splits.train, training=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out images, in a fixed order."""
        return self._loader(self.splits.val, training=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test images, in a fixed order."""
        if self._test is None:
            self._test = self.splits.test()
        return self._loader(self._test, training=False)

    def _loader(self, images: Images, training: bool) -> DataLoader[Batch]:
        """Make a loader; images in memory are fetched by the batch."""
        in_memory = isinstance(images, MemoryImages)
        collate: Callable[[Any], Any] = _as_fetched if in_memory else default_collate
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            images,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(images), self.seed, generator) if training else None,
            # A last batch of one image has no variance to normalise by.
            drop_last=training and len(images) > 1 and len(images) % self.batch_size == 1,
            num_workers=0 if in_memory else self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            generator=generator,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Prepare a batch on the device: augmented while the Trainer trains, normalised always."""
        training = self.trainer is not None and bool(self.trainer.training)
        return self.prepare(batch, self.trainer.current_epoch if training and self.trainer is not None else None)

    def prepare(self, batch: Batch, epoch: int | None = None) -> Batch:
        """Turn a loader's batch into a network's input.

        Args:
            batch: images and labels, on any device. Floating images are passed on unchanged.
            epoch: augment as in this epoch; ``None`` for no augmentation.

        Returns:
            float32 images ``(B, C, S, S)``, normalised, and their labels.
        """
        images, labels = batch
        if images.dtype != torch.uint8:
            return batch
        mean = torch.tensor(self.normalisation["mean"], device=images.device)
        std = torch.tensor(self.normalisation["std"], device=images.device)
        if epoch is None:
            return normalise(images, mean, std), labels
        generator, options = self._generator(images.device, epoch), self.augmentation
        if options.min_area < 1:
            images = resized_crop(images, options.min_area, options.flip, generator)
        elif options.crop_padding or options.flip:
            images = crop_and_flip(images, options.crop_padding, options.flip, generator)
        if options.rand_augment:
            images = rand_augment(images, options.rand_augment, generator)
        if options.colour:
            images = jitter(images, options.colour, generator)
        out = normalise(images, mean, std)
        return (cutout(out, options.cutout, generator) if options.cutout else out), labels

    def _generator(self, device: torch.device, epoch: int) -> torch.Generator:
        """Random numbers of one epoch: continued from batch to batch, begun anew with each epoch."""
        rank = self.trainer.global_rank if self.trainer is not None else 0
        if self._random is None or self._random[0] != epoch or self._random[1].device != device:
            seed = epoch_seed(self.seed, epoch) + rank
            self._random = (epoch, torch.Generator(device).manual_seed(seed))
        return self._random[1]

    def restart(self) -> None:
        """Forget how far the current epoch's random numbers are; called before each training begins."""
        self._random = None


class EpochSampler(Sampler[int]):
    """Shuffle by seed and epoch, whatever has been drawn before.

    Args:
        length: number of images.
        seed: of the order.
        workers: the loader's generator, from which the seeds of its workers are drawn; it too is set by the epoch.
    """

    def __init__(self, length: int, seed: int, workers: torch.Generator) -> None:
        self.length = length
        self.seed = seed
        self.workers = workers
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the Trainer calls this before each one."""
        self.epoch = epoch
        self.workers.manual_seed(epoch_seed(self.seed, epoch))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        return iter(torch.randperm(self.length, generator=generator).tolist())


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch: far apart for neighbouring seeds and epochs, in ``0 .. 2**62 - 1``."""
    return (seed * 6_364_136_223_846_793_005 + epoch * 1_442_695_040_888_963_407 + 1) % 2**62


def channel_statistics(images: Images, most: int = 10_000) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel, in units of the full range.

    Args:
        images: training images; ``most`` evenly spaced ones are looked at (a tenth of that where they are on disk).
        most: see ``images``.

    Returns:
        ``{"mean": [...], "std": [...]}``; a constant channel counts as of deviation 1.
    """
    if isinstance(images, MemoryImages):
        pixels = images.pixels[:: -(-len(images) // most)].flatten(0, 2)
    else:
        plain = FileImages(images.listing, images.preprocessing)
        chosen = range(0, len(images), -(-len(images) // (most // 10)))
        pixels = torch.cat([plain[i][0].flatten(1).T for i in chosen])
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = torch.stack([channel.bincount(minlength=256).double() for channel in pixels.T]) / len(pixels)
    mean = shares @ values
    std = ((shares @ values**2) - mean**2).clamp_min(0).sqrt()
    return {"mean": mean.tolist(), "std": torch.where(std > 1e-4, std, 1.0).tolist()}


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """Check that there is one value per channel."""
    if len(values) != channels:
        raise ValueError(f"mean and std need one value for each of {channels} channels, got {len(values)}")
    return [float(value) for value in values]


def _as_fetched(batch: Batch) -> Batch:
    """Collate nothing: the data set has fetched a whole batch."""
    return batch
