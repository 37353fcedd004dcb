"""Image files classified in batches, and what was found as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ednag.classify.classifier import Classifier
from ednag.data.folders import images_below
from ednag.data.preprocessing import Preprocessing

Row = dict[str, Any]
"""What was found in one file: ``file``, ``classes`` (name and probability, the likeliest first) and ``error``."""


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List images: files as they are named, and all that are below folders, sorted.

    Raises:
        FileNotFoundError: if a path doesn't exist.
        ValueError: if there is no image at all.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
        found += images_below(path) if path.is_dir() else [path]
    if not found:
        raise ValueError(f"no image in {', '.join(map(str, paths))}")
    return found


def classify_files(
    classifier: Classifier, files: Sequence[Path], top: int = 3, batch_size: int = 64, threads: int = 2
) -> Iterator[list[Row]]:
    """Classify files, a batch at a time; one that can't be read gets an ``error`` in place of classes.

    Args:
        classifier: see :func:`ednag.classify.classifier.load`.
        files: images of any kind and size.
        top: how many classes to tell of each; all if there are fewer.
        batch_size: how many go through the network at once.
        threads: that read files.

    Yields:
        a row for each file of a batch, in order.

    Raises:
        ValueError: if a number is below 1, or the classifier doesn't know how images become inputs.
    """
    if min(top, batch_size, threads) < 1:
        raise ValueError(f"top, batch_size and threads must be >= 1, got {top}, {batch_size} and {threads}")
    how = classifier.preprocessing
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(files), batch_size):
            some = files[first : first + batch_size]
            read = list(pool.map(partial(_read, how), some))
            pixels = [one for one in read if isinstance(one, Tensor)]
            found = iter(_best(classifier, torch.stack(pixels), top) if pixels else ())
            yield [
                {"file": str(path), "classes": next(found), "error": None}
                if isinstance(one, Tensor)
                else {"file": str(path), "classes": [], "error": one}
                for path, one in zip(some, read, strict=True)
            ]


def as_json(rows: Sequence[Row]) -> str:
    """Write rows as JSON: a list of objects with ``file``, ``classes`` (of ``class`` and ``probability``) and ``error``."""
    return json.dumps(list(rows), indent=2) + "\n"


def as_csv(rows: Sequence[Row], top: int) -> str:
    """Write rows as CSV: ``file``, ``class_1``, ``probability_1``, ..., ``error``."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", *(f"{word}_{i}" for i in range(1, top + 1) for word in ("class", "probability")), "error"])
    for row in rows:
        cells = [cell for one in row["classes"] for cell in (one["class"], f"{one['probability']:.6f}")]
        writer.writerow([row["file"], *cells, *[""] * (2 * top - len(cells)), row["error"] or ""])
    return stream.getvalue()


FORMATS: tuple[Literal["csv", "json"], ...] = ("csv", "json")


def _read(how: Preprocessing, path: Path) -> Tensor | str:
    """Read the pixels of a file, or say why that is impossible."""
    try:
        return how.read(path)
    except ValueError as error:
        return str(error)


def _best(classifier: Classifier, pixels: Tensor, top: int) -> list[list[dict[str, Any]]]:
    """Tell the likeliest classes of images, uint8 ``(B, C, H, W)``."""
    probabilities = classifier.predict(classifier.preprocessing.normalise(pixels), len(pixels))
    best = probabilities.topk(min(top, probabilities.shape[1]))
    return [
        [{"class": classifier.class_names[label], "probability": p} for p, label in zip(values, labels, strict=True)]
        for values, labels in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
