"""What a network must know of the images it is built for, read off any data module."""

from __future__ import annotations

from dataclasses import dataclass, field

import lightning.pytorch as pl


@dataclass(frozen=True)
class ImageTask:
    """What must be known about the images to build a network for them.

    Attributes:
        num_classes: number of labels.
        in_channels: channels.
        image_size: height and width in pixels.
        class_names: name of each label; empty where the data module doesn't tell.
        normalisation: ``{"mean": [...], "std": [...]}`` of each channel; empty where the data module doesn't tell.
    """

    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    class_names: list[str] = field(default_factory=list)
    normalisation: dict[str, list[float]] = field(default_factory=dict)


def describe_data(data: pl.LightningDataModule) -> ImageTask:
    """Read off a data module what its images are.

    Any ``LightningDataModule`` serves that has, after ``setup``, the attribute ``num_classes`` and whose loaders yield
    pairs of float images ``(B, C, H, W)`` and int64 labels ``(B,)``; it needs train, validation and test loaders.
    ``in_channels`` and ``image_size`` (a side, or height and width) are read off the first training batch where it
    doesn't tell; ``class_names`` and ``normalisation`` are optional.

    Raises:
        ValueError: if ``num_classes`` is missing or smaller than 2.
    """
    data.prepare_data()
    data.setup("fit")
    name = type(data).__name__
    num_classes = getattr(data, "num_classes", None)
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"{name} must have the attribute num_classes, an integer >= 2, after setup; got {num_classes}")
    channels, size = getattr(data, "in_channels", None), getattr(data, "image_size", None)
    if channels is None or size is None:
        shape = tuple(next(iter(data.train_dataloader()))[0].shape)
        if len(shape) != 4:
            raise ValueError(f"{name} must yield images of shape (batch, channels, height, width), got {shape}")
        channels, size = shape[1], shape[2:]
    height, width = (size, size) if isinstance(size, int) else size
    names, normalisation = getattr(data, "class_names", []), getattr(data, "normalisation", {})
    return ImageTask(num_classes, int(channels), (int(height), int(width)), list(names), dict(normalisation))
