"""A user's own data module, checked before anything is trained: one batch of each loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

WANTED = "pairs of images (batch, channels, height, width) and int64 labels (batch,)"


def check_loaders(data: pl.LightningDataModule, num_classes: int) -> tuple[int, int, int]:
    """Check one batch of the train, validation and test loader; the global random numbers are as before.

    Args:
        data: any data module, prepared and set up for the fit.
        num_classes: labels are ``0 .. num_classes - 1``.

    Returns:
        channels, height and width of the images.

    Raises:
        ValueError: if a loader is missing or empty, or a batch is not what a network can be trained on.
    """
    name = type(data).__name__
    with torch.random.fork_rng(devices=[]), telling(name):
        shapes = {split: _check(data, split, num_classes) for split in ("train", "val")}
        data.setup("test")
        shapes["test"] = _check(data, "test", num_classes)
    odd = {split: shape for split, shape in shapes.items() if shape != shapes["train"]}
    if odd:
        split, shape = next(iter(odd.items()))
        raise ValueError(f"{name}'s {split} images are {_by(shape)}, its train images {_by(shapes['train'])}")
    return shapes["train"]


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Say in one sentence what a user's own class has raised, but for what says so itself.

    Args:
        name: of the class.

    Raises:
        ValueError: in place of anything but ``ValueError``, ``OSError``, ``RuntimeError`` and ``MemoryError``.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{name} raised {type(error).__name__}: {error}") from error


def batches(data: pl.LightningDataModule, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of a loader.

    Args:
        data: any data module, set up.
        split: ``train``, ``val`` or ``test``.

    Raises:
        ValueError: if there is no loader, or a batch is no pair of tensors.
    """
    name = f"{type(data).__name__}.{split}_dataloader"
    yield from _pairs(_only_loader(getattr(data, f"{split}_dataloader"), name), name)


def _pairs(loader: Any, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader, see :func:`batches`."""
    try:
        for batch in loader:
            yield as_pair(batch, name)
    except TypeError as error:  # what collation says of images that are no tensors
        raise ValueError(f"{name} can't make a batch ({error}); expected {WANTED}") from None


def as_pair(batch: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return a batch as images and labels.

    Raises:
        ValueError: if it is no pair of tensors; the message begins with the name.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(f"{name} must yield {WANTED}; it yields {_shown(batch)}")
    images, labels = batch
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise ValueError(f"{name} must yield {WANTED}; it yields {_shown(images)} and {_shown(labels)}")
    return images, labels


def _only_loader(make: Callable[[], Any], name: str) -> Any:
    """Make a loader; a list of one is that one."""
    try:
        loader = make() if callable(make) else None
    except MisconfigurationException:  # what Lightning's own raises
        loader = None
    if isinstance(loader, Sequence | dict):
        loaders = list(loader.values() if isinstance(loader, dict) else loader)
        if len(loaders) > 1:
            raise ValueError(f"{name} must return one loader, it returns {len(loaders)}")
        loader = loaders[0] if loaders else None
    if loader is None:
        raise ValueError(f"{name} is missing: training, choosing and testing each need their own images")
    return loader


def _check(data: pl.LightningDataModule, split: str, num_classes: int) -> tuple[int, int, int]:
    name = f"{type(data).__name__}.{split}_dataloader"
    loader = _only_loader(getattr(data, f"{split}_dataloader"), name)
    try:
        len(loader)
    except TypeError:
        raise ValueError(f"{name} must return a loader that has a length; serve a data set of known size") from None
    first = next(_pairs(loader, name), None)
    where = f"{type(data).__name__}'s {split} images"
    if first is None:
        raise ValueError(f"{where}: there are none; the data set is empty, or smaller than a batch that is dropped")
    images, labels = first
    if images.ndim != 4:
        raise ValueError(
            f"{where} must have the shape (batch, channels, height, width), they are {tuple(images.shape)}"
        )
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        raise ValueError(
            f"{where} must have the shape (batch, channels, height, width), they are {tuple(images.shape)}: move the last "
            "axis to the second place"
        )
    if not images.is_floating_point() and not _prepares(data):
        raise ValueError(f"{where} must be floats, they are {_kind(images)}: divide by 255, or normalise them")
    if images.is_floating_point() and not images.isfinite().all():
        raise ValueError(f"{where} hold values that are not finite")
    _check_labels(labels, len(images), num_classes, f"{type(data).__name__}'s {split} labels")
    return int(images.shape[1]), int(images.shape[2]), int(images.shape[3])


def _check_labels(labels: Tensor, count: int, num_classes: int, where: str) -> None:
    if tuple(labels.shape) != (count,) or labels.dtype != torch.int64:
        raise ValueError(
            f"{where} must be int64 ({count},), one for each image; they are {_kind(labels)} {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{where} must be 0 to {num_classes - 1} (num_classes is {num_classes}); they go from {low} to {high}"
        )


def _prepares(data: pl.LightningDataModule) -> bool:
    """Whether a module changes its batches on the device, and so may turn integers into floats there."""
    hooks = ("on_before_batch_transfer", "on_after_batch_transfer", "transfer_batch_to_device")
    return any(getattr(type(data), hook) is not getattr(pl.LightningDataModule, hook) for hook in hooks)


def _shown(value: object) -> str:
    """Describe a batch, or a part of one, in a few words."""
    if isinstance(value, dict):
        return f"a dictionary of {', '.join(map(str, list(value)[:5]))}"
    if isinstance(value, tuple | list):
        kinds = ", ".join(sorted({type(part).__name__ for part in value}))
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    return f"a {_kind(value)}" if isinstance(value, Tensor) else f"an object of {type(value).__name__}"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
