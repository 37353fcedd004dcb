"""What is told of a folder's training images before anything is trained: classes of few images, and small images."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor

log = logging.getLogger(__name__)

FEW = 8
"""Training images below which a class is told, if others have four times as many."""

LOOKED_AT = 32
"""Images whose size is looked at, evenly spaced."""


def warn_of_few(where: str, labels: Tensor, names: Sequence[str]) -> None:
    """Warn of classes that have few training images, and far fewer than most.

    Args:
        where: the data set, for the message.
        labels: of the training images, int64 ``(n,)``.
        names: of the classes.
    """
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    middle = median(counts)
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < min(FEW, middle / 4 + 1)]
    if few:
        log.warning(
            "%s: few training images of %s, where others have %g: what is measured on so few is mostly luck; add images, "
            "or leave the class out",
            where,
            ", ".join(few[:8]),
            middle,
        )


def warn_of_small(where: str, files: Sequence[Path], size: int) -> None:
    """Warn of images that are enlarged to more than twice their size.

    Args:
        where: the data set, for the message.
        files: of the training images; those that can't be read are passed over here.
        size: to which images are scaled.
    """
    sides = []
    for file in files[:: max(len(files) // LOOKED_AT, 1)]:
        with contextlib.suppress(Exception), Image.open(file) as image:
            sides.append((min(image.size), image.size))
    if sides and 2 * median(side for side, _ in sides) < size:
        width, height = sorted(sides)[len(sides) // 2][1]
        log.warning(
            "%s: images are mostly about %d x %d pixels, and are enlarged to %d x %d, which adds cost but no detail; see "
            "--data.image_size",
            where,
            width,
            height,
            size,
            size,
        )
