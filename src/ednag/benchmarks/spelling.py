"""Names of a table's columns: this project's, and the benchmarks' own spellings of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

MEASURES = {"top1": "top-1 accuracy, %", "mIoU": "mIoU, %", "neg_loss": "negative loss", "ssim": "SSIM"}
"""What the measures of TransNAS-Bench-101 are."""

TASKS = {
    "class_object": "top1",
    "class_scene": "top1",
    "jigsaw": "top1",
    "segmentsemantic": "mIoU",
    "room_layout": "neg_loss",
    "normal": "ssim",
    "autoencoder": "ssim",
}
"""Tasks of TransNAS-Bench-101, and the measure of each as the benchmark names it; all are higher is better."""

NATS = {
    "cifar10/valid": ("cifar10-valid", "x-valid"),
    "cifar10/test": ("cifar10", "ori-test"),
    "cifar100/valid": ("cifar100", "x-valid"),
    "cifar100/test": ("cifar100", "x-test"),
    "imagenet16-120/valid": ("ImageNet16-120", "x-valid"),
    "imagenet16-120/test": ("ImageNet16-120", "x-test"),
}
"""Accuracies of NAS-Bench-201 as NATS-Bench has them: ``(data set trained on, set evaluated on)``.

Its other pairs are other measurements (``cifar10-valid`` evaluated on ``ori-test``: trained on half of the images), and
keep their own names.
"""

DATASETS = ("cifar10", "cifar100", "imagenet16-120", *TASKS)

_SPLITS = {"val": "valid", "validation": "valid", "valid": "valid", "test": "test", "train": "train"}


def dataset_name(text: str) -> str:
    """Name a data set or task as tables here do: ``ImageNet16-120`` and ``CIFAR-10`` in any spelling.

    Examples:
        >>> dataset_name("ImageNet16-120"), dataset_name("CIFAR-10"), dataset_name("mine")
        ('imagenet16-120', 'cifar10', 'mine')
    """
    return {_plain(name): name for name in DATASETS}.get(_plain(text), text)


def column_name(text: str) -> str:
    """Name a column ``dataset/split/epochs``, ``task/split/measure`` or ``dataset/cost``, whatever its spelling.

    Examples:
        >>> column_name("ImageNet16-120/x-valid/200"), column_name("jigsaw/valid_top1"), column_name("CIFAR-10/FLOPs")
        ('imagenet16-120/valid/200', 'jigsaw/valid/top1', 'cifar10/flops')
    """
    dataset, *rest = text.split("/")
    measures = {measure.lower(): measure for measure in MEASURES}
    if len(rest) == 1:
        split, _, measure = rest[0].partition("_")
        if split in _SPLITS and measure.lower() in measures:
            rest = [split, measure]
    if len(rest) == 2:
        for name, pair in NATS.items():
            if (_plain(dataset), rest[0]) == (_plain(pair[0]), pair[1]):
                return f"{name}/{rest[1]}"
        rest = [_SPLITS.get(rest[0], rest[0]), measures.get(rest[1].lower(), rest[1])]
    elif len(rest) == 1 and rest[0].lower() in ("flops", "params"):
        rest = [rest[0].lower()]
    return "/".join([dataset_name(dataset), *rest])


def rename_columns(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Give the columns of a table the names that they have here; other arrays keep theirs.

    Raises:
        ValueError: if two columns are the same by different names.
    """
    out: dict[str, NDArray[Any]] = {}
    first: dict[str, str] = {}
    for name, values in arrays.items():
        new = column_name(name) if "/" in name else name
        if new in out:
            raise ValueError(f"its columns {first[new]} and {name} are the same ({new}); keep one of them")
        out[new], first[new] = values, name
    return out


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
