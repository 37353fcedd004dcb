"""Predictions of test images, as files of a run. Imports no training framework."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ednag.core.reading import read_npz, reading
from ednag.core.storage import atomic_write

CURVES = "curves.csv"
"""Learning curves of a network: a row for each epoch."""

PREDICTIONS = "predictions.npz"
"""What a network said of the test images."""

MISTAKES = "mistakes.npz"
"""Small pictures of its worst mistakes."""


@dataclass(frozen=True)
class Predictions:
    """What a network said of the test images.

    Attributes:
        labels: true labels, int64 ``(n,)``.
        classes: the likeliest labels, the first foremost, int64 ``(n, k)``.
        probabilities: theirs, float32 ``(n, k)``.
        files: folder and name of each image file, ``(n,)``; empty if the images are no files.
    """

    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    files: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether the likeliest label is the true one, bool ``(n,)``."""
        right: np.ndarray = self.classes[:, 0] == self.labels
        return right

    def worst(self, most: int) -> list[int]:
        """Indices of the mistakes that the network was surest of, the surest first."""
        wrong = np.flatnonzero(~self.correct)
        order = np.argsort(-self.probabilities[wrong, 0], kind="stable")
        return [int(index) for index in wrong[order][:most]]

    def save(self, path: Path) -> None:
        """Write the predictions, atomically."""
        atomic_write(path, lambda stream: np.savez_compressed(stream, **vars(self)))

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged.
        """
        kind, remedy = "the predictions of a network", "test the network again"
        arrays = read_npz(path, kind, remedy)
        with reading(path, kind, remedy):
            return cls(**{name: arrays[name] for name in ("labels", "classes", "probabilities", "files")})
