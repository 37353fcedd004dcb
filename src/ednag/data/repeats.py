"""Images that a data set holds more than once: in two splits they flatter the test, in two classes they contradict."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

READ = 2**30
"""Bytes of equally long files beyond which their contents are not compared."""


class Entry(NamedTuple):
    """One image: its ``content`` (a digest), ``label``, and ``name`` for messages."""

    content: bytes
    label: int
    name: str


def file_entries(splits: Mapping[str, tuple[Sequence[Path], Tensor]]) -> dict[str, list[Entry]]:
    """Digest those files whose size another file has too; no others can be equal.

    Args:
        splits: files and labels, by the name of the split.

    Returns:
        entries by split; nothing where more than :data:`READ` bytes would have to be read.
    """
    sizes = {path: path.stat().st_size for files, _ in splits.values() for path in files if path.is_file()}
    often: dict[int, int] = {}
    for size in sizes.values():
        often[size] = often.get(size, 0) + 1
    chosen = {path for path, size in sizes.items() if often[size] > 1}
    if sum(sizes[path] for path in chosen) > READ:
        return {}
    return {
        split: [
            Entry(_digest(path.read_bytes()), label, f"{path.parent.name}/{path.name}")
            for path, label in zip(files, labels.tolist(), strict=True)
            if path in chosen
        ]
        for split, (files, labels) in splits.items()
    }


def array_entries(splits: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, list[Entry]]:
    """Digest images in memory, uint8 ``(n, H, W, C)``, with labels, int64 ``(n,)``, by the name of the split."""
    return {
        split: [
            Entry(_digest(image.numpy().tobytes()), label, f"{split} image {i}")
            for i, (image, label) in enumerate(zip(torch.unbind(pixels), labels.tolist(), strict=True))
        ]
        for split, (pixels, labels) in splits.items()
    }


def warn_of_repeats(where: str, splits: Mapping[str, Sequence[Entry]]) -> None:
    """Warn of images that two splits share, and of those that have two labels.

    Args:
        where: the data set, for messages.
        splits: entries by split, the training images first.
    """
    known: dict[bytes, tuple[str, Entry]] = {}
    shared: dict[tuple[str, str], list[tuple[Entry, Entry]]] = {}
    torn: list[tuple[Entry, Entry]] = []
    for split, entries in splits.items():
        for entry in entries:
            other, first = known.setdefault(entry.content, (split, entry))
            if other != split:
                shared.setdefault((other, split), []).append((first, entry))
            if first.label != entry.label:
                torn.append((first, entry))
    told = [
        f"{where}: {len(pairs)} of the {later} images are {earlier} images as well ({pairs[0][1].name} is "
        f"{pairs[0][0].name}), so figures measured on them flatter; remove them from one side"
        for (earlier, later), pairs in shared.items()
    ]
    if torn:
        told.append(
            f"{where}: {len(torn)} images have two labels ({torn[0][0].name} is {torn[0][1].name}); remove the wrong ones"
        )
    for line in told:
        log.warning("%s", line)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
