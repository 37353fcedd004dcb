"""What images a run has seen, so that somebody else can tell whether theirs are the same."""

from __future__ import annotations

from typing import Any

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
