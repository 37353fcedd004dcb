"""What images a run has seen, so that somebody else can tell whether theirs are the same."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from ednag.core.fingerprint import is_plain
from ednag.data.files import FileImages, MemoryImages
from ednag.data.module import ImageDataModule


def describe_splits(data: ImageDataModule) -> dict[str, Any]:
    """Describe the images of each split: their number, that of each class, and a digest.

    Args:
        data: set up, and tested.

    Returns:
        ``class`` of the data module, ``origin`` in words, ``class_names``, and ``splits``: for ``train``, ``val`` and
        ``test`` the number of ``images``, the numbers ``per_class``, the ``sha256`` and what it is ``of``.
    """
    splits = data.splits
    tested = data.test_dataloader().dataset
    parts = {"train": splits.train, "val": splits.val, "test": tested}
    return {
        "class": type(data).__name__,
        "origin": splits.origin,
        "class_names": list(data.class_names),
        "splits": {
            name: {
                "images": len(images),
                "per_class": images.labels.bincount(minlength=data.num_classes).tolist(),
                "sha256": images.digest(),
                "of": images.digest_of,
            }
            for name, images in parts.items()
            if isinstance(images, (MemoryImages, FileImages))
        },
    }


INDIFFERENT = {
    "root",
    "path",
    "download",
    "num_workers",
    "in_memory",
    "memory_limit",
    "prepare_data_per_node",
    "trainer",
}
"""Options of a data module that say where images are and how they are read, not what they are."""


def identity(data: pl.LightningDataModule) -> dict[str, Any]:
    """Tell a data module apart from any other, for whoever goes on with what was begun with it.

    Returns:
        ``class``, plain ``options``, and ``content``: digests by split, or by file; empty where the module has no
        ``digest``.
    """
    own = {name: value for name, value in vars(data).items() if not name.startswith("_") and name not in INDIFFERENT}
    options = {name: value for name, value in own.items() if is_plain(value)}
    digest = getattr(data, "digest", None)
    return {
        "class": type(data).__name__,
        "options": {**options, "augmentation": vars(data.augmentation) if isinstance(data, ImageDataModule) else {}},
        "content": digest() if callable(digest) else {},
    }


def differing(known: Any, now: dict[str, Any]) -> str:
    """Name what differs between two results of :func:`identity`."""
    if not isinstance(known, dict):
        return "everything"
    names: list[str] = []
    for part in {**known, **now}:
        old, new = known.get(part), now.get(part)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{part} {name}" for name in {**old, **new} if old.get(name) != new.get(name)]
        elif old != new:
            names.append(part)
    return ", ".join(names)
