"""What a network must know of the images it is built for, read off any data module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl

from ednag.data.checks import check_loaders, telling
from ednag.data.module import ImageDataModule
from ednag.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class ImageTask:
    """What must be known about the images to build a network for them.

    Attributes:
        num_classes: number of labels.
        in_channels: channels.
        image_size: height and width in pixels.
        class_names: name of each label; empty where the data module doesn't tell.
        preprocessing: how an image becomes an input, see :meth:`ednag.data.preprocessing.Preprocessing.describe`; only
            some of its words where the data module doesn't tell all.
    """

    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    class_names: list[str] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(default_factory=dict)


def describe_data(data: pl.LightningDataModule) -> ImageTask:
    """Read off a data module what its images are.

    Any ``LightningDataModule`` serves that has, after ``setup``, the attribute ``num_classes`` and whose loaders yield
    pairs of float images ``(B, C, H, W)`` and int64 labels ``(B,)``; it needs train, validation and test loaders, of
    which one batch each is checked here. ``in_channels`` and ``image_size`` (a side, or height and width) are optional,
    as are ``class_names``, ``normalisation`` (mean and standard deviation), and ``preprocessing`` (a
    :class:`~ednag.data.preprocessing.Preprocessing`), without which a trained network can't be given image files.

    Raises:
        ValueError: if ``num_classes`` is missing or smaller than 2, or see :func:`ednag.data.checks.check_loaders`.
    """
    name = type(data).__name__
    with telling(name):
        data.prepare_data()
        data.setup("fit")
    num_classes = getattr(data, "num_classes", None)
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 2:
        raise ValueError(f"{name} must have the attribute num_classes, an integer >= 2, after setup; got {num_classes}")
    told = getattr(data, "in_channels", None), getattr(data, "image_size", None)
    shape = _told_shape(*told)
    if not isinstance(data, ImageDataModule):  # whose batches are right by construction, and its test images sealed
        seen = check_loaders(data, num_classes)
        if shape is not None and shape != seen:
            raise ValueError(f"{name} says in_channels={told[0]} and image_size={told[1]}, its images are {seen}")
        shape = seen
    if shape is None:
        raise ValueError(f"{name} must have in_channels and image_size")
    names, how = getattr(data, "class_names", None) or [], getattr(data, "preprocessing", None)
    if names and (len(names) != num_classes or not all(isinstance(one, str) for one in names)):
        raise ValueError(f"{name}.class_names must hold a text for each of {num_classes} classes; got {names!r}"[:300])
    words = (
        how.describe()
        if isinstance(how, Preprocessing)
        else {"input_size": list(shape), **_plain_numbers(getattr(data, "normalisation", None), name)}
    )
    return ImageTask(num_classes, shape[0], shape[1:], list(names), words)


def _plain_numbers(given: Any, name: str) -> dict[str, Any]:
    """Normalisation as lists of numbers.

    Raises:
        ValueError: if it is something else.
    """
    try:
        return {str(word): [float(value) for value in values] for word, values in (given or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f'{name}.normalisation must be {{"mean": [...], "std": [...]}}, got {given!r}'[:300]) from None


def _told_shape(channels: int | None, size: Any) -> tuple[int, int, int] | None:
    """Channels, height and width, where a data module tells all of them."""
    if channels is None or size is None:
        return None
    try:
        height, width = (size, size) if isinstance(size, int) else size
        return int(channels), int(height), int(width)
    except (TypeError, ValueError):
        raise ValueError(
            f"image_size must be a side, or height and width, got {size!r}; in_channels {channels!r}"
        ) from None
