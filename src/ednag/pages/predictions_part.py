"""What a network said of the test images: by class, by confidence, and the mistakes it was surest of."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from ednag.core.reading import read_npz
from ednag.pages.blocks import Block, Chart, Matrix, Section, Series, Table, Thumbnails
from ednag.pages.sources import read_json
from ednag.retraining.predictions import MISTAKES, PREDICTIONS, Predictions

BINS = 15
"""Bins of the calibration curve, as of the expected calibration error (Guo et al. 2017)."""

MOST_CLASSES = 40
"""With more classes, only those that are confused most are shown as a matrix."""

PAIRS = 12
"""Confusions that are listed."""


def predictions_section(folder: Path, data: Mapping[str, Any]) -> list[Section]:
    """Show the test predictions of a network's folder; nothing if they were not kept."""
    path = folder / PREDICTIONS
    if not path.exists():
        return []
    said, told = Predictions.load(path), read_json(folder / "architecture.json")
    names = told.get("class_names") or [str(label) for label in range(told["num_classes"])]
    counts = confusion(said, len(names))
    trained = data.get("splits", {}).get("train", {}).get("per_class", [None] * len(names))
    return [
        Section(
            "Where the best network errs",
            [_matrix(counts, names), calibration_chart(said), *_pairs(counts, names), _by_class(said, names, trained)],
        ),
        Section("Worst mistakes", _mistakes(folder / MISTAKES, said, names)),
    ]


def confusion(said: Predictions, classes: int) -> np.ndarray:
    """Count test images by true and predicted label, int64 ``(classes, classes)``, with torchmetrics."""
    labels, first = torch.from_numpy(said.labels), torch.from_numpy(said.classes[:, 0])
    counts: np.ndarray = multiclass_confusion_matrix(first, labels, classes).numpy()
    return counts


def class_accuracies(said: Predictions, classes: int) -> list[float]:
    """Share of each class's test images that is recognised, with torchmetrics; NaN for a class without images."""
    labels, first = torch.from_numpy(said.labels), torch.from_numpy(said.classes[:, 0])
    found = multiclass_accuracy(first, labels, classes, average="none")
    there = labels.bincount(minlength=classes) > 0
    return [float(value) for value in torch.where(there, found, torch.nan)]


def calibration(said: Predictions) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of test images of each bin of confidence that has any."""
    confidence, correct = said.probabilities[:, 0].astype(np.float64), said.correct
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        (float(confidence[place == i].mean()), float(correct[place == i].mean()), int((place == i).sum()))
        for i in range(BINS)
        if (place == i).any()
    ]


def calibration_chart(said: Predictions) -> Chart:
    """Accuracy against confidence."""
    bins = calibration(said)
    tips = [f"{n} images\nconfidence {c:.3f}, accuracy {a:.3f}" for c, a, n in bins]
    series = Series("", [c for c, _, _ in bins], [a for _, a, _ in bins], "line", tips)
    caption = (
        "Test images by the probability of the likeliest class. On the dotted line, probabilities mean what they say. "
        "Point to a point to see of how many images it is."
    )
    return Chart("calibration", "Calibration", "confidence", "accuracy", [series], diagonal=True, caption=caption)


def _matrix(counts: np.ndarray, names: Sequence[str]) -> Matrix:
    """The confusion matrix, of the classes that are confused most if there are many."""
    caption = "Shades are shares of a row. Blue: recognised."
    chosen = np.arange(len(names))
    if len(names) > MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        chosen = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MOST_CLASSES])
        caption += f" The {MOST_CLASSES} classes of {len(names)} that are confused most."
    picked = counts[np.ix_(chosen, chosen)].tolist()
    return Matrix("confusion", "Confusion", "true", "predicted", [names[int(i)] for i in chosen], picked, caption)


def _pairs(counts: np.ndarray, names: Sequence[str]) -> list[Block]:
    """Which classes are taken for which."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(i), len(names)) for i in order if wrong.flat[i]]
    rows = [
        [names[i], names[j], int(wrong[i, j]), round(100 * float(wrong[i, j] / counts[i].sum()), 1)] for i, j in places
    ]
    return [Table("confusions", ["true", "predicted", "images", "% of the class"], rows)] if rows else []


def _by_class(said: Predictions, names: Sequence[str], trained: Sequence[int | None]) -> Table:
    """Accuracy and number of images of each class, the worst first."""
    tested = np.bincount(said.labels, minlength=len(names)).tolist()
    rows = [
        [name, None if value != value else round(100 * value, 2), count, more]
        for name, value, count, more in zip(names, class_accuracies(said, len(names)), tested, trained, strict=True)
    ]
    rows.sort(key=lambda row: 101.0 if row[1] is None else float(str(row[1])))
    return Table("classes", ["class", "test top-1 %", "test images", "training images"], rows, "The worst class first.")


def _mistakes(path: Path, said: Predictions, names: Sequence[str]) -> list[Block]:
    """Pictures of the mistakes that the network was surest of."""
    if not path.exists():
        return []
    arrays = read_npz(path, "pictures of mistakes", "delete it to leave them out")
    found = [(int(index), _picture(arrays[str(place)])) for place, index in enumerate(arrays["images"])]
    pictures = []
    for index, picture in found:
        lines = [
            f"said {names[said.classes[index, 0]]} ({100 * said.probabilities[index, 0]:.0f} %)",
            f"is {names[said.labels[index]]}",
        ]
        pictures.append((picture, [*lines, str(said.files[index])] if len(said.files) else lines))
    caption = (
        "The test images that the best network was surest of and wrong about. `--report.images false` leaves them out."
    )
    return [Thumbnails("", pictures, caption)] if pictures else []


def _picture(pixels: np.ndarray) -> bytes:
    """Write pixels as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png")
    return stream.getvalue()
