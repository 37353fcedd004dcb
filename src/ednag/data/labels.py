"""Labels as people store them, turned into the numbers of classes; what could mean two things is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def flat_labels(labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Give labels one value for each image.

    Args:
        labels: integers, whole floats, booleans or texts ``(n,)`` or ``(n, 1)``; or one-hot rows ``(n, K)``.
        count: number of images, ``n``.
        name: of the array, for messages.

    Returns:
        int64, or texts, ``(n,)``.

    Raises:
        ValueError: for anything else.
    """
    shape = labels.shape
    if labels.ndim == 2 and shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
        labels = labels.argmax(1)
    if labels.ndim != 1:
        raise ValueError(f"{name} must hold one label for each image, or one-hot rows; it is {labels.dtype} {shape}")
    if len(labels) != count:
        raise ValueError(f"{name} has {len(labels)} labels for {count} images")
    if labels.dtype.kind in "US":
        return as_text(labels, name)
    if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not (labels == np.floor(labels)).all()):
        raise ValueError(f"{name} must hold whole numbers or names of classes; it is {labels.dtype}{_odd(labels)}")
    if labels.dtype.kind in "uf" and len(labels) and np.abs(labels.astype(np.float64)).max() > 2**62:
        extreme = max(labels.astype(np.float64).tolist(), key=abs)
        raise ValueError(f"{name} must hold numbers of classes; one of them is {extreme:g}")
    return labels.astype(np.int64)


def as_text(labels: np.ndarray, name: str) -> np.ndarray:
    """Turn names, as texts or UTF-8 bytes, or numbers, into texts.

    Raises:
        ValueError: if bytes are not UTF-8.
    """
    if labels.dtype.kind != "S":
        return labels.astype(str)
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} holds bytes that are not UTF-8; save names as texts") from None


def number_classes(train: np.ndarray, classes: Sequence[str] | None, name: str) -> tuple[np.ndarray, list[str]]:
    """Find the classes of training labels, and their names.

    Labels may begin at any number and have gaps. Names belong to ``0 .. K - 1``, or to ``1 .. K`` where the labels are
    exactly these.

    Args:
        train: as :func:`flat_labels` returns them.
        classes: names, in the order of the labels; the labels themselves are the names if omitted.
        name: of the array of labels, for messages.

    Returns:
        the distinct labels, sorted, and the name of each.

    Raises:
        ValueError: if there are fewer than two classes, a negative label that may mean "unknown", no name for one, or one
            name for two.
    """
    values = np.unique(train)
    if len(values) < 2:
        raise ValueError(f"{name} has fewer than two classes")
    twice = [one for one, times in Counter(classes or ()).items() if times > 1]
    if twice:
        raise ValueError(f"classes has the name {twice[0]!r} twice; each class needs one of its own")
    if values.dtype.kind == "U":
        missing = sorted(set(values.tolist()) - set(classes)) if classes is not None else []
        if missing:
            raise ValueError(f"{name} has the label {missing[0]!r}, which is not in classes")
        return values, values.tolist()
    if values[0] < 0 and values.tolist() != [-1, 1]:
        raise ValueError(
            f"{name} has the label {values[0]}; leave out images without a class, and number classes from 0"
        )
    if classes is None:
        return values, [str(value) for value in values]
    first = int(values[0] == 1 and values[-1] == len(classes) == len(values))
    if values[0] < 0 or values[-1] - first >= len(classes):
        raise ValueError(
            f"classes has {len(classes)} names, but the labels of {name} go from {values[0]} to {values[-1]}"
        )
    return values, [str(classes[value - first]) for value in values]


def place_labels(labels: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """Number labels by their place among the classes, int64 ``(n,)``.

    Raises:
        ValueError: if a label is none of the classes: it can't have been learned.
    """
    unseen = np.setdiff1d(labels, values)
    if labels.dtype.kind != values.dtype.kind or len(unseen):
        shown = ", ".join(map(str, unseen[:5]))
        raise ValueError(f"{name} has labels that no training image has: {shown}; training has {len(values)} classes")
    return np.searchsorted(values, labels)


def _is_one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.astype(np.float64).sum(1) == 1).all())


def _odd(labels: np.ndarray) -> str:
    """Show the first value that is no whole number."""
    if labels.dtype.kind != "f":
        return ""
    return f" with {labels[labels != np.floor(labels)][0]:g} in it"
