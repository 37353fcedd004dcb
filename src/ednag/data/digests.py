"""What images a run has seen, so that somebody else can tell whether theirs are the same."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor

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
                **digest(images),
            }
            for name, images in parts.items()
            if isinstance(images, (MemoryImages, FileImages))
        },
    }


def digest(images: MemoryImages | FileImages) -> dict[str, str]:
    """Digest a split: of its files (folder, name, size and label of each), or of its pixels and labels."""
    content = hashlib.sha256()
    if images.files:
        for path, label in zip(images.files, images.labels.tolist(), strict=True):
            content.update(f"{path.parent.name}/{path.name}\0{path.stat().st_size}\0{label}\n".encode())
        return {
            "sha256": content.hexdigest(),
            "of": "class folder, name, size in bytes and label of each file, in order",
        }
    parts: list[Tensor] = [images.pixels, images.labels] if isinstance(images, MemoryImages) else [images.labels]
    for part in parts:
        content.update(str(tuple(part.shape)).encode())
        content.update(part.contiguous().numpy().data)
    return {"sha256": content.hexdigest(), "of": "shapes and bytes of the 8-bit pixels and the labels"}
